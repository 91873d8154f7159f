#!/usr/bin/env bash
# All students of one teacher, trained by one command on the same batches, for the comparison of the paper. Then the other
# shipped weights, the bench, and the cards.
#
#   WAV2SMALL_MODELS=models recipes/students.sh DATA RUN
#
# DATA and RUN as for recipes/open.sh, which has made the teacher and the ring there. STEPS of 128 clips: on a GPU 10,000
# are a million clips, all different. Each step goes on where it was stopped.
set -euo pipefail
data=$1 run=$2
here=$(cd "$(dirname "$0")" && pwd)
open=$data/open
steps=${STEPS:-10000}
small=(wav2small-17k wav2small-running mobilenetv3-small mobilenetv4-small)
students=(wav2small micro micro-l "${small[@]}" mobilenetv3-large mobilenetv4-medium)
mkdir -p "$here/students"
source "$here/learn.sh"

# 1. Train, and export, each held to its CCC.
learn 3 -o "$run/alike" $(printf -- "--student %s " "${students[@]}") --steps "$steps" --batch-size 128
cp "$run/alike/log.jsonl" "$here/students/log.jsonl"
python - "$run/alike" "$here/students" "${students[@]}" <<'PYTHON' # what recipes/table.py reads: the step that was kept, and its CCC
import json, sys
from pathlib import Path
from wav2small.network.weights import read_safetensors

run, logs = map(Path, sys.argv[1:3])
for student in sys.argv[3:]:
    metadata = read_safetensors(run / f"{student}.safetensors")[1]
    line = {"step": int(metadata["step"])} | json.loads(metadata["dev_ccc"])
    (logs / f"{student}-log.jsonl").write_text(json.dumps(line) + "\n")
PYTHON
for student in "${students[@]}"; do
    [ -f "$run/students/$student.onnx" ] ||
        wav2small export "$run/alike/$student.safetensors" --dev "$run/alike/dev.csv" -o "$run/students" --name "$student" --version 2
done

# 2. What no other recipe makes better ships, where it is small enough; its CCC is that on the dev speakers.
for student in "${small[@]}"; do
    ccc=$(python - "$run/alike/$student.safetensors" <<'PYTHON'
import json, sys
from wav2small.network.weights import read_safetensors

print(json.dumps({"dev speakers, teacher": json.loads(read_safetensors(sys.argv[1])[1]["dev_ccc"])}))
PYTHON
    )
    wav2small export "$run/alike/$student.safetensors" --ship --name "$student" --version 2 --metadata "ccc=$ccc"
    for weights in "$here/../src/wav2small/data/$student"{,-int8}.onnx; do  # what their answers mean, beside them
        [ ! -f "$weights" ] || wav2small calibrate "$run/alike/dev.csv" --model "$weights" -o "${weights%.onnx}.calibration.json"
    done
done

# 3. All in one run of the bench, with what ships and what else there is: for the README and docs/students.md.
"$here/measure.sh" "$data" "$run"
