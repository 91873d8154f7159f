#!/usr/bin/env bash
# A network from a JSON description to every form: micro with 48 channels, trained for 200 steps on EmoDB.
#
#   WAV2SMALL_MODELS=models recipes/network.sh DATA RUN
#
# DATA as for recipes/open.sh. It shows that no code is needed; 200 steps are too few for accuracy. Five minutes on two
# cores; each step can be resumed. Prints the largest difference of each form from the NumPy reference.
set -euo pipefail
data=$1 run=$2
mkdir -p "$run"
wav2small models --network micro | sed 's/"outputs": 64/"outputs": 48/; s/"name": "micro"/"name": "micro48"/' > "$run/micro48.json"
given=(--teacher open --bf16)
[ -f "$run/dev.csv" ] || wav2small label "$data/open/emodb" --where fold=0 "${given[@]}" -o "$run/dev.csv"
folds=(--where fold=1 --where fold=2 --where fold=3 --where fold=4)
[ -f "$run/labels.csv" ] || wav2small label "$data/open/emodb" "${folds[@]}" "${given[@]}" -o "$run/labels.csv"
wav2small train "$run/labels.csv" --dev "$run/dev.csv" -o "$run/train" --network "$run/micro48.json" --steps 200 --data EmoDB
best=$run/train/best.safetensors
wav2small export "$best" -o "$run/forms" --name micro48
wav2small export "$best" -o "$run/forms" --name micro48 --to integers --calibrate "$run/labels.csv"
wav2small export "$best" --to c -o "$run/c"
wav2small export "$run/forms/micro48-int8.safetensors" --to c -o "$run/c-int8"
python - "$best" "$run/forms" "$run/dev.csv" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np

from wav2small import Stream, load
from wav2small.tables.manifest import read_manifest, segment_signal

best, forms, dev = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
signals = [segment_signal(segment)[:32000] for segment in read_manifest(dev)[:20]]


def answers(path: Path, backend: str) -> np.ndarray:
    model = load(path, backend=backend)
    return np.array([model(signal) for signal in signals])


def streamed(path: Path, backend: str) -> np.ndarray:
    """Each clip pushed in pieces of 10 ms as one window, which is answered as the clip alone is."""
    stream, found = Stream(load(path, backend=backend), 2.0, 2.0, vad="energy", min_speech=0.0), []
    for signal in signals:
        stream.reset()
        events = [event for start in range(0, len(signal), 160) for event in stream.push(signal[start : start + 160])]
        event = (events + stream.finish())[0]
        found.append([event.arousal, event.dominance, event.valence])
    return np.array(found)


expected, integers = answers(best, "numpy"), forms / "micro48-int8.safetensors"
rows = {
    "ONNX": answers(forms / "micro48.onnx", "onnx"),
    "C": answers(best, "c"),
    "torch": answers(best, "torch"),
    "stream, NumPy": streamed(forms / "micro48.onnx", "onnx"),
    "stream, C": streamed(best, "c"),
}
for name, found in rows.items():
    print(f"{name:16} {np.abs(found - expected).max():.1e} from the reference in floats, {len(signals)} clips")
same = np.array_equal(answers(integers, "c"), answers(integers, "numpy"))
apart = np.abs(answers(integers, "numpy") - expected).max()
print(f"{'integers':16} C {'equals' if same else 'DIFFERS FROM'} NumPy; rounding moved answers by up to {apart:.1e}")
PYTHON
