"""What a model costs on this machine, beside how good it is: size, MACs, memory, time, and CCC. See docs/bench.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import wav2small
from wav2small.errors import Wav2SmallError, WeightsError, missing_packages
from wav2small.evaluation.macs import COUNTED_DUR, count_macs, measured, tokens_per_second
from wav2small.evaluation.score import Answer, Signal, answer_segments, evaluate, tidy
from wav2small.files import whole_file
from wav2small.network.config import OUTPUTS, SAMPLING_RATE, Emotion
from wav2small.network.probes import voice
from wav2small.network.weights import PRECISIONS, present, read_index, resolve, sha256, split_precision
from wav2small.runtime.model import load, locate
from wav2small.tables.manifest import Segment, load_norms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DURATIONS = (1, 5, 10, 60)
"""Seconds of the signals that are timed."""
RUNS = 30
LOADS = 3
"""Times a file is loaded for its median, after a first one that imports the runtime."""
PLOTTED = "arousal"
LEGEND_AREA = 40
LARGEST_AREA = 900
"""Of a bubble, in square points; that of the others is in proportion to their bytes."""
LABEL_POINTS = 14
"""From the middle of a bubble to its label."""
COUNTED = ("parameters", "trained_parameters")
"""What the metadata count."""
Clip = tuple[Path, float, float | None]
"""Which stretch of which file."""


class Loaded(NamedTuple):
    """Who answers a signal, with an emotion if it can, and what its weights say where no ONNX file does."""

    run: Callable[[Signal], Emotion | None]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Candidate:
    """What is measured. ``runtime`` is a name in ``RUNTIMES``; ``path`` is None where there is not just one file."""

    name: str
    precision: str
    path: Path | None = None
    runtime: str = "onnxruntime"


@dataclass(frozen=True)
class Corpus:
    """Segments to score on, and a truth for each; ``about`` goes into the rows as it is."""

    name: str
    segments: Sequence[Segment]
    truth: Sequence[Answer]
    about: Mapping[str, object] = field(default_factory=dict)


def rows(
    models: Sequence[str] = (),
    others: Sequence[str] = (),
    corpora: Sequence[Corpus] = (),
    runs: int = RUNS,
    tell: Callable[[float, float], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Measure models on this machine, all in one run.

    Args:
        models: ``NAME[:PRECISION]`` that ship, or paths of ONNX files; a NAME alone is every precision of it; default:
            every ONNX file that ships
        others: names in ``OTHERS`` to measure beside them; with torch this process then stays on one of its threads
        corpora: to score on; without any there is no CCC
        runs: rounds of timing; in each, every model answers one signal of each of ``DURATIONS``
        tell: is told (done, total) in steps

    Returns:
        one row a model, precision and runtime, with the columns of docs/bench.md

    Raises:
        WeightsError: if a model is unknown, damaged or of another network
        MissingExtraError: if a package is not installed
    """
    for other in others:
        check_packages(other, RUNTIMES[other].packages, RUNTIMES[other].install)
    ours = candidates(models)
    chosen = ours + [one for other in others for one in beside(other, ours)]
    scored = sum(RUNTIMES[one.runtime].is_scored for one in chosen)
    total, done = len(chosen) * (2 + runs) + scored * len(corpora), 0

    def step() -> None:
        nonlocal done
        done += 1
        tell(done, total)

    found, answerers = [], []
    for one in chosen:
        loaded, load_ms = timed_load(one)
        answerers.append(loaded.run)
        found.append(facts(one, loaded.metadata) | {"load_ms": load_ms})
        step()
    for one, row in zip(chosen, found, strict=True):
        row["peak_bytes"] = peak_growth(one)
        step()
    for row, times in zip(found, time_rounds(answerers, runs, step), strict=True):
        row |= time_columns(times)
    for one, row, run in zip(chosen, found, answerers, strict=True):
        row |= {"ccc": {}, "on": {}}
        answered: dict[Clip, Answer] = {}
        for corpus in corpora if RUNTIMES[one.runtime].is_scored else ():
            row["ccc"][corpus.name], left_out = score(run, corpus, answered)
            row["on"][corpus.name] = {**corpus.about, "left_out": left_out}
            step()
    return [row | {"runs": runs, "threads": 1} | machine() for row in found]


