"""Write data/wav2small.golden.npz: log-mel, embedding and emotion of a second of an EmoDB clip by the shipped weights.

    python recipes/make_golden.py

Run once for each new shipped weights. Every other form of the network is held against this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wav2small.audio import read as audio
from wav2small.files import whole_file
from wav2small.network import reference
from wav2small.network.config import SAMPLING_RATE
from wav2small.network.frontend import log_mel, normalise
from wav2small.network.weights import DATA, identity, resolve

CLIP = "08a05Fe.flac"
"""EmoDB, CC0-1.0; in the folder examples."""
START = SAMPLING_RATE // 2
FILE = DATA / "wav2small.golden.npz"


def golden() -> dict[str, np.ndarray]:
    """Signal (as int16, which it is on disk), log-mel, embedding, emotion, and where they are from."""
    path = resolve("wav2small", suffix=".safetensors")
    arrays, _, network = reference.load_student(path)
    signal = audio.read(Path(__file__).parents[1] / "examples" / CLIP)[START : START + SAMPLING_RATE]
    embedding, emotion = reference.forward(signal, arrays, network)
    source = f"recipes/make_golden.py, numpy {np.__version__}, EmoDB {CLIP} from sample {START}"
    return {
        "signal": np.rint(signal * 32768).astype(np.int16),
        "log_mel": log_mel(normalise(signal)),
        "embedding": embedding,
        "emotion": emotion,
        "source": np.array(source),
        "weights_sha256": np.array(identity(path)),
    }


if __name__ == "__main__":
    with whole_file(FILE) as temporary:
        np.savez_compressed(temporary, **golden())
    print(f"{FILE}: {FILE.stat().st_size} bytes")
