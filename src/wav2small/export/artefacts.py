"""Export of safetensors weights to ONNX and int8 ONNX files, each compared with its reference.

The reference of a student that is described as a ``Network`` is in NumPy; that of any other student (MobileNet,
plug-in) is its torch module. With labelled dev segments, the CCC of each artefact is also compared with that of the
training.
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

from wav2small.errors import ManifestError, WeightsError, missing_packages
from wav2small.evaluation.predictors import model_predictor
from wav2small.evaluation.score import answer_segments
from wav2small.export.parity import Depths, compare, largest_differences
from wav2small.export.rounding import integer_form
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
"""Largest size of a file that ships in the package."""
MAX_LOSS = 0.02
"""Largest allowed loss of CCC of an artefact, per dimension."""
MAX_APART = 0.01
"""Largest allowed difference of the outputs of a static int8 file, computed in integers and in float32.

Rounding alone causes up to 0.002.
"""
SUFFIXES = {"fp32": ".onnx", "int8": "-int8.onnx"}
SHIPPED = ("name", "version", "licence", "teacher", "training_data", "ccc")
"""Metadata keys that weights need to ship."""


@dataclass(frozen=True)
class Artefact:
    """A written ONNX file.

    Attributes:
        path: the file
        precision: ``fp32`` or ``int8``
        bytes: size of the file
        sha256: of the file
        errors: largest differences from the reference
        ccc: CCC on the dev segments, if there were any
        licence: licences of the weights and of their teachers
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
    """A student to export.

    Attributes:
        arrays: weights by name
        stored: metadata of the weights file
        described: metadata derived from the network
        forms: builds the ONNX model of each precision, with its largest differences from the reference
    """

    arrays: Arrays
    stored: dict[str, str]
    described: dict[str, str]
    forms: Callable[[], dict[str, tuple[Any, Depths]]]