def check_packages(name: str, packages: Sequence[str], install: str) -> None:
    """Raise MissingExtraError if any of the packages is not installed; ``install`` is what pip then needs."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise missing_packages(name, missing, install)


def can_count() -> bool:
    """Whether the package onnx is installed, without which MACs, tokens and memory are not known."""
    return find_spec("onnx") is not None


def candidates(models: Sequence[str]) -> list[Candidate]:
    """The ONNX files of shipped names, in each precision unless one is named, and those given by their paths."""
    ships: dict[str, list[str]] = {}
    for row in present():
        if row["file"].endswith(".onnx"):
            ships.setdefault(row["name"], []).append(row["precision"])
    found = []
    for model in models or sorted(ships):
        if Path(model).is_file() and model not in ships:
            precision = load(model).metadata.get("precision", PRECISIONS[0])
            found.append(Candidate(Path(model).name, precision, Path(model)))
            continue
        path = locate(model, ".onnx")
        name, precision = split_precision(model)
        if precision or name not in ships:
            found.append(Candidate(name, precision or PRECISIONS[0], path))
        else:
            found += [Candidate(name, one, locate(f"{name}:{one}", ".onnx")) for one in sorted(ships[name])]
    return found


def beside(other: str, ours: Sequence[Candidate]) -> list[Candidate]:
    """What another runtime measures: our networks, or one of its own."""
    if other == "openvino":
        return [replace(one, runtime=other) for one in ours]
    if other == "torch":
        arrays = {row["name"] for row in read_index() if row["file"] == f"{row['name']}.safetensors"}
        names = dict.fromkeys(one.name for one in ours if one.name in arrays)
        if not names:
            raise WeightsError("torch runs students that ship, and none of the models is one; name one too")
        return [Candidate(name, "fp32", resolve(name, ".safetensors"), other) for name in names]
    name, precision = {"teacher": ("open", "fp32"), "opensmile": ("eGeMAPSv02", "")}[other]
    return [Candidate(name, precision, None, other)]


def load_by(backend: str) -> Callable[[Path], Loaded]:
    """What loads a file for a backend."""

    def load_file(path: Path) -> Loaded:
        model = load(path, backend=backend)
        return Loaded(model, model.metadata)

    return load_file


def load_torch(path: Path) -> Loaded:
    """On one thread, and this process then stays on it."""
    import torch

    torch.set_num_threads(1)
    return load_by("torch")(path)


def load_teacher(_: Path) -> Loaded:
    """The teacher ``open`` on one thread, and this process then stays on it; the path is not used.

    ``parameters`` in the metadata are those of the encoder and of the heads.
    """
    import torch

    from wav2small.train.teachers import load_teacher

    torch.set_num_threads(1)
    teacher: Any = load_teacher("open")
    modules = [teacher.body.encoder, *teacher.heads.heads]
    parameters = sum(weight.numel() for module in modules for weight in module.parameters())
    metadata = {"version": teacher.version, "parameters": str(parameters)}
    return Loaded(lambda signal: Emotion(*teacher.label([signal])[0]), metadata)


def load_opensmile(_: Path) -> Loaded:
    """The 88 functionals alone, which are no emotion yet."""
    opensmile: Any = import_module("opensmile")
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

    def run(signal: Signal) -> None:
        smile.process_signal(signal, SAMPLING_RATE)

    return Loaded(run, {})


class Runtime(NamedTuple):
    """The packages it needs, what installs them, and how it loads a file; whether that is ONNX, and worth a CCC."""

    packages: tuple[str, ...]
    install: str
    load: Callable[[Path], Loaded]
    reads_onnx: bool = False
    is_scored: bool = False


RUNTIMES = {
    "onnxruntime": Runtime(("onnxruntime",), "onnxruntime", load_by("onnx"), reads_onnx=True, is_scored=True),
    "teacher": Runtime(("torch", "transformers"), "wav2small[train]", load_teacher, is_scored=True),
    "opensmile": Runtime(("opensmile",), "opensmile", load_opensmile),
    "torch": Runtime(("torch",), "wav2small[train]", load_torch),
    "openvino": Runtime(("openvino",), "openvino", load_by("openvino"), reads_onnx=True),
}
OTHERS = tuple(RUNTIMES)[1:]
"""What can be measured beside our ONNX files."""


def timed_load(one: Candidate) -> tuple[Loaded, float]:
    """Loaded, and the median milliseconds from the file until it can answer."""
    read, times = RUNTIMES[one.runtime].load, []
    loaded = read(one.path or Path())
    for _ in range(LOADS):
        start = time.perf_counter()
        loaded = read(one.path or Path())
        times.append(1000 * (time.perf_counter() - start))
    return loaded, float(np.median(times))


def facts(one: Candidate, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What is so on every machine: parameters, MACs, tokens and bytes; None is unknown."""
    reads_onnx, path = RUNTIMES[one.runtime].reads_onnx, one.path
    graph = measured(path.read_bytes()) if path and reads_onnx and can_count() else None
    if graph is not None:
        metadata = {entry.key: entry.value for entry in graph.model.metadata_props}
    return {
        "name": one.name,
        "precision": one.precision,
        "runtime": one.runtime,
        "runtime_version": version(RUNTIMES[one.runtime].packages[0]),
        "version": metadata.get("version"),
        "training_data": metadata.get("training_data", ""),
        **{key: int(metadata[key]) if metadata.get(key, "").isdigit() else None for key in COUNTED},
        "macs_per_5s": None if graph is None else count_macs(graph),
        "tokens_per_second": None if graph is None else tokens_per_second(graph),
        "bytes": path.stat().st_size if path else None,
        "sha256": sha256(path) if path else None,
    }


