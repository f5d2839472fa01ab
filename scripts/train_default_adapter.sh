#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes adapters/smollm2-135m-instruct: the model writes text, the gates are trained, the thresholds calibrated.
# Interrupted, it goes on where it stopped when it is called again. docs/training.md explains the recipe.
#
# usage: train_default_adapter.sh DATA [WORK]     DATA: the public text (docs/training.md); WORK: default runs/default
set -euo pipefail
if (( $# < 1 || $# > 2 )); then
  echo "train_default_adapter.sh: [command line] DATA: expected a folder with the training text, found $# arguments" >&2
  exit 2
fi
data="$(realpath "$1")"
cd "$(dirname "$0")/.."
work="${2:-runs/default}"
model="${GATESKIP_MODELS:-models}/SmolLM2-135M-Instruct.Q4_1.gguf"
adapter="${GATESKIP_ADAPTER_OUT:-adapters/smollm2-135m-instruct}"
gateskip="${GATESKIP_BINARY:-build/release/apps/gateskip}"
mkdir -p "$work"

again=()
[[ -f "$work/self.jsonl" ]] && again=(--resume)
"$gateskip" data -m "$model" -o "$work/self.jsonl" --tokens 120000 --temp 0.8 --top-p 0.95 --seed 1 -t 1 "${again[@]}"

"$gateskip" train -m "$model" --run "$work/train" --resume --adapter "$adapter" -t 2 --steps 500 --seed 1 \
  --preset fast-cpu --loss-on-prompts \
  -f "$work/self.jsonl@4" -f "$data/gsm8k/train.jsonl@2.5" -f "$data/wikitext-2/valid.txt@1.5@0-0.9" \
  -f "$data/classic-books/Middlemarch.md@2" \
  --heldout "$data/wikitext-2/valid.txt@1@0.9-1" --heldout "$data/gsm8k/test.jsonl" \
  --heldout "$data/classic-books/Emma.md"

"$gateskip" calibrate -m "$model" --adapter "$adapter" --tokens 24576 \
  -f "$work/self.jsonl" -f "$data/gsm8k/train.jsonl" -f "$data/wikitext-2/valid.txt" \
  -f "$data/classic-books/Middlemarch.md"