def student(weights: str | Path) -> Student:
    """Load the student of a safetensors file: a ``Network``, or an installed torch student.

    Raises:
        WeightsError: if the weights are not those of the student
        PluginError: if no student of that name is installed
        MissingExtraError: if the student needs torch, which is not installed
    """
    arrays, stored = read_safetensors(weights)
    if NETWORK in stored:
        arrays, stored, network = reference.load_student(weights)
        if network.integers and not network.trained_int8:
            raise WeightsError(
                f"{weights}: {network.name} has no ONNX form; export the float32 weights that it was quantised from"
            )
        return Student(arrays, stored, network_metadata(network), lambda: compared(arrays, network))
    from wav2small.train import check_extra

    check_extra()
    try:
        from wav2small.export import from_torch
        from wav2small.train.students import described, from_arrays
    except ModuleNotFoundError as error:
        raise missing_packages("export", [error.name], "wav2small[train]") from None
    name = stored.get("student", "distilhubert")
    net = from_torch.plain(from_arrays(arrays, described(stored, str(weights)), f"{weights}, student {name}"))
    return Student(arrays, stored, from_torch.network_metadata(net, name), lambda: from_torch.forms(net, name))


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

    Weights of ``micro`` give ``NAME.onnx`` only. The quantisation-aware trained ``micro-int8`` gives ``NAME-int8.onnx``
    and ``NAME-int8.safetensors``, the integers for the C runtime.

    Args:
        weights: safetensors file of a student
        folder: output folder; created if missing
        name: name of the artefacts; None takes it from the metadata, else from the file name
        version: version of the artefacts; None takes it from the metadata
        extra: metadata that is added or replaced; ``ccc`` is JSON
        dev: labelled segments of dev speakers; no artefact may lose more than ``MAX_LOSS`` of the training's CCC
        calibration: segments of speech that set the scales of a static int8 form, which is checked by CCC only

    Returns:
        one artefact per written ONNX file

    Raises:
        WeightsError: if the weights are not those of a student, an artefact differs from the reference by more than
            ``parity.TOLERANCES`` or loses too much CCC, or the output of a static int8 form depends on the CPU or on
            ONNX Runtime's optimisations
        ManifestError: if a segment of ``dev`` has no label, or ``calibration`` contains no speech
        PluginError: if the student of the metadata is not installed
        MissingExtraError: if a required package is not installed
    """
    source = student(weights)
    given = source.stored | dict(extra or {})
    metadata = completed(given, name or given.get("name") or Path(weights).stem, version, source.described)
    contents, errors = {}, {}
    if calibration and not dev:
        raise WeightsError(f"{weights}: a static int8 form is checked by its CCC; give labels of dev speakers")
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
        ccc[precision] = check_artefact(content, f"{weights}, {precision}", source.stored, dev, is_static)
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
        raise WeightsError(f"{source}: the weights are integers already and need no calibration; leave it out")
    model = forms["fp32"][0]
    small = static_int8(model, segments, min_length, source)
    return small, largest_differences(small, model, min_length)


def check_artefact(
    content: bytes, source: str, stored: Mapping[str, str], dev: Sequence[Segment], is_static: bool = False
) -> Emotion:
    """CCC of an ONNX file on labelled segments, after a comparison with the CCC of the training.

    A static int8 file is checked with ONNX Runtime's optimisations (integer kernels) and without (float32).

    Args:
        content: of the ONNX file
        source: its name, for error messages
        stored: metadata of the weights, with ``dev_ccc``
        dev: labelled segments
        is_static: whether the file is a static int8 form

    Raises:
        WeightsError: if the CCC is lower by more than ``MAX_LOSS``, the metadata have no ``dev_ccc``, or the outputs of
            a static file differ by more than ``MAX_APART``
        ManifestError: if a segment has no label or cannot be read
    """
    if not stored.get("dev_ccc"):
        raise WeightsError(f"{source}: the metadata have no dev_ccc to compare with; train writes it")
    predicted = predict(Model(*open_onnx_bytes(content, source)), dev)
    if not is_static:
        return check_ccc(predicted, source, stored, dev)
    plain = predict(Model(*open_onnx_bytes(content, source, optimised=False)), dev)
    check_agreement(predicted, plain, source)
    ccc = check_ccc(predicted, source, stored, dev)
    check_ccc(plain, f"{source} without optimisations", stored, dev)
    return ccc


def predict(model: Model, dev: Sequence[Segment]) -> np.ndarray:
    """Predicted A/D/V of labelled segments, shape=(segments, 3)."""
    rows = []
    for segment, answer in zip(dev, answer_segments(dev, model_predictor(model)), strict=True):
        if segment.emotion is None or answer.emotion is None:
            raise ManifestError(answer.detail or f"{segment.file}: has no label. Label it first: wav2small label.")
        rows.append(answer.emotion)
    return np.array(rows)


def check_agreement(predicted: np.ndarray, plain: np.ndarray, source: str) -> None:
    """Reject predictions that differ by more than ``MAX_APART`` without ONNX Runtime's optimisations.

    Args:
        predicted: with optimisations, shape=(segments, 3)
        plain: without, shape=(segments, 3)
        source: name of the artefact, for error messages

    Raises:
        WeightsError: if they differ more
    """
    largest = float(np.abs(predicted - plain).max(initial=0))
    if not largest <= MAX_APART:
        raise WeightsError(
            f"{source}: predictions differ by {largest:.3f} with ONNX Runtime's optimisations and without, allowed "
            f"{MAX_APART}; nothing was written; leave out --calibrate for an int8 file that computes in float32"
        )


def check_ccc(predicted: np.ndarray, source: str, stored: Mapping[str, str], dev: Sequence[Segment]) -> Emotion:
    """CCC of predictions (segments, 3) within each corpus.

    Raises:
        WeightsError: if it is lower than the training's by more than ``MAX_LOSS``
    """
    truth = np.array([segment.emotion for segment in dev])
    within = partial(mean_within, concordance_cc, groups=[segment.column("corpus") for segment in dev])
    ccc = Emotion(*map(within, truth.T, predicted.T))
    for name, before in json.loads(stored["dev_ccc"]).items():
        if not getattr(ccc, name) >= before - MAX_LOSS:
            raise WeightsError(
                f"{source}: CCC of {name} on the dev segments is {getattr(ccc, name):.3f}, and was {before:.3f} in "
                f"training; the largest allowed loss is {MAX_LOSS}; nothing was written"
            )
    return ccc


def ship(
    weights: str | Path,
    name: str | None = None,
    version: str | None = None,
    extra: Mapping[str, str] | None = None,
    folder: Path = DATA,
) -> list[Artefact]:
    """Export into the package's data folder, with the arrays as safetensors, and update the index.

    Files larger than ``MAX_SHIPPED_BYTES`` are removed; a MobileNet ships in int8 only.

    Args:
        weights: safetensors file of a student
        name: as in :func:`export`
        version: as in :func:`export`
        extra: as in :func:`export`
        folder: the data folder

    Returns:
        one artefact per ONNX file that ships

    Raises:
        WeightsError: as :func:`export`, if a metadata key of ``SHIPPED`` is missing, or no file is small enough
    """
    source = student(weights)
    metadata = source.stored | dict(extra or {})
    metadata |= {key: value for key, value in (("name", name), ("version", version)) if value}
    missing = [key for key in SHIPPED if not metadata.get(key)]
    if missing:
        raise WeightsError(f"{weights}: metadata are missing: {', '.join(missing)}; add --metadata KEY=VALUE")
    artefacts = export(weights, folder, extra=metadata)
    metadata = completed(metadata, metadata["name"], None, source.described)
    if "fp32" in {artefact.precision for artefact in artefacts}:
        path = folder / f"{metadata['name']}.safetensors"
        write_safetensors(path, source.arrays, metadata | {"precision": "fp32"})
        drop_large(path)
    small = [artefact for artefact in artefacts if not drop_large(artefact.path)]
    write_index(folder)
    if not small:
        raise WeightsError(f"{weights}: every artefact is larger than {MAX_SHIPPED_BYTES} bytes; give a folder with -o")
    return small


def export_integers(
    weights: str | Path,
    speech: Sequence[Segment],
    folder: str | Path | None = None,
    name: str | None = None,
    version: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Write ``NAME-int8.safetensors``: a student in integer arithmetic, by post-training quantisation.

    Args:
        weights: safetensors file of a student in floats that pools tokens
        speech: segments that set the scale of each layer
        folder: output folder, created if missing; None is the package's data folder, whose index is updated
        name: as in :func:`export`
        version: as in :func:`export`
        extra: as in :func:`export`

    Returns:
        path of the file

    Raises:
        WeightsError: if the student has no integer form
        ManifestError: if the segments contain no speech
    """
    arrays, stored, network = integer_form(weights, speech)
    given = stored | dict(extra or {})
    metadata = completed(given, name or given.get("name") or Path(weights).stem, version, network_metadata(network))
    path = Path(DATA if folder is None else folder) / f"{metadata['name']}-int8.safetensors"
    make_folder(path.parent)
    write_safetensors(path, arrays, metadata)
    if folder is None:
        write_index()
    return path


