#!/usr/bin/env bash
# What ships, measured: one run of the bench, answers to distorted clips, tables and pictures, and the cards.
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
added=(--noise "$data/open/noise" --rooms "$data/open/rooms")
distorted=(--on "$ravdess" --where text=s01 --where extra=rep=01 --where intensity=normal "${added[@]}")
main=(micro micro:int8 micro-l wav2small)
wav2small robustness "${main[@]}" teacher:open "${distorted[@]}" \
    -o "$run/robustness.json" --plot "$here/../docs/robustness.png"
wav2small robustness "${main[@]}" --on "$data/open/emodb" --where fold=0 "${added[@]}" -o "$run/robustness-emodb.json"
wav2small robustness wav2small-17k wav2small-running mobilenetv{3,4}-small:int8 "${distorted[@]}" \
    --conditions noise:10,noise:0,babble:10,mulaw:8k,opus:12k,reverb:0.8,speed:1.25,packets,cut:1 \
    -o "$run/robustness-others.json"
python "$here/robustness.py" "$run"/robustness{,-emodb,-others}.json
python "$here/table.py" "$here/../docs/bench.png"
ships=({micro,micro-l,wav2small,wav2small-17k,wav2small-running}{,:int8} mobilenetv{3,4}-small:int8)
scored=(--on "$ravdess" --by gender --by speaker)
wav2small evaluate "${ships[@]}" "${scored[@]}" --truth "$run/teacher-ravdess.csv" -o "$run/cards-teacher.json"
wav2small evaluate "${ships[@]}" "$run/teacher-ravdess.csv" "${scored[@]}" --truth norms -o "$run/cards-norms.json"
python "$here/cards.py" "$run"/cards-{teacher,norms}.json
