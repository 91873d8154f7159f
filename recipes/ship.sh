#!/usr/bin/env bash
# What recipes/open.sh made becomes what ships: weights into the package, log and evaluation beside the recipe.
#
#   recipes/ship.sh RUN
set -euo pipefail
run=$1
here=$(dirname "$0")
mkdir -p "$here/open"
cp "$run"/student/log.jsonl "$run"/ravdess-norms.json "$run"/ravdess-teacher.json "$run"/emodb-norms.json "$here/open/"
cp "$run/open.safetensors" "$here/../src/wav2small/data/open.safetensors"
ccc=$(python - "$here/open" <<'PYTHON'
import json, sys
from pathlib import Path

found = {}
for key, file in (("RAVDESS norms", "ravdess-norms.json"), ("RAVDESS teacher", "ravdess-teacher.json")):
    for score in json.loads((Path(sys.argv[1]) / file).read_text())["scores"]:
        if score["predictor"] == "wav2small.onnx" and score["statistic"] == "ccc":
            found.setdefault(key, {})[score["dimension"]] = round(score["value"], 3)
print(json.dumps(found))
PYTHON
)
wav2small export "$run/student/best.safetensors" --ship --name wav2small --version 1 --metadata "ccc=$ccc"
python "$here/../tests/make_golden.py"
