#!/usr/bin/env bash
# Every student of the same teacher, trained alike: the same clips, labels and steps. What the paper compares.
#
#   WAV2SMALL_MODELS=models recipes/students.sh DATA RUN
#
# DATA and RUN as for recipes/open.sh, which has made the teacher, the clips and the labels there. 800 steps on the
# first 20,000 clips gave the table in docs/students.md; STEPS=4800 CLIPS=40000 is what `wav2small` itself learnt in.
# mobilenetv4-medium had 200 steps, for want of time (MEDIUM_STEPS). Each step goes on where it was stopped.
set -euo pipefail
data=$1 run=$2
here=$(dirname "$0")
steps=${STEPS:-800} medium_steps=${MEDIUM_STEPS:-200} clips=${CLIPS:-20000}
dev=(emodb emogator sdap librispeech speechocean arabic_commands)
given=$(printf -- "--dev $run/dev-%s.csv " "${dev[@]}")
names="EmoDB, EmoGator, SDAP, LibriSpeech, Picovoice speech-to-intent, speechocean762, Mycroft Precise, Arabic speech commands"
small=(wav2small-17k wav2small-running mobilenetv3-small mobilenetv4-small)
students=(wav2small micro "${small[@]}" mobilenetv3-large mobilenetv4-medium)
mkdir -p "$here/students"
head -n $((clips + 1)) "$run/labels.csv" > "$run/first.csv"

# 1. Train, and export, each held to its CCC. bfloat16 and compilation are faster for full-rate convolutions alone.
for student in "${students[@]}"; do
    faster=() so_many=$steps
    [[ $student == wav2small* ]] && faster=(--bf16 --compile)
    [[ $student == mobilenetv4-medium ]] && so_many=$medium_steps
    wav2small train "$run/first.csv" --root "$run/clips" $given --seed 1 --data "$names" --student "$student" \
        --steps "$so_many" -o "$run/alike/$student" "${faster[@]}"
    cp "$run/alike/$student/log.jsonl" "$here/students/$student-log.jsonl"
    [ -f "$run/students/$student.onnx" ] ||
        wav2small export "$run/alike/$student/best.safetensors" $given -o "$run/students" --name "$student" --version 1
done

# 2. What no other recipe makes better ships, where it is small enough; its CCC is that on the dev speakers.
for student in "${small[@]}"; do
    ccc=$(python -c 'import json, sys
line = json.loads(open(sys.argv[1]).readlines()[-1])
print(json.dumps({"dev speakers, teacher": {name: round(line[name], 3) for name in ("arousal", "dominance", "valence")}}))
' "$run/alike/$student/log.jsonl")
    wav2small export "$run/alike/$student/best.safetensors" --ship --name "$student" --version 1 --metadata "ccc=$ccc"
    for weights in "$here/../src/wav2small/data/$student"{,-int8}.onnx; do  # what their answers mean, beside them
        [ ! -f "$weights" ] || wav2small calibrate $(printf -- "$run/dev-%s.csv " "${dev[@]}") --model "$weights" -o "${weights%.onnx}.calibration.json"
    done
done

# 3. All in one run of the bench, with what ships and what else there is: for the README and docs/students.md.
others=("$run"/students/{wav2small,mobilenetv3-large,mobilenetv4-medium}{,-int8}.onnx)
others+=("$run"/students/{micro,mobilenetv3-small,mobilenetv4-small}.onnx)
wav2small bench wav2small micro "${small[@]}" "${others[@]}" --with teacher,opensmile,torch \
    --runs 7 --on "$data/noncommercial/ravdess" --truth "$run/teacher-ravdess.csv" --truth norms \
    --json "$here/open/bench.jsonl"
python "$here/table.py" "$here/open" "$here/../docs/bench.png"

# 4. What ships, by sex and by speaker, for the cards.
ships=({micro,wav2small,wav2small-17k,wav2small-running}{,:int8} mobilenetv{3,4}-small:int8)
scored=(--on "$data/noncommercial/ravdess" --by gender --by speaker)
wav2small evaluate "${ships[@]}" "${scored[@]}" --truth "$run/teacher-ravdess.csv" --json "$run/cards-teacher.json"
wav2small evaluate "${ships[@]}" "$run/teacher-ravdess.csv" "${scored[@]}" --truth norms --json "$run/cards-norms.json"
python "$here/cards.py" "$run"/cards-{teacher,norms}.json
