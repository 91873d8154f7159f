#!/usr/bin/env bash
# The weights that ship: teacher `open`, its labels, and the student `wav2small`, from openly licensed audio only.
#
#   WAV2SMALL_MODELS=models recipes/open.sh DATA RUN
#
# DATA holds the folders open/emodb, open/emogator, ... of the table in docs/data.md, each with a manifest.csv, and
# noncommercial/ravdess for the evaluation. RUN gets everything that is made, about 6 GB. Three hours on two cores; every
# step goes on where it was stopped. Needs `pip install wav2small[dev]`: the baseline is openSMILE, whose licence is not
# commercial.
set -euo pipefail
data=$1 run=$2
open=$data/open
clips=${CLIPS:-40000} steps=${STEPS:-5000}
dev_fold=0
mkdir -p "$run"

# 1. The teacher's heads, on what has categories. Out come five heads, each fitted without a fifth of the speakers.
[ -f "$run/open.safetensors" ] || wav2small fit "$open/emodb" "$open/emogator" -o "$run/open.safetensors" \
    --name open --version 1 --cache "$run/statistics" --bf16

# 2. New clips, without the dev speakers. A corpus named three times is drawn three times as often: EmoDB is the only
#    acted speech, and small.
wav2small augment "$open"/{emodb,emodb,emodb,emogator,sdap,sdap,librispeech,picovoice,speechocean,mycroft,arabic_commands} \
    -o "$run/clips" --clips "$clips" --without-fold $dev_fold --seed 1

# 3. The teacher labels them as they stand, with its embedding; and the dev speakers' clips as they were recorded.
[ -f "$run/clips.csv" ] || wav2small label "$run/clips" --teacher "$run/open.safetensors" --bf16 --embed -o "$run/clips.csv"
dev=(emodb emogator sdap librispeech speechocean arabic_commands)
for corpus in "${dev[@]}"; do
    [ -f "$run/dev-$corpus.csv" ] || wav2small label "$open/$corpus" --where fold=$dev_fold \
        --teacher "$run/open.safetensors" --bf16 -o "$run/dev-$corpus.csv"
done

# 4. The student learns from those labels alone.
names="EmoDB, EmoGator, SDAP, LibriSpeech, Picovoice speech-to-intent, speechocean762, Mycroft Precise, Arabic speech commands"
wav2small train "$run/clips.csv" $(printf -- "--dev $run/dev-%s.csv " "${dev[@]}") -o "$run/student" --steps "$steps" --seed 1 --bf16 --compile --data "$names"

# 5. ONNX files, each compared with the reference or refused.
wav2small export "$run/student/best.safetensors" -o "$run/export" --name wav2small --version 1

# 6. The evaluation, on speech that neither teacher nor student has heard.
ravdess=$data/noncommercial/ravdess
[ -f "$run/teacher-ravdess.csv" ] || wav2small label "$ravdess" --teacher "$run/open.safetensors" --bf16 -o "$run/teacher-ravdess.csv"
[ -f "$run/opensmile.csv" ] || python "$(dirname "$0")/../benchmarks/opensmile_baseline.py" "$data" -o "$run/opensmile.csv"
wav2small evaluate "$run/opensmile.csv" "$run/teacher-ravdess.csv" "$run/export/wav2small.onnx" "$run/export/wav2small-int8.onnx" \
    --on "$ravdess" --json "$run/ravdess-norms.json"
wav2small evaluate "$run/export/wav2small.onnx" "$run/export/wav2small-int8.onnx" \
    --on "$ravdess" --truth "$run/teacher-ravdess.csv" --json "$run/ravdess-teacher.json"
wav2small evaluate "$run/export/wav2small.onnx" "$run/export/wav2small-int8.onnx" \
    --on "$open/emodb" --where fold=$dev_fold --truth norms --json "$run/emodb-norms.json"
