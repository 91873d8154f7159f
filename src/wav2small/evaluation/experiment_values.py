"""Checked values of the file of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from wav2small.errors import Wav2SmallError

Config = TypeVar("Config")
NEVER_0 = ("epochs", "steps", "batch_size", "max_dur")
"""Settings that must be above 0."""


def check_keys(given: Mapping[str, Any], needed: Sequence[str], optional: Sequence[str], where: str) -> None:
    """Check that a table has the needed keys and no unknown ones.

    Raises:
        Wav2SmallError: if it does not
    """
    if missing := [key for key in needed if key not in given]:
        raise Wav2SmallError(f"{where}: {', '.join(missing)} is missing. Needed: {', '.join(needed)}.")
    if unknown := [key for key in given if key not in (*needed, *optional)]:
        raise Wav2SmallError(f"{where}: unknown key {unknown[0]}. Known: {', '.join((*needed, *optional))}.")


def as_list(value: Any) -> list[Any]:
    """One value or several."""
    return value if isinstance(value, list) else [value]


def as_names(value: Any, where: str) -> list[str]:
    """A name or several."""
    return [as_name(one, where) for one in as_list(value)]


def as_name(value: Any, where: str) -> str:
    """A text that is not empty.

    Raises:
        Wav2SmallError: if it is something else
    """
    if not isinstance(value, str) or not value:
        raise Wav2SmallError(f"{where} is {value!r}. Give a name in quotes.")
    return value


def one_of(given: Mapping[str, Any], key: str, allowed: Sequence[str], default: str, where: str) -> str:
    """The value of a key that names one of several.

    Raises:
        Wav2SmallError: if it does not
    """
    value = given.get(key, default)
    if value not in allowed:
        raise Wav2SmallError(f"{where}: {key} is {value!r}. Allowed: {', '.join(allowed)}.")
    return str(value)


def beside(name: str, folder: Path) -> str:
    """A file or folder beside the experiment's file by its path; another name as it is."""
    return str(folder / name) if (folder / name).exists() else name


def as_settings(given: Mapping[str, Any], default: Config, where: str) -> Config:
    """A dataclass of numbers with the values of a table; keys that are not among its fields are ignored.

    Args:
        given: the table
        default: the dataclass with its defaults
        where: of the table, for error messages

    Raises:
        Wav2SmallError: if a value is not a number that is allowed
    """
    kinds = {field.name: type(field.default) for field in fields(default)}  # type: ignore[arg-type]
    settings = {key: given[key] for key in given if key in kinds}
    for key, setting in settings.items():
        is_number = isinstance(setting, (int, kinds[key])) and not isinstance(setting, bool)
        if not is_number or setting < 0 or (setting == 0 and key in NEVER_0):
            raise Wav2SmallError(f"{where}: {key} is {setting!r}. Needed: a number, as {getattr(default, key)}.")
    return replace(default, **settings)  # type: ignore[type-var]