def peak_growth(one: Candidate) -> int | None:
    """Bytes by which the peak memory of a child grows when it loads a model and answers one signal of 5 s.

    What the child has before are Python, this module and the bare runtime, which has run a network of one node if it
    reads ONNX. None on Windows, and without the package onnx.
    """
    if sys.platform == "win32" or not can_count():
        return None
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.onnx"
        bare.write_bytes(one_node())
        arguments = [one.runtime, str(one.path or ""), str(bare)]
        child = [sys.executable, "-c", "from wav2small.evaluation import bench; bench.child()", *arguments]
        done = subprocess.run(child, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise Wav2SmallError(f"{one.name}: the child that measures its memory ended with {done.returncode}: {last}")
    return int(done.stdout.split()[-1])


def child() -> None:
    """What :func:`peak_growth` runs: prints the growth."""
    name, path, bare = sys.argv[1:]
    runtime = RUNTIMES[name]
    signal = np.random.default_rng(0).random(COUNTED_DUR * SAMPLING_RATE, np.float32) - np.float32(0.5)
    for package in runtime.packages:
        import_module(package)
    if runtime.reads_onnx:
        runtime.load(Path(bare)).run(signal)
    forget_peak()
    before = peak_rss()
    runtime.load(Path(path)).run(signal)
    print(peak_rss() - before)


def forget_peak() -> None:
    """Let the peak begin again at what is resident now, where the system can: what imports took for a moment is over.

    Source: proc_pid_clear_refs(5), Linux.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss() -> int:
    """Largest resident memory of this process, bytes.

    Linux counts VmHWM from the start of the program; its ``ru_maxrss`` begins with that of the parent.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    if found:
        return 1024 * int(found[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def one_node() -> bytes:
    """The smallest ONNX file that :func:`wav2small.runtime.model.load` takes: it answers the first three samples."""
    from onnx import TensorProto, helper

    numbers = {"start": 0, "end": len(OUTPUTS), "axis": 1}
    constants = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in numbers.items()]
    nodes = [helper.make_node("Slice", ["signal", *numbers], ["emotion"])]
    nodes.append(helper.make_node("Identity", ["emotion"], ["embedding"]))
    values = ("signal", "emotion", "embedding")
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None]) for name in values}
    graph = helper.make_graph(nodes, "bare", [info["signal"]], [info["emotion"], info["embedding"]], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"sampling_rate": str(SAMPLING_RATE), "outputs": ",".join(OUTPUTS)})
    content: bytes = model.SerializeToString()
    return content


def time_rounds(
    answerers: Sequence[Callable[[Signal], object]], runs: int, step: Callable[[], None] = lambda: None
) -> NDArray[np.float64]:
    """Milliseconds of each answer, shape=(answerers, durations, runs).

    All take their turn within a round, and each has answered every signal once before: what else the machine does
    hits all alike.
    """
    rng = np.random.default_rng(0)
    signals = [voice(rng, dur) for dur in DURATIONS]
    for run in answerers:
        for signal in signals:
            run(signal)
    times = np.zeros((len(answerers), len(signals), runs))
    for turn in range(runs):
        for number, run in enumerate(answerers):
            for index, signal in enumerate(signals):
                start = time.perf_counter()
                run(signal)
                times[number, index, turn] = 1000 * (time.perf_counter() - start)
            step()
    return times


