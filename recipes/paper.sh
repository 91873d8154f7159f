#!/usr/bin/env bash
# The paper: the teacher `paper`, its labels, Wav2Small and the MobileNets trained on these labels only, and their CCC
# with human annotation on MSP-Podcast Test-1 and Test-2, and on IEMOCAP, which is not used for training.
#
#   WAV2SMALL_MODELS=models recipes/paper.sh MSP IEMOCAP RUN [AUDIO...]
#   recipes/paper.sh --rehearse [RUN]
#
# MSP and IEMOCAP are the corpora as their owners distribute them (docs/corpora.md). AUDIO are further folders of sound
# without annotation; the paper has AudioSet, noise and films. The teacher's two networks come from the hub, or from the
# folder WAV2SMALL_MODELS. RUN gets everything that is made; every step goes on where it was stopped.
# 200,000 clips are 167 hours: about 30 GB on disk, and 19 GB of memory while a student learns. CLIPS, STEPS and STUDENTS
# change what is made; the paper does not say how much of either it had, but for "50M steps".
# --rehearse is all of it in small: made-up corpora, random teachers, a few steps. Its table means nothing.
# Needs pip install 'wav2small[train,mobilenet]'.
set -euo pipefail
here=$(dirname "$0")
if [ "${1:-}" = --rehearse ]; then
    rehearsal=${2:-$(mktemp -d)}
    export WAV2SMALL_MODELS=$rehearsal/models
    python "$here/rehearsal/corpora.py" "$rehearsal/corpora"
    python "$here/rehearsal/tiny_teachers.py" "$WAV2SMALL_MODELS"
    CLIPS=${CLIPS:-64} STEPS=${STEPS:-2} STUDENTS=${STUDENTS:-wav2small mobilenetv4-small}
    set -- "$rehearsal/corpora/msp-podcast" "$rehearsal/corpora/iemocap" "$rehearsal/run" "$rehearsal/corpora/audio"
fi
[ $# -ge 3 ] || { sed -n '5,6s/^# *//p' "$0" >&2; exit 2; }
msp=$1 iemocap=$2 run=$3
audio=("${@:4}")
read -ra students <<< "${STUDENTS:-wav2small wav2small-17k mobilenetv3-small mobilenetv3-large mobilenetv4-small mobilenetv4-medium}"
mkdir -p "$run"
exported=()

# 1. Manifests, and what the folders lack.
manifest() {  # NAME FOLDER TABLE [OPTION...]
    [ -f "$run/$3" ] || wav2small corpus "$1" "$2" -o "$run/$3" --report "$run/lacks-$3" "${@:4}"
}
manifest msp-podcast "$msp" msp.csv
manifest iemocap "$iemocap" iemocap.csv --fold session
manifests=("$run/msp.csv")
for number in "${!audio[@]}"; do
    manifest plain "${audio[$number]}" "audio-$number.csv"
    manifests+=("$run/audio-$number.csv")
done

# 2. New clips of the training speakers and of all other audio, a quarter of them mixtures: undistorted for the teacher,
#    and distorted for the students.
draw=(wav2small augment "${manifests[@]}" --where split=train --clips "${CLIPS:-200000}" --seed 1)
"${draw[@]}" -o "$run/plain" --plain
"${draw[@]}" -o "$run/clips"

# 3. The teacher's labels of those; of a fifth of the dev speakers, by which weights are chosen; and of the tests, to be
#    scored too.
labels() {  # MANIFEST TABLE [OPTION...]
    [ -f "$run/$2" ] || wav2small label "$1" --teacher paper --bf16 -o "$run/$2" "${@:3}"
}
labels "$run/plain" labels.csv
labels "$run/msp.csv" dev.csv --where split=dev --where fold=0
labels "$run/msp.csv" teacher-msp.csv --where split=test1 --where split=test2
labels "$run/iemocap.csv" teacher-iemocap.csv

# 4. Students, and ONNX files of them, each compared with what was trained, or refused.
for student in "${students[@]}"; do
    wav2small train "$run/labels.csv" --root "$run/clips" --dev "$run/dev.csv" -o "$run/$student" --student "$student" \
        --steps "${STEPS:-100000}" --seed 1 --data "MSP-Podcast${audio[*]:+ and other audio}"
    [ -f "$run/export/$student.onnx" ] || wav2small export "$run/$student/best.safetensors" --name "$student" --version 1 \
        --dev "$run/dev.csv" -o "$run/export"
    exported+=("$run/export/$student.onnx" "$run/export/$student-int8.onnx")
done

# 5. CCC against people's annotation.
score() {  # TABLE OF THE TEACHER, MANIFEST, NAME [OPTION...]
    wav2small evaluate "$run/$1" "${exported[@]}" --on "$run/$2" --truth manifest -o "$run/$3.json" "${@:4}" > "$run/$3.txt"
}
score teacher-msp.csv msp.csv test1 --where split=test1
score teacher-msp.csv msp.csv test2 --where split=test2
score teacher-iemocap.csv iemocap.csv iemocap
python "$here/paper_table.py" "$run" | tee "$run/table.md"
[ -z "${rehearsal:-}" ] || echo "Rehearsed in $SECONDS s, of made-up corpora and random teachers: $rehearsal"
