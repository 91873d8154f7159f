#!/usr/bin/env bash
# A teacher like Dawn, for one GPU of 24 GB: twelve layers of a large body, pretrained on the task's speech and fine-tuned.
#
#   recipes/teacher.sh MANIFEST OUTPUT.safetensors [BODY] [LICENCE]
#
# MANIFEST has arousal, dominance and valence and a split train, dev or test (wav2small corpus writes it for MSP-Podcast).
# Any command that was stopped goes on when the script is run again.
set -euo pipefail

manifest=${1:?a manifest with annotations}
output=${2:?the file of the teacher}
body=${3:-facebook/wav2vec2-large-robust}
licence=${4:-CC-BY-NC-4.0} # of what it is fitted on: labels bear it, and weights that learn from them

wav2small finetune "$manifest" -o "$output" --name "$(basename "$output" .safetensors)" --licence "$licence" \
  --body "$body" --layers 12 --pooling mean \
  --adapt p-tapt --clusters 64,512,4096 --adapt-steps 20000 \
  --steps 20000 --batch-size 32 --learning-rate 5e-5 --layer-decay 0.9 \
  --bf16 --checkpointing --workers 8 --cache build/teacher

wav2small evaluate "teacher:$output" --on "$manifest" --where split=test1 -o "${output%.safetensors}-test1.json"
