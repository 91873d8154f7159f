#!/usr/bin/env bash
# What recipes/open.sh made becomes what ships: weights into the package, log and evaluation beside the recipe. Then
# recipes/students.sh measures it, beside what else there is, and writes the cards. The README's tables are made of it:
# python recipes/table.py
#
#   WAV2SMALL_MODELS=models recipes/ship.sh DATA RUN
set -euo pipefail
data=$1 run=$2
here=$(dirname "$0")
package=$here/../src/wav2small/data
mkdir -p "$here/open"
for round in 1 2; do
    cp "$run/micro-$round/log.jsonl" "$here/open/micro-$round-log.jsonl" # of micro and micro-l, trained together
    cp "$run/wav2small-$round/log.jsonl" "$here/open/wav2small-$round-log.jsonl"
done
cp "$run"/{ravdess-norms,ravdess-teacher,emodb-norms}.json "$here/open/"
cp "$run/open.safetensors" "$package/open.safetensors"
ccc() {  # of one artefact, as JSON
    python - "$here/open" "$1" <<'PYTHON'
import json, sys
from pathlib import Path

found = {}
for key, file in (("RAVDESS norms", "ravdess-norms.json"), ("RAVDESS teacher", "ravdess-teacher.json")):
    for score in json.loads((Path(sys.argv[1]) / file).read_text())["scores"]:
        if score["predictor"] == sys.argv[2] and score["statistic"] == "ccc":
            found.setdefault(key, {})[score["dimension"]] = round(score["value"], 3)
print(json.dumps(found))
PYTHON
}
ship() {  # WEIGHTS NAME VERSION ARTEFACT
    wav2small export "$run/$1.safetensors" --ship --name "$2" --version "$3" --metadata "ccc=$(ccc "$4")"
}
ship wav2small-2/wav2small wav2small 5 wav2small.onnx
ship micro-2/micro micro 4 micro.onnx
ship integers/micro-int8 micro 4 micro-int8.onnx
ship micro-2/micro-l micro-l 2 micro-l.onnx
ship integers/micro-l-int8 micro-l 2 micro-l-int8.onnx
wav2small export "$package/wav2small.safetensors" --ship --to integers --calibrate "$run/micro-2/dev.csv"
for name in wav2small micro micro-l; do  # what their answers mean, beside the weights
    for suffix in "" int8; do
        wav2small calibrate "$run/micro-2/dev.csv" --model $name${suffix:+:$suffix} \
            -o "$package/$name${suffix:+-$suffix}.calibration.json"
    done
done
python "$here/make_golden.py"
