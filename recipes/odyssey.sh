#!/usr/bin/env bash
# Weights from a state-of-the-art teacher, in a few hours on one GPU: the MIT-licensed `odyssey` labels any folders of
# audio, and all students of the paper are distilled online at the same time, without storing clips or labels.
#
#   recipes/odyssey.sh RUN AUDIO...
#   recipes/odyssey.sh --rehearse [RUN]
#
# AUDIO are folders of sound, such as Common Voice or AudioSet; a tenth part of a folder's name may be the speaker's
# (docs/corpora.md, plain). The teacher comes from the hub, or from the folder WAV2SMALL_MODELS. The weights have the
# licence of the teacher and of what it was trained on: odyssey's is MIT, and its corpus, MSP-Podcast, is for research;
# read docs/teachers.md before you ship them. STUDENTS, STEPS, BATCH and DEVICE change what is made.
# --rehearse is all of it in small, on a processor: made-up audio, a random teacher, a few steps.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" = --rehearse ]; then
    rehearsal=${2:-$(mktemp -d)}
    export WAV2SMALL_MODELS=$rehearsal/models
    python "$here/rehearsal/corpora.py" "$rehearsal/corpora"
    python "$here/rehearsal/tiny_teachers.py" "$WAV2SMALL_MODELS"
    STUDENTS=${STUDENTS:-wav2small micro} STEPS=${STEPS:-2} BATCH=${BATCH:-8} GROUP=${GROUP:-4} DEVICE=cpu
    set -- "$rehearsal/run" "$rehearsal/corpora/audio"
fi
[ $# -ge 2 ] || { sed -n '5,6s/^# *//p' "$0" >&2; exit 2; }
run=$1
mkdir -p "$run"
students=(${STUDENTS:-wav2small wav2small-17k wav2small-running micro micro-l
    mobilenetv3-small mobilenetv3-large mobilenetv4-small mobilenetv4-medium})

# 1. A manifest for each folder; fold 0 is the dev speakers.
corpora=()
for folder in "${@:2}"; do
    table=$run/$(basename "$folder").csv
    [ -f "$table" ] || wav2small corpus plain "$folder" -o "$table" --report "$run/lacks-$(basename "$folder").csv"
    corpora+=("$table")
done

# 2. All students from the same batches.
wav2small distil "${corpora[@]}" --teacher odyssey $(printf -- "--student %s " "${students[@]}") -o "$run/students" \
    --steps "${STEPS:-60000}" --batch-size "${BATCH:-256}" --group-size "${GROUP:-32}" --device "${DEVICE:-cuda}" --seed 1

# 3. ONNX files, each compared with what was trained, or refused.
for student in "${students[@]}"; do
    [ -f "$run/export/$student.onnx" ] || wav2small export "$run/students/$student.safetensors" --name "$student" \
        --version 1 --dev "$run/students/dev.csv" -o "$run/export"
done
[ -z "${rehearsal:-}" ] || echo "Rehearsed in $SECONDS s, of made-up audio and a random teacher: $rehearsal"
