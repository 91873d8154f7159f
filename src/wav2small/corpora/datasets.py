"""A Hugging Face dataset, saved by ``save_to_disk`` or in memory; its audio is extracted. Extra ``datasets``.

The audio is the single column with the feature Audio. Columns of numbers and text are kept, and a ClassLabel is
converted to its name. The keys of a DatasetDict are the splits.
Source: huggingface.co/docs/datasets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wav2small.corpora import Corpus
from wav2small.corpora.columns import write_audio
from wav2small.errors import ManifestError, missing_packages
from wav2small.tables.manifest import read_manifest


def unpack(root: Path, folder: Path) -> None:
    """Write the audio of a saved dataset into a folder.

    Raises:
        ManifestError: if the folder is not a saved dataset, or its audio cannot be read
        MissingExtraError: if the package datasets is not installed
    """
    datasets = _datasets()
    try:
        dataset = datasets.load_from_disk(str(root))
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ManifestError(f"{root}: not a dataset saved by save_to_disk ({str(error).splitlines()[0]}).") from None
    unpack_dataset(dataset, folder)


def unpack_dataset(dataset: Any, folder: str | Path) -> None:
    """Write the audio of a Dataset or DatasetDict into a folder with a manifest, which every command accepts.

    Args:
        dataset: datasets.Dataset or datasets.DatasetDict
        folder: output folder

    Raises:
        ManifestError: if it does not have exactly one column of audio, or has no rows
        MissingExtraError: if the package datasets is not installed
    """
    datasets = _datasets()
    parts = dict(dataset) if isinstance(dataset, datasets.DatasetDict) else {"": dataset}
    examples = (example for split, part in parts.items() for example in _examples(part, split, datasets))
    write_audio(examples, Path(folder), Path("dataset"))


def _examples(dataset: Any, split: str, datasets: Any) -> Iterator[tuple[str, bytes, dict[str, object]]]:
    features = dataset.features
    sounds = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    if len(sounds) != 1:
        present = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise ManifestError(
            f"the dataset has {len(sounds)} columns of audio. Needed: one, with feature Audio; it has {present}."
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
    """A unique file name, and the content of the file."""
    path = Path(audio["path"] or "audio.wav")
    content = audio["bytes"]
    if content is None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ManifestError(
                f"{path}: the dataset refers to this file, which cannot be read: {error.strerror}."
            ) from None
    return f"{number:06}-{path.name}", content


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise missing_packages("this", ["datasets"], "wav2small[datasets]") from None
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
