#!/usr/bin/env bash
# The weights that ship: teacher `open`, its labels, and the students `wav2small` and `micro`, from open audio only.
#
#   WAV2SMALL_MODELS=models recipes/open.sh DATA RUN
#
# DATA holds the folders open/emodb, open/emogator, ... of the table in docs/data.md, each with a manifest.csv, and
# noncommercial/ravdess for the evaluation. RUN gets everything that is made, about 9 GB. Two hours on two cores; every
# step goes on where it was stopped. Needs `pip install wav2small[dev]`: the baseline is openSMILE, whose licence is not
# commercial.
set -euo pipefail
data=$1 run=$2
open=$data/open
clips=${CLIPS:-40000} steps=${STEPS:-4800} micro_steps=${MICRO_STEPS:-10000} integer_steps=${INTEGER_STEPS:-1500}
dev_fold=0
mkdir -p "$run"

# 1. The teacher's heads, on what has categories: EmoDB, the same in other voices, and bursts. Out come five heads, each
#    fitted without a fifth of the speakers.
[ -f "$run/emodb-voices/manifest.csv" ] || wav2small resynthesise "$open/emodb" -o "$run/emodb-voices" --variants 4 --seed 1
[ -f "$run/open.safetensors" ] || wav2small fit "$open/emodb,$run/emodb-voices" "$open/emogator" \
    -o "$run/open.safetensors" --name open --version 2 --copies 0 --cache "$run/statistics"

# 2. New clips, without the dev speakers. A corpus named three times is drawn three times as often: EmoDB is the only
#    acted speech, and small.
#    Each is made twice: as the teacher hears it, and distorted, as the students do.
draw=(wav2small augment "$open"/{emodb,emodb,emodb,emogator,sdap,sdap,librispeech,picovoice,speechocean,mycroft,arabic_commands}
    --clips "$clips" --without-fold $dev_fold --seed 1)
"${draw[@]}" -o "$run/plain" --plain
"${draw[@]}" -o "$run/clips"

# 3. The teacher labels the former, with its embedding; and the dev speakers' clips as they were recorded.
[ -f "$run/labels.csv" ] || wav2small label "$run/plain" --teacher "$run/open.safetensors" --bf16 --embed -o "$run/labels.csv"
dev=(emodb emogator sdap librispeech speechocean arabic_commands)
for corpus in "${dev[@]}"; do
    [ -f "$run/dev-$corpus.csv" ] || wav2small label "$open/$corpus" --where fold=$dev_fold \
        --teacher "$run/open.safetensors" --bf16 -o "$run/dev-$corpus.csv"
done

# 4. The students learn from those labels alone.
names="EmoDB, EmoGator, SDAP, LibriSpeech, Picovoice speech-to-intent, speechocean762, Mycroft Precise, Arabic speech commands"
learn=(wav2small train "$run/labels.csv" --root "$run/clips" $(printf -- "--dev $run/dev-%s.csv " "${dev[@]}") --seed 1 --data "$names")
"${learn[@]}" -o "$run/student" --steps "$steps" --bf16 --compile
"${learn[@]}" -o "$run/micro" --student micro --steps "$micro_steps"
"${learn[@]}" -o "$run/micro-int8" --student micro-int8 --from "$run/micro/best.safetensors" \
    --steps "$integer_steps" --learning-rate 1e-3

# 5. ONNX files, each compared with the reference and with the CCC of its training, or refused.
exported=(wav2small export $(printf -- "--dev $run/dev-%s.csv " "${dev[@]}") -o "$run/export")
"${exported[@]}" --name wav2small --version 3 "$run/student/best.safetensors"
"${exported[@]}" --name micro --version 2 "$run/micro/best.safetensors"
"${exported[@]}" --name micro --version 2 "$run/micro-int8/best.safetensors"

# 6. The evaluation, on speech that neither teacher nor student has heard.
ravdess=$data/noncommercial/ravdess
[ -f "$run/teacher-ravdess.csv" ] || wav2small label "$ravdess" --teacher "$run/open.safetensors" --bf16 -o "$run/teacher-ravdess.csv"
[ -f "$run/opensmile.csv" ] || python "$(dirname "$0")/../benchmarks/opensmile_baseline.py" "$data" -o "$run/opensmile.csv"
students=("$run"/export/{wav2small,wav2small-int8,micro,micro-int8}.onnx)
wav2small evaluate "$run/opensmile.csv" "$run/teacher-ravdess.csv" "${students[@]}" --on "$ravdess" --json "$run/ravdess-norms.json"
wav2small evaluate "${students[@]}" --on "$ravdess" --truth "$run/teacher-ravdess.csv" --json "$run/ravdess-teacher.json"
wav2small evaluate "${students[@]}" --on "$open/emodb" --where fold=$dev_fold --truth norms --json "$run/emodb-norms.json"
