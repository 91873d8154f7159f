"""A Hugging Face dataset that ``save_to_disk`` wrote, or the object itself: its audio is unpacked. Extra ``datasets``.

The audio is the one column with the feature Audio; every other column that is a number or a text is kept, and a
ClassLabel by its name. The names of a DatasetDict are the splits.
Source: huggingface.co/docs/datasets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wav2small.corpora import Corpus
from wav2small.corpora.columns import write_audio
from wav2small.errors import ManifestError, MissingExtraError
from wav2small.tables.manifest import read_manifest


def unpack(root: Path, folder: Path) -> None:
    """Write the audio of a saved dataset into a folder."""
    datasets = _datasets()
    try:
        dataset = datasets.load_from_disk(str(root))
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ManifestError(f"{root}: is not what save_to_disk writes ({str(error).splitlines()[0]}).") from None
    unpack_dataset(dataset, folder)


def unpack_dataset(dataset: Any, folder: str | Path) -> None:
    """Write the audio of a Dataset or DatasetDict into a folder, which then is a manifest for every command.

    Raises:
        ManifestError: if it has not exactly one column of audio, or no rows
        MissingExtraError: if the package is missing
    """
    datasets = _datasets()
    parts = dict(dataset) if isinstance(dataset, datasets.DatasetDict) else {"": dataset}
    examples = (example for split, part in parts.items() for example in _examples(part, split, datasets))
    write_audio(examples, Path(folder), Path("dataset"))


def _examples(dataset: Any, split: str, datasets: Any) -> Iterator[tuple[str, bytes, dict[str, object]]]:
    features = dataset.features
    sounds = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    if len(sounds) != 1:
        found = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise ManifestError(
            f"the dataset has {len(sounds)} columns of audio. Needed: one, of feature Audio; it has {found}."
        )
    (sound,) = sounds
    for number, row in enumerate(dataset.cast_column(sound, datasets.Audio(decode=False))):
        name, content = _file(row[sound], number)
        columns = {
            column: features[column].int2str(value) if isinstance(features[column], datasets.ClassLabel) else value
            for column, value in row.items()
            if isinstance(value, (str, int, float, bool))
        }
        yield f"{split}/{name}".lstrip("/"), content, columns | ({"split": split} if split else {})


def _file(audio: dict[str, Any], number: int) -> tuple[str, bytes]:
    """A name that no other row has, and the bytes."""
    path = Path(audio["path"] or "audio.wav")
    content = audio["bytes"]
    if content is None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ManifestError(
                f"{path}: the dataset names this file, which cannot be read: {error.strerror}."
            ) from None
    return f"{number:06}-{path.name}", content


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("this needs datasets, which is not here: pip install 'wav2small[datasets]'") from None
    return datasets


DATASETS = Corpus(
    title="a Hugging Face dataset that save_to_disk wrote",
    annotation="its own columns; A/D/V, 0 to 1",
    splits="its own, or by speaker",
    licence="its owner's",
    source="yours",
    read=read_manifest,
    unpack=unpack,
)
