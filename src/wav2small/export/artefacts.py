"""Weights to what runs them: safetensors in, ONNX and int8 ONNX out, each compared with its reference or refused.

The reference of a student of ours is in NumPy; that of any other, a MobileNet or a plug-in, is its network in torch.
With the labels of the dev speakers an artefact is held to the CCC that its training had there, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wav2small.errors import ManifestError, MissingExtraError, WeightsError
from wav2small.evaluation.predictors import model_predictor
from wav2small.evaluation.score import answer_segments
from wav2small.export.parity import Depths, apart, compare
from wav2small.export.rounding import rounded
from wav2small.files import whole_file
from wav2small.metrics import concordance_cc, mean_within
from wav2small.network import fixed_point, reference
from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion, Network
from wav2small.network.licences import joined
from wav2small.network.weights import DATA, INDEX, NETWORK, Arrays, read_safetensors, sha256, write_safetensors
from wav2small.runtime.backends import open_onnx_bytes
from wav2small.runtime.model import Model
from wav2small.session import session
from wav2small.tables.manifest import Segment

MAX_SHIPPED_BYTES = 5_000_000
"""Of a file in the package."""
MAX_LOSS = 0.02
"""Of CCC, what an artefact may lose in a dimension."""
MAX_APART = 0.01
"""Of an answer, between a static int8 file computed in integers and in float32; rounding alone gives up to 0.002."""
SUFFIXES = {"fp32": ".onnx", "int8": "-int8.onnx"}
SHIPPED = ("name", "version", "licence", "teacher", "training_data", "ccc")
"""What the metadata of weights that ship must say."""


@dataclass(frozen=True)
class Artefact:
    """A file that was written, its largest differences from the reference, its CCC on dev speakers if asked for.

    ``licence`` is that of the weights and of the teachers that they learnt from.
    """

    path: Path
    precision: str
    bytes: int
    sha256: str
    errors: Depths
    ccc: Emotion | None = None
    licence: str = ""


@dataclass(frozen=True)
class Student:
    """A student to export: its arrays and metadata, what the artefacts say about it, and what makes them.

    ``forms`` answers the ONNX model of each precision, and its largest differences from the reference.
    """

    arrays: Arrays
    stored: dict[str, str]
    facts: dict[str, str]
    forms: Callable[[], dict[str, tuple[Any, Depths]]]


def student(weights: str | Path) -> Student:
    """The student of a safetensors file, which its metadata name: one with a reference here, or any that is installed.

    Raises:
        WeightsError: if the weights are not that student's
        PluginError: if there is no such student
        MissingExtraError: if it is made by torch, which is not installed
    """
    arrays, stored = read_safetensors(weights)
    if NETWORK in stored:
        arrays, stored, network = reference.load_student(weights)
        if network.integers and not network.trained_int8:
            raise WeightsError(
                f"{weights}: {network.name} has no ONNX form; export the weights that it was rounded from"
            )
        return Student(arrays, stored, facts(network), lambda: compared(arrays, network))
    from wav2small.train import check_extra

    check_extra()
    try:
        from wav2small.export import from_torch
        from wav2small.train.students import described, from_arrays
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"export needs the package {error.name}: pip install 'wav2small[train]'") from None
    name = str(described(stored, str(weights)))
    net = from_arrays(arrays, name, f"{weights}, student {name}")
    return Student(arrays, stored, from_torch.facts(net, name), lambda: from_torch.forms(net, name))


def export(
    weights: str | Path,
    folder: str | Path,
    name: str | None = None,
    version: str | None = None,
    extra: Mapping[str, str] | None = None,
    dev: Sequence[Segment] = (),
    calibration: Sequence[Segment] = (),
) -> list[Artefact]:
    """Write ``NAME.onnx`` and ``NAME-int8.onnx``: both, or none.

    ``micro`` has its eight bits by training: its weights give ``NAME.onnx`` alone, and those of ``micro-int8`` give
    ``NAME-int8.onnx`` and the integers that a C runtime reads, ``NAME-int8.safetensors``.

    Args:
        weights: a student's safetensors file
        folder: made if it is not there
        name: else that of the metadata, else the name of the file without its suffix
        version: else that of the metadata
        extra: more metadata, or other than in the file; ``ccc`` is JSON
        dev: with the labels that the training chose by: no artefact may lose more than ``MAX_LOSS`` of its CCC on them
        calibration: speech that sets the scales of a static int8 form, which is held to that CCC alone

    Raises:
        WeightsError: if the weights are not a student's, an artefact differs from the reference by more than
            ``parity.TOLERANCES`` or loses too much CCC, or a static int8 form depends on the CPU or on ONNX Runtime's
            optimisations
        ManifestError: if a segment of ``dev`` has no label, or there is no speech in ``calibration``
        PluginError: if the student of the metadata is not installed
        MissingExtraError: if a package that it needs is not installed
    """
    source = student(weights)
    given = source.stored | dict(extra or {})
    metadata = completed(given, name or given.get("name") or Path(weights).stem, version, source.facts)
    contents, errors = {}, {}
    if calibration and not dev:
        raise WeightsError(f"{weights}: a static int8 form is held to its CCC alone; give labels of dev speakers")
    forms = source.forms()
    if calibration:
        forms["int8"] = static_form(forms, calibration, int(metadata["min_length"]), str(weights))
    for precision, (model, differences) in forms.items():
        describe(model, metadata | {"precision": precision})
        errors[precision] = differences
        contents[precision] = model.SerializeToString()
    ccc: dict[str, Emotion] = {}
    for precision, content in contents.items() if dev else ():
        is_static = precision == "int8" and bool(calibration)
        ccc[precision] = kept(content, f"{weights}, {precision}", source.stored, dev, is_static)
    make_folder(Path(folder))
    licence = joined([metadata["licence"], metadata.get("teacher_licence", "")])
    paths = {precision: Path(folder) / f"{metadata['name']}{SUFFIXES[precision]}" for precision in contents}
    with ExitStack() as stack:
        for precision, content in contents.items():
            stack.enter_context(whole_file(paths[precision])).write_bytes(content)
    if "fp32" not in contents:
        write_safetensors(paths["int8"].with_suffix(".safetensors"), source.arrays, metadata | {"precision": "int8"})
    return [
        Artefact(
            path, precision, len(contents[precision]), sha256(path), errors[precision], ccc.get(precision), licence
        )
        for precision, path in paths.items()
    ]


def static_form(
    forms: Mapping[str, tuple[Any, Depths]], segments: Sequence[Segment], min_length: int, source: str
) -> tuple[Any, Depths]:
    """The static int8 form of the float32 model, and its largest differences from it."""
    from wav2small.export.static_int8 import static_int8

    if "fp32" not in forms:
        raise WeightsError(f"{source}: are integers by training and need no calibration; leave it out")
    model = forms["fp32"][0]
    small = static_int8(model, segments, min_length, source)
    return small, apart(small, model, min_length)


def kept(
    content: bytes, source: str, stored: Mapping[str, str], dev: Sequence[Segment], is_static: bool = False
) -> Emotion:
    """CCC of an ONNX file on labelled segments, if it is not less than its training had there.

    A static int8 file keeps it with ONNX Runtime's optimisations, which make its kernels integer, and without, and its
    answers agree.

    Raises:
        WeightsError: if it is less by more than ``MAX_LOSS``, the weights do not say what it was, or a static file's
            answers differ by more than ``MAX_APART``
        ManifestError: if a segment has no label or cannot be read
    """
    if not stored.get("dev_ccc"):
        raise WeightsError(f"{source}: the weights have no dev_ccc, so there is none to keep; train writes it")
    found = answers(Model(*open_onnx_bytes(content, source)), dev)
    if not is_static:
        return check_ccc(found, source, stored, dev)
    plain = answers(Model(*open_onnx_bytes(content, source, optimised=False)), dev)
    check_agreement(found, plain, source)
    ccc = check_ccc(found, source, stored, dev)
    check_ccc(plain, f"{source} without optimisations", stored, dev)
    return ccc


def answers(model: Model, dev: Sequence[Segment]) -> np.ndarray:
    """Emotions of labelled segments, shape=(segments, 3)."""
    rows = []
    for segment, answer in zip(dev, answer_segments(dev, model_predictor(model)), strict=True):
        if segment.emotion is None or answer.emotion is None:
            raise ManifestError(answer.detail or f"{segment.file}: has no label. Label it first: wav2small label.")
        rows.append(answer.emotion)
    return np.array(rows)


def check_agreement(found: np.ndarray, plain: np.ndarray, source: str) -> None:
    """Refuse answers that depend on ONNX Runtime's optimisations by more than ``MAX_APART``."""
    largest = float(np.abs(found - plain).max(initial=0))
    if not largest <= MAX_APART:
        raise WeightsError(
            f"{source}: answers differ by {largest:.3f} with ONNX Runtime's optimisations and without, allowed "
            f"{MAX_APART}; nothing was written; leave out --calibrate for an int8 file that computes in float32"
        )