def drop_large(path: Path) -> bool:
    """Remove a file that is too large to ship; return whether it was removed."""
    if is_large := path.stat().st_size > MAX_SHIPPED_BYTES:
        path.unlink()
    return is_large


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if missing.

    Raises:
        WeightsError: if that fails
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be created ({error.strerror}); give another folder") from None


def network_metadata(network: Network) -> dict[str, str]:
    """Metadata of artefacts that are derived from the network."""
    return {
        NETWORK: network.to_json(),
        "student": network.name,
        "normalisation": network.normalisation,
        "min_length": str(network.frontend.win_length),
        "parameters": str(network.num_parameters()),
        "trained_parameters": str(network.num_trained()),
    }


def completed(
    metadata: Mapping[str, str], name: str, version: str | None, described: Mapping[str, str]
) -> dict[str, str]:
    """Metadata with all keys that an artefact needs.

    Args:
        metadata: from the weights file and the user
        name: name of the artefact, a valid file name
        version: version of the artefact; None keeps that of ``metadata``
        described: metadata derived from the network

    Raises:
        WeightsError: if ``ccc`` is not JSON or the name is not valid
    """
    given = dict(metadata) | {"name": name} | ({"version": version} if version else {})
    try:
        json.loads(given.setdefault("ccc", "{}"))
    except ValueError:
        raise WeightsError(f"metadata ccc is {given['ccc']!r}, which is not JSON; give an object of numbers") from None
    if "/" in name or "\\" in name or name.startswith("."):
        raise WeightsError(f"name is {name!r}; it becomes a file name: give one without / and \\ and no leading dot")
    for key in SHIPPED:
        given.setdefault(key, "")
    return given | {"sampling_rate": str(SAMPLING_RATE), "outputs": ",".join(OUTPUTS)} | dict(described)


def compared(arrays: Arrays, network: Network) -> dict[str, tuple[Any, Depths]]:
    """The ONNX model of each precision, with its largest differences from the reference."""
    models = graphs(arrays, network)
    return {precision: (model, compare(model, arrays, precision, network)) for precision, model in models.items()}


def graphs(arrays: Arrays, network: Network) -> dict[str, Any]:
    """The ONNX model of each precision, without metadata."""
    try:
        from wav2small.export import onnx_graph
    except ModuleNotFoundError as error:
        raise missing_packages("export", [error.name], "wav2small[train]") from None
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
    """Write ``index.json`` from the weights files in the folder."""
    files = sorted([*folder.glob("*.onnx"), *folder.glob("*.safetensors")])
    rows = sorted((index_row(path) for path in files), key=lambda row: (row["name"], row["file"]))
    with whole_file(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def index_row(path: Path) -> dict[str, Any]:
    """One row of the index, from the metadata of a file."""
    if path.suffix == ".onnx":
        metadata = session(path.read_bytes(), str(path)).get_modelmeta().custom_metadata_map
    else:
        arrays, metadata = read_safetensors(path)
        metadata.setdefault("parameters", str(sum(array.size for array in arrays.values())))
    missing = [key for key in (*SHIPPED, "parameters") if key not in metadata]
    if missing:
        raise WeightsError(f"{path}: metadata are missing: {', '.join(missing)}; export it again with them")
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
