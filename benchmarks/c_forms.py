"""Compare every form of a student: C in floats and integers, ONNX Runtime, LiteRT, ExecuTorch, NumPy; and their CCC.

    python benchmarks/c_forms.py
    python benchmarks/c_forms.py --dev dev.csv
    taskset -c 0 python benchmarks/c_forms.py --phone wav2small=wav2small.tflite --phone wav2small=wav2small.pte

The cost is measured on one thread, in rounds over all forms: minimum processor time for 5 s of speech, also relative to
ONNX Runtime in floats, and the median; the peak memory of a process that does nothing else (for C, the command w2s);
the size of the weights file (for C, including the code); the largest difference of a prediction from the reference of
the same precision, on the example clips. With --dev, the mean over the column corpus of the CCC with the labels is
added, also for micro-l, and for wav2small in C normalised by the samples so far. LiteRT and ExecuTorch process 5 s,
because their files have a fixed length: benchmarks/phone_forms.py writes them. ExecuTorch uses every processor that it
may: taskset leaves it one.
"""

from __future__ import annotations

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from wav2small import load
from wav2small.audio import read as audio
from wav2small.evaluation.bench import cpu_model, peak_rss
from wav2small.export.c_folder import export_c
from wav2small.metrics import concordance_cc
from wav2small.network import reference
from wav2small.network.config import OUTPUTS
from wav2small.network.probes import voice
from wav2small.network.weights import resolve
from wav2small.runtime import compiler, native
from wav2small.tables.manifest import Segment, read_manifest

MODELS = ("wav2small", "micro")
EXAMPLES = Path(__file__).parents[1] / "examples"
FIVE = voice(np.random.default_rng(0), 5.0)
ROUNDS = 40
SLOW_ROUNDS = 5
PHONES = {".tflite": "LiteRT", ".pte": "ExecuTorch"}
"""Runtime of a file, by its suffix."""
Predict = Callable[[np.ndarray], np.ndarray]
"""Function from a signal to arousal, dominance and valence, not clipped."""
Phones = list[tuple[str, Path]]
"""Models with a file of LiteRT or ExecuTorch."""


class Form(NamedTuple):
    """What computes a model."""

    model: str
    precision: str
    runtime: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.model} {self.precision}, {self.runtime}"


def forms(phones: Phones, models: Sequence[str] = MODELS) -> Iterator[Form]:
    for model in models:
        for precision in ("fp32", "int8"):
            for runtime, suffix in (("C", ".safetensors"), ("ONNX Runtime", ".onnx"), ("NumPy", ".safetensors")):
                yield Form(model, precision, runtime, resolve(f"{model}:{precision}", suffix))
        yield from (Form(model, "fp32", PHONES[path.suffix], path) for name, path in phones if name == model)


def opened(form: Form) -> Predict:
    """Load a form; returns its function of prediction."""
    if form.runtime in PHONES.values():
        return (opened_litert if form.runtime == "LiteRT" else opened_executorch)(form.path)
    if form.runtime == "C":
        library = native.library(form.path)
        return lambda signal: library.answer(signal)[1]
    if form.runtime == "NumPy":
        arrays, _, config = reference.load_student(form.path)
        return lambda signal: reference.forward(signal, arrays, config)[1]
    from wav2small.session import session

    runner = session(form.path.read_bytes(), str(form.path))
    return lambda signal: runner.run(["emotion"], {"signal": signal[None]})[0][0]