def check_ccc(found: np.ndarray, source: str, stored: Mapping[str, str], dev: Sequence[Segment]) -> Emotion:
    """CCC of answers (segments, 3) within each corpus, if it is at most ``MAX_LOSS`` less than training had."""
    truth = np.array([segment.emotion for segment in dev])
    within = partial(mean_within, concordance_cc, groups=[segment.column("corpus") for segment in dev])
    ccc = Emotion(*map(within, truth.T, found.T))
    for name, before in json.loads(stored["dev_ccc"]).items():
        if not getattr(ccc, name) >= before - MAX_LOSS:
            raise WeightsError(
                f"{source}: CCC of {name} on the dev segments is {getattr(ccc, name):.3f}, and was {before:.3f} in "
                f"training; at most {MAX_LOSS} may be lost; nothing was written"
            )
    return ccc


def ship(
    weights: str | Path,
    name: str | None = None,
    version: str | None = None,
    extra: Mapping[str, str] | None = None,
    folder: Path = DATA,
) -> list[Artefact]:
    """Export into the package's own folder, with the arrays beside, and write its index again.

    A file of more than ``MAX_SHIPPED_BYTES`` is not kept: a MobileNet ships in int8 alone, if at all.

    Raises:
        WeightsError: as :func:`export`, if the metadata does not say whose weights they are, or nothing is small enough
    """
    source = student(weights)
    metadata = source.stored | dict(extra or {})
    metadata |= {key: value for key, value in (("name", name), ("version", version)) if value}
    missing = [key for key in SHIPPED if not metadata.get(key)]
    if missing:
        raise WeightsError(f"{weights}: what ships must say its {', '.join(missing)}; add --metadata KEY=VALUE")
    artefacts = export(weights, folder, extra=metadata)
    metadata = completed(metadata, metadata["name"], None, source.facts)
    if "fp32" in {artefact.precision for artefact in artefacts}:
        path = folder / f"{metadata['name']}.safetensors"
        write_safetensors(path, source.arrays, metadata | {"precision": "fp32"})
        drop_large(path)
    small = [artefact for artefact in artefacts if not drop_large(artefact.path)]
    write_index(folder)
    if not small:
        raise WeightsError(f"{weights}: no artefact has {MAX_SHIPPED_BYTES} bytes or less; give a folder with -o")
    return small


