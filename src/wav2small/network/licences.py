"""Licences from teacher to labels to weights: what may not be sold stays so, whatever is learnt from it."""

from __future__ import annotations

import re
from collections.abc import Iterable

OURS = "Apache-2.0"
"""Of our own weights, where nothing that they learnt from says otherwise."""


def joined(licences: Iterable[str]) -> str:
    """All of several, each once, as an SPDX expression: ``MIT AND CC-BY-NC-SA-4.0``."""
    parts = [part for licence in licences for part in licence.split(" AND ") if part]
    return " AND ".join(dict.fromkeys(parts))


def is_non_commercial(licence: str) -> bool:
    """Whether one of them says that it is not for sale: NC, non-commercial, research only."""
    return bool(re.search(r"\bNC\b|non-?commercial|research|academic", licence, re.IGNORECASE))


def of_weights(sources: Iterable[str]) -> str:
    """Licence of weights that were learnt from what has these licences: the non-commercial ones of them, else ours."""
    return joined(part for part in joined(sources).split(" AND ") if is_non_commercial(part)) or OURS