def opened_litert(path: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer(signal: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(entry, signal[None])
        interpreter.invoke()
        return interpreter.get_tensor(end)[0].copy()

    return answer


def opened_executorch(path: Path) -> Predict:
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return lambda signal: method.execute([torch.from_numpy(signal)[None]])[0].numpy()[0]


def timed(answers: dict[Form, Predict]) -> dict[Form, list[float]]:
    """Milliseconds of the processor for 5 s, per round: other programs of the machine add less than to the time."""
    found: dict[Form, list[float]] = {form: [] for form in answers}
    for number in range(ROUNDS):
        for form, answer in answers.items():
            if form.runtime != "NumPy" or number < SLOW_ROUNDS:
                start = time.process_time()
                answer(FIVE)
                found[form].append(1000 * (time.process_time() - start))
    return found


def size(form: Form) -> int:
    """Size of the file in bytes; for C without symbols, as linked into a program."""
    if form.runtime != "C":
        return form.path.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "library.so"
        subprocess.run(["strip", "-o", small, native.library(form.path).path], check=True)
        return small.stat().st_size


def peak_megabytes(form: Form, phones: Phones) -> float:
    """Peak memory of a process that loads the form and predicts 5 s."""
    if form.runtime == "C":
        return command_megabytes(form)
    arguments = [f"--phone={model}={path}" for model, path in phones]
    child = [sys.executable, __file__, *arguments, "--alone", form.name]
    return float(subprocess.run(child, check=True, capture_output=True, text=True).stdout)


def command_megabytes(form: Form) -> float:
    """Memory of the command w2s, measured while it waits for more input after 5 s."""
    with tempfile.TemporaryDirectory() as folder:
        made = export_c(form.path, Path(folder) / "c").path
        program = Path(folder) / "w2s"
        sizes = compiler.sizes_for(reference.load_student(form.path)[2])
        flags = [flag for flag in (*compiler.FLAGS, *compiler.FOR_THIS_MACHINE) if flag not in ("-shared", "-fPIC")]
        sources = [f"-I{made / 'src'}", made / "host" / "w2s.c", made / "src" / "w2s.c"]
        subprocess.run(
            [*compiler.find_compiler(), *flags, *sizes, "-DW2S_PARTS=8", *sources, "-o", program], check=True
        )
        command = [program, "--raw", "--hop", "1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stdin
            process.stdin.write((FIVE * 2**15).astype(np.int16).tobytes())
            process.stdin.flush()
            time.sleep(1)
            status = Path(f"/proc/{process.pid}/status").read_text()
            process.stdin.close()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found
    return int(found[1]) / 1024


def costs(phones: Phones) -> None:
    answers = {form: opened(form) for form in forms(phones)}
    times = timed(answers)
    clips = [audio.read(path) for path in sorted(EXAMPLES.glob("*.flac"))] + [FIVE]
    exact = {(form.model, form.precision): answer for form, answer in answers.items() if form.runtime == "NumPy"}
    base = {form.model: form for form in answers if (form.precision, form.runtime) == ("fp32", "ONNX Runtime")}
    print(f"{cpu_model()}, one thread, {ROUNDS} rounds\n")
    heads = ("model", "", "fastest ms for 5 s", "relative", "median ms", "peak MB", "bytes", "difference")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for form, answer in answers.items():
        signals = [FIVE] if form.runtime in PHONES.values() else clips
        differences = [np.abs(answer(clip) - exact[form.model, form.precision](clip)).max() for clip in signals]
        ratio = min(times[form]) / min(times[base[form.model]])
        cells = [form.model, f"{form.runtime}, {form.precision}", f"{min(times[form]):.2f}"]
        cells += [f"{ratio:.2f}", f"{np.median(times[form]):.2f}", f"{peak_megabytes(form, phones):.1f}"]
        print("| " + " | ".join([*cells, f"{size(form):,}", f"{max(differences):.1g}"]) + " |", flush=True)


def level_so_far(library: native.Library) -> Predict:
    """The C runtime without the level of the utterance."""

    def answer(signal: np.ndarray) -> np.ndarray:
        stream = library.stream()
        stream.push(signal)
        stream.finish()
        return stream.read()[1]

    return answer


def scores(segments: list[Segment]) -> None:
    scored = forms([], [*MODELS, "micro-l"])
    answers = {form.name: opened(form) for form in scored if form.runtime in ("C", "ONNX Runtime")}
    for precision in ("fp32", "int8"):
        library = native.library(resolve(f"wav2small:{precision}", ".safetensors"))
        answers[f"wav2small {precision}, C, level of the signal so far"] = level_so_far(library)
    found: dict[str, list[np.ndarray]] = {name: [] for name in answers}
    least = load("micro").metadata["min_length"]
    with click.progressbar(segments, label="clips", file=sys.stderr) as bar:
        for segment in bar:
            signal = segment.cut(audio.read(segment.path))
            signal = np.pad(signal, (0, max(0, int(least) - len(signal))))
            for name, answer in answers.items():
                found[name].append(np.clip(answer(signal), 0, 1))
    truth = np.array([segment.emotion for segment in segments])
    corpora = np.array([segment.column("corpus") for segment in segments])
    print(f"\n| {len(segments)} clips of open dev speakers | {' | '.join(OUTPUTS)} |\n|---|---|---|---|")
    for name, rows in found.items():
        within = [
            [concordance_cc(truth[of_one, column], np.array(rows)[of_one, column]) for column in range(3)]
            for of_one in (corpora == corpus for corpus in np.unique(corpora))
        ]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(within, 0)) + " |", flush=True)


@click.command(help=__doc__, context_settings={"max_content_width": 120})
@click.option(
    "--dev", multiple=True, metavar="LABELS", help="Labels by the teacher of speakers that training left out."
)
@click.option("--phone", multiple=True, metavar="MODEL=FILE", help="A .tflite or .pte file for 5 s.")
@click.option("--alone", hidden=True)
def main(dev: tuple[str, ...], phone: tuple[str, ...], alone: str | None) -> None:
    made = [(name, Path(path)) for name, _, path in (pair.partition("=") for pair in phone)]
    if alone:
        opened(next(form for form in forms(made) if form.name == alone))(FIVE)
        print(peak_rss() / 2**20)
        return
    segments = [segment for path in dev for segment in read_manifest(path) if not segment.column("error")]
    costs(made)
    if segments:
        scores(segments)


if __name__ == "__main__":
    main()
