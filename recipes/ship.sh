#!/usr/bin/env bash
# What recipes/open.sh made becomes what ships: weights into the package, log and evaluation beside the recipe. Then
# recipes/students.sh measures it, beside what else there is, and writes the cards. The README's tables are made of it:
# python recipes/table.py
#
#   WAV2SMALL_MODELS=models recipes/ship.sh DATA RUN
set -euo pipefail
data=$1 run=$2
here=$(dirname "$0")
mkdir -p "$here/open"
cp "$run/student/log.jsonl" "$here/open/wav2small-log.jsonl"
cp "$run/micro/log.jsonl" "$here/open/micro-log.jsonl"
cp "$run/micro-int8/log.jsonl" "$here/open/micro-int8-log.jsonl"
cp "$run"/{ravdess-norms,ravdess-teacher,emodb-norms}.json "$here/open/"
cp "$run/open.safetensors" "$here/../src/wav2small/data/open.safetensors"
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
wav2small export "$run/student/best.safetensors" --ship --name wav2small --version 3 --metadata "ccc=$(ccc wav2small.onnx)"
wav2small export "$run/micro/best.safetensors" --ship --name micro --version 2 --metadata "ccc=$(ccc micro.onnx)"
wav2small export "$run/micro-int8/best.safetensors" --ship --name micro --version 2 --metadata "ccc=$(ccc micro-int8.onnx)"
wav2small export "$here/../src/wav2small/data/wav2small.safetensors" --ship --to integers --calibrate "$run/labels.csv"
dev=("$run"/dev-{emodb,emogator,sdap,librispeech,speechocean,arabic_commands}.csv)
for name in wav2small micro; do  # what their answers mean, beside the weights
    wav2small calibrate "${dev[@]}" --model $name -o "$here/../src/wav2small/data/$name.calibration.json"
    wav2small calibrate "${dev[@]}" --model $name --precision int8 -o "$here/../src/wav2small/data/$name-int8.calibration.json"
done
python "$here/make_golden.py"
