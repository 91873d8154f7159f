#!/usr/bin/env bash
# The weights that ship: teacher `open`, and the students `wav2small`, `micro` and `micro-l`, from open audio only.
#
#   WAV2SMALL_MODELS=models recipes/open.sh DATA RUN
#
# DATA holds the folders open/emodb, open/emogator, ... of the table in docs/data.md, each with a manifest.csv, and
# noncommercial/ravdess for the evaluation. RUN gets everything that is made, about 20 GB. Every step goes on where it
# was stopped. STEPS and WAV2SMALL_STEPS are the lengths of the rounds; on a GPU give many more, with DEVICE=cuda: clips
# are then new each time. START is a folder with micro.safetensors and wav2small.safetensors to start from: what ships
# started from versions 2 and 3 (src/wav2small/data at commit bf536f6); without it the students start from nothing. Needs `pip install wav2small[dev]` (the openSMILE baseline is not licensed for commercial use) and
# Debian's open-jtalk for the synthetic voice.
set -euo pipefail
data=$1 run=$2
here=$(cd "$(dirname "$0")" && pwd)
open=$data/open
steps=(${STEPS:-1800 2000}) wav2small_steps=(${WAV2SMALL_STEPS:-800 1100})
mkdir -p "$run"

# 1. Expressive speech in other voices and manners: EmoDB is the only acted speech, and small. And a synthetic voice.
wav2small resynthesise "$open/emodb" -o "$run/emodb-voices" --variants 4 --seed 1
wav2small resynthesise "$open/emodb" -o "$run/emodb-voices2" --variants 4 --seed 2
wav2small resynthesise "$open/sdap" -o "$run/sdap-voices" --variants 4 --seed 1
[ -f "$run/tohoku/manifest.csv" ] ||
    python "$here/synthetic_voice.py" "$WAV2SMALL_MODELS/htsvoice-tohoku-f01" -o "$run/tohoku"

# 2. The teacher's heads, on what has categories. Out come five heads, each fitted without a fifth of the speakers.
[ -f "$run/open.safetensors" ] || wav2small fit "$open/emodb,$run/emodb-voices" "$open/emogator" --copies 0 \
    -o "$run/open.safetensors" --name open --version 2 --cache "$run/statistics"

# 3. The students, online, without the dev speakers of fold 0. Bursts are drawn less than their number, and what is acted
#    or expressive more. The second round continues from the weights of the first, with new clips.
source "$here/learn.sh"
from() { [ ! -f "$1/$2.safetensors" ] || echo "--from $2=$1/$2.safetensors"; }
before=${START:-/nowhere}
for round in 1 2; do
    learn $round -o "$run/micro-$round" --student micro --student micro-l $(from "$before" micro) $(from "$before" micro-l) \
        --steps "${steps[round - 1]}" --batch-size 128
    before=$run/micro-$round
done
before=${START:-/nowhere}
for round in 1 2; do
    learn $round -o "$run/wav2small-$round" --student wav2small $(from "$before" wav2small) \
        --steps "${wav2small_steps[round - 1]}" --batch-size 64 --reuse 4 --learning-rate 1.5e-3
    before=$run/wav2small-$round
done
# Integers without further training, which costs more than the rounding (docs/log.md).
for weights in "$run"/{micro-2/micro,micro-2/micro-l,wav2small-2/wav2small}.safetensors; do
    wav2small export "$weights" -o "$run/integers" --to integers --calibrate "$run/micro-2/dev.csv"
done

# 4. ONNX files, each compared with the reference and with the CCC of its training, or refused.
exported=(wav2small export --dev "$run/micro-2/dev.csv" -o "$run/export")
"${exported[@]}" --name wav2small --version 5 "$run/wav2small-2/wav2small.safetensors"
for student in micro micro-l; do
    version=2; [ $student = micro ] && version=4
    "${exported[@]}" --name $student --version $version "$run/micro-2/$student.safetensors"
    wav2small export "$run/integers/$student-int8.safetensors" -o "$run/export" --name $student --version $version
done

# 5. The evaluation, on speech that was not used to train the teacher or the students.
ravdess=$data/noncommercial/ravdess
[ -f "$run/teacher-ravdess.csv" ] || wav2small label "$ravdess" --teacher "$run/open.safetensors" -o "$run/teacher-ravdess.csv"
[ -f "$run/opensmile.csv" ] || python "$here/../benchmarks/opensmile_baseline.py" "$data" -o "$run/opensmile.csv"
students=("$run"/export/{wav2small,wav2small-int8,micro,micro-int8,micro-l,micro-l-int8}.onnx)
wav2small evaluate "$run/opensmile.csv" "$run/teacher-ravdess.csv" "${students[@]}" --on "$ravdess" -o "$run/ravdess-norms.json"
wav2small evaluate "${students[@]}" --on "$ravdess" --truth "$run/teacher-ravdess.csv" -o "$run/ravdess-teacher.json"
wav2small evaluate "${students[@]}" --on "$open/emodb" --where fold=0 --truth norms -o "$run/emodb-norms.json"