def time_columns(times: NDArray[np.float64]) -> dict[str, float]:
    """Percentiles over the rounds, from milliseconds, shape=(durations, runs)."""
    found = {
        f"p{percent}_ms_{dur}s": float(np.percentile(some, percent))
        for dur, some in zip(DURATIONS, times, strict=True)
        for percent in (50, 95)
    }
    return found | {"rtf": found[f"p50_ms_{COUNTED_DUR}s"] / (1000 * COUNTED_DUR)}


def score(
    run: Callable[[Signal], Emotion | None], corpus: Corpus, answered: dict[Clip, Answer]
) -> tuple[dict[str, Any], dict[str, int]]:
    """CCC of each dimension with its interval over speakers, and how many rows are left out and why.

    What was answered is added to ``answered``, so that a second truth of the same segments costs nothing.
    """

    def predict(signals: Sequence[Signal]) -> list[Emotion]:
        return [emotion for signal in signals if (emotion := run(signal)) is not None]

    pairs = [((segment.path, segment.start, segment.end), segment) for segment in corpus.segments]
    wanted = [
        pair for pair, truth in zip(pairs, corpus.truth, strict=True) if truth.emotion and pair[0] not in answered
    ]
    answered.update(zip([key for key, _ in wanted], answer_segments([one for _, one in wanted], predict), strict=True))
    said = [answered[key] if truth.emotion else truth for (key, _), truth in zip(pairs, corpus.truth, strict=True)]
    result = evaluate(corpus.segments, corpus.truth, said, load_norms())
    found = {}
    for line in tidy(result, "", "", corpus.name):
        if line["statistic"] == "ccc":
            found[str(line["dimension"])] = {key: line[key] for key in ("value", "low", "high", "n", "speakers")}
    return found, result.left_out


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "wav2small": wav2small.__version__,
    }


def cpu_model() -> str:
    """Name of the CPU from ``/proc/cpuinfo``, or from ``platform`` where that does not have it."""
    listed = Path("/proc/cpuinfo")
    found = (
        re.search(r"^(?:model name|Model)\s*: (.+)$", listed.read_text(), re.MULTILINE) if listed.is_file() else None
    )
    return found[1] if found else platform.processor() or platform.machine()


def plot(found: Sequence[Mapping[str, Any]], file: str | Path) -> None:
    """A PNG: CCC of arousal over MACs, a bubble a model and corpus, its area the bytes on disk."""
    with whole_file(file) as temporary:
        plot_figure(found).savefig(temporary, dpi=150, format="png")


def plot_figure(found: Sequence[Mapping[str, Any]]) -> Figure:
    """The figure that ``plot`` saves: one colour for each corpus, MACs on a log scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="MACs for 5 s of audio", ylabel=f"CCC of {PLOTTED}")
    bubbles = list(plotted(found))
    for number, corpus in enumerate(dict.fromkeys(bubble.corpus for bubble in bubbles)):
        some = [bubble for bubble in bubbles if bubble.corpus == corpus]
        columns = [[getattr(bubble, name) for bubble in some] for name in ("macs", "ccc", "area")]
        axes.scatter(*columns, color=f"C{number}", alpha=0.5, label=corpus)
        for place, bubble in enumerate(sorted(some, key=lambda bubble: bubble.macs)):
            side: dict[str, Any] = {"ha": ("right", "left")[place % 2], "va": "center", "fontsize": "x-small"}
            offset = ((-LABEL_POINTS, LABEL_POINTS)[place % 2], 0)
            axes.annotate(bubble.label, (bubble.macs, bubble.ccc), offset, textcoords="offset points", **side)
    axes.margins(x=0.6, y=0.4)
    legend: Any = axes.legend(title="scored on", loc="lower left")
    for handle in legend.legend_handles:
        handle.set_sizes([LEGEND_AREA])
    return figure


class Bubble(NamedTuple):
    """A model on a corpus; ``area`` is in square points."""

    corpus: str
    macs: int
    ccc: float
    area: float
    label: str


def plotted(found: Sequence[Mapping[str, Any]]) -> Iterator[Bubble]:
    """What a plot can show, the largest first: rows that have both MACs and a CCC."""
    largest = max((row["bytes"] or 0 for row in found), default=0)
    for row in sorted(found, key=lambda row: -(row["bytes"] or 0)):
        for corpus, ccc in row["ccc"].items():
            if row["macs_per_5s"] and ccc[PLOTTED]["value"] is not None:
                label = f"{row['name']} {row['precision']}, {row['bytes'] / 1000:.0f} KB"
                area = LARGEST_AREA * row["bytes"] / largest
                yield Bubble(corpus, row["macs_per_5s"], ccc[PLOTTED]["value"], area, label)