def export_integers(
    weights: str | Path,
    speech: Sequence[Segment],
    folder: str | Path | None = None,
    name: str | None = None,
    version: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Write ``NAME-int8.safetensors``: a student in whole numbers, rounded and not trained.

    Args:
        weights: safetensors of ``wav2small`` or ``wav2small-running``
        speech: sets the range of each layer
        folder: made if it is not there; None is the package's own, whose index is written again
        name: else that of the metadata, else the name of the file without its suffix
        version: else that of the metadata
        extra: more metadata, or other than in the file

    Raises:
        WeightsError: if there is no such form of the student
        ManifestError: if there is no speech
    """
    arrays, stored, network = rounded(weights, speech)
    given = stored | dict(extra or {})
    metadata = completed(given, name or given.get("name") or Path(weights).stem, version, facts(network))
    path = Path(DATA if folder is None else folder) / f"{metadata['name']}-int8.safetensors"
    make_folder(path.parent)
    write_safetensors(path, arrays, metadata)
    if folder is None:
        write_index()
    return path


def drop_large(path: Path) -> bool:
    """Remove a file that is too large to ship; whether it was."""
    if is_large := path.stat().st_size > MAX_SHIPPED_BYTES:
        path.unlink()
    return is_large


def make_folder(folder: Path) -> None:
    """Create a folder and its parents where they do not exist yet; raise WeightsError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be made ({error.strerror}); give another folder") from None


def facts(network: Network) -> dict[str, str]:
    """What the metadata say about a network that is data."""
    return {
        NETWORK: network.to_json(),
        "student": network.name,
        "normalisation": network.normalisation,
        "min_length": str(network.frontend.win_length),
        "parameters": str(network.num_parameters()),
        "trained_parameters": str(network.num_trained()),
    }


def completed(metadata: Mapping[str, str], name: str, version: str | None, facts: Mapping[str, str]) -> dict[str, str]:
    """Metadata with what every artefact must say."""
    given = dict(metadata) | {"name": name} | ({"version": version} if version else {})
    try:
        json.loads(given.setdefault("ccc", "{}"))
    except ValueError:
        raise WeightsError(f"metadata ccc is {given['ccc']!r}, which is not JSON; give an object of numbers") from None
    if "/" in name or "\\" in name or name.startswith("."):
        raise WeightsError(f"name is {name!r}; it becomes a file name: give one without / and \\, not starting with .")
    for key in SHIPPED:
        given.setdefault(key, "")
    return given | {"sampling_rate": str(SAMPLING_RATE), "outputs": ",".join(OUTPUTS)} | dict(facts)


def compared(arrays: Arrays, network: Network) -> dict[str, tuple[Any, Depths]]:
    """The ONNX model of each precision, and its largest differences from the reference."""
    models = graphs(arrays, network)
    return {precision: (model, compare(model, arrays, precision, network)) for precision, model in models.items()}


def graphs(arrays: Arrays, network: Network) -> dict[str, Any]:
    """The ONNX model of each precision, without metadata."""
    try:
        from wav2small.export import onnx_graph
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"export needs the package {error.name}: pip install 'wav2small[train]'") from None
    if network.integers:
        floats, factors = fixed_point.to_floats(arrays, network)
        return {"int8": onnx_graph.quantise(onnx_graph.build(floats, network), factors)}
    model = onnx_graph.build(arrays, network)
    return {"fp32": model} if network.trained_int8 else {"fp32": model, "int8": onnx_graph.quantise(model)}


