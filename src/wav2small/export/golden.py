"""Golden calls: what a package in another language must answer, computed by the NumPy reference.

``golden.csv`` has a call per line with its arguments and the expected values, ``clip.raw`` the samples that the pushes
take in order. The test of each language carries out the calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from wav2small.network import fixed_frontend, fixed_point, reference
from wav2small.network.config import Emotion, Network
from wav2small.network.weights import Arrays, identity
from wav2small.runtime.baseline import Baseline

TOLERANCE = 1e-4
"""Of emotions in float32; those of integer networks must be equal."""
CUTS = (0, 1, 159, 240, 6000, 0, 12000)
"""Samples of the pushes before the last, which takes the rest."""
SPEECH_DUR = 7.0
"""Seconds of speech that each prediction adds to the baseline, so that it becomes ready on the way."""


def write_golden(weights: str | Path, signal: np.ndarray, folder: Path) -> None:
    """Write ``golden.csv`` and ``clip.raw``.

    Args:
        weights: safetensors file of a student that C can run
        signal: mono audio at 16 kHz, float in [-1, 1], shape=(samples,), longer than ``CUTS``
        folder: where to write; made if it does not exist
    """
    arrays, _, network = reference.load_student(weights)
    samples = fixed_frontend.to_samples(signal)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clip.raw").write_bytes(samples.astype("<i2").tobytes())
    lines = [f"sha256,{identity(weights)}", f"tolerance,{0 if network.integers else TOLERANCE:g}"]
    lines += calls(samples, arrays, network)
    (folder / "golden.csv").write_text("\n".join(lines) + "\n", "ascii")


def calls(samples: np.ndarray, arrays: Arrays, network: Network) -> Iterator[str]:
    """The lines: the clip twice, with int16 and float samples in turn, and what is not allowed."""
    baseline = Baseline()
    for kinds in (("int16", "float"), ("float", "int16")):
        yield "reset"
        if network.normalisation == "utterance":
            yield line("level", np.array(fixed_frontend.mean_and_variance(samples)))
        yield "read"
        end = 0
        for index, size in enumerate((*CUTS, len(samples) - sum(CUTS))):
            end += size
            yield f"push_{kinds[index % 2]},{size}"
            if network.is_causal:
                yield from answers(samples[:end], arrays, network, baseline)
        yield "finish"
        yield from answers(samples, arrays, network, baseline)
        yield "refused_push"
        yield "refused_level"


def answers(samples: np.ndarray, arrays: Arrays, network: Network, baseline: Baseline) -> Iterator[str]:
    """The number of tokens, the emotion, and the baseline before and after it is added."""
    if len(samples) < network.frontend.win_length:
        yield "tokens,0"
        yield "read"
        return
    signal = (samples / 2.0**15).astype(np.float32)
    emotion = Emotion(*reference.forward(signal, arrays, network)[1].tolist())
    yield f"tokens,{num_tokens(samples, arrays, network)}"
    yield line("read", emotion)
    yield line("deviation", baseline.deviation(emotion))
    baseline.add(emotion, SPEECH_DUR)
    yield f"add,{SPEECH_DUR:g}"
    yield f"ready,{int(baseline.is_ready)}"


def num_tokens(samples: np.ndarray, arrays: Arrays, network: Network) -> int:
    """Number of tokens of int16 samples."""
    if network.integers:
        return len(fixed_point.tokens(fixed_frontend.log_mel(samples, network), arrays, network))
    signal = (samples / 2.0**15).astype(np.float32)
    return len(reference.tokens(reference.features(signal, network), arrays, network))


def line(call: str, values: Sequence[float] | np.ndarray) -> str:
    """A call and float32 values, exactly."""
    return ",".join([call, *(f"{np.float32(value):.9g}" for value in values)])
