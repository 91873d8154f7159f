#!/usr/bin/env bash
# What ships, measured: one run of the bench, its tables and picture, and the cards.
#
#   WAV2SMALL_MODELS=models recipes/measure.sh DATA RUN
#
# DATA and RUN as for recipes/open.sh. ONNX files in RUN/students, which recipes/students.sh makes, are measured beside.
set -euo pipefail
data=$1 run=$2
here=$(dirname "$0")
ravdess=$data/noncommercial/ravdess
students=(wav2small micro micro-l wav2small-17k wav2small-running mobilenetv3-small mobilenetv4-small)
shopt -s nullglob
wav2small bench "${students[@]}" "$run"/students/*.onnx --with teacher,opensmile,torch \
    --runs 7 --on "$ravdess" --truth "$run/teacher-ravdess.csv" --truth norms -o "$here/open/bench.jsonl"
python "$here/table.py" "$here/../docs/bench.png"
ships=({micro,micro-l,wav2small,wav2small-17k,wav2small-running}{,:int8} mobilenetv{3,4}-small:int8)
scored=(--on "$ravdess" --by gender --by speaker)
wav2small evaluate "${ships[@]}" "${scored[@]}" --truth "$run/teacher-ravdess.csv" -o "$run/cards-teacher.json"
wav2small evaluate "${ships[@]}" "$run/teacher-ravdess.csv" "${scored[@]}" --truth norms -o "$run/cards-norms.json"
python "$here/cards.py" "$run"/cards-{teacher,norms}.json