def describe(model: Any, metadata: Mapping[str, str]) -> None:
    """Write metadata into an ONNX model."""
    from onnx import helper

    helper.set_model_props(model, dict(sorted(metadata.items())))


def write_index(folder: Path = DATA) -> None:
    """Write ``index.json`` again, from the files that are in the folder."""
    files = sorted([*folder.glob("*.onnx"), *folder.glob("*.safetensors")])
    rows = sorted((index_row(path) for path in files), key=lambda row: (row["name"], row["file"]))
    with whole_file(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def index_row(path: Path) -> dict[str, Any]:
    """One row of the index, from the metadata inside a file."""
    if path.suffix == ".onnx":
        metadata = session(path.read_bytes(), str(path)).get_modelmeta().custom_metadata_map
    else:
        arrays, metadata = read_safetensors(path)
        metadata.setdefault("parameters", str(sum(array.size for array in arrays.values())))
    missing = [key for key in (*SHIPPED, "parameters") if key not in metadata]
    if missing:
        raise WeightsError(f"{path}: its metadata does not say its {', '.join(missing)}; write it again with them")
    return {
        "name": metadata["name"],
        "version": metadata["version"],
        "precision": metadata.get("precision", "fp32"),
        "parameters": int(metadata["parameters"]),
        "bytes": path.stat().st_size,
        "licence": metadata["licence"],
        "teacher": metadata["teacher"],
        "training_data": metadata["training_data"],
        "ccc": json.loads(metadata["ccc"]),
        "network": json.loads(metadata[NETWORK]) if NETWORK in metadata else None,
        "file": path.name,
        "sha256": sha256(path),
    }
