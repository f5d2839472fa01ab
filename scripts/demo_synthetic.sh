#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A synthetic task from nothing: problems, a model that solves them, gates for it, thresholds. Needs no data but the
# model that scripts/fetch_model.sh fetches. Interrupted, it goes on where it stopped when it is called again.
# docs/synthetic.md explains the recipe.
#
# usage: demo_synthetic.sh [TASK] [WORK]     TASK: addition (default), sorting, lookup or mixed; WORK: runs/TASK
set -euo pipefail
if (( $# > 2 )); then
  echo "demo_synthetic.sh: [command line] arguments: expected at most TASK and WORK, found $#" >&2
  exit 2
fi
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

task="${1:-addition}"
work="${2:-runs/$task}"
base="${GATESKIP_MODELS:-models}/SmolLM2-135M-Instruct.Q4_1.gguf"
gateskip="${GATESKIP_BINARY:-build/release/apps/gateskip}"
case "$task" in  # tokens of the longest problem with its solution
  addition) length=42 ;;
  sorting) length=60 ;;
  lookup) length=60 ;;
  mixed) length=80 ;;
  *)
    echo "demo_synthetic.sh: [command line] TASK: expected addition, sorting, lookup or mixed, found '$task'" >&2
    exit 2
    ;;
esac
mkdir -p "$work"

stage "1/4 problems"
for split in train test; do
  file="$work/${task}_$split.jsonl"
  [[ -f "$file" ]] && continue
  examples=20000
  [[ "$split" == test ]] && examples=500
  "$gateskip" data --synthetic "$task" --split "$split" --examples "$examples" --seed 1 -o "$file"
done

# train NAME BASE OPTIONS: one run into $work/NAME, its model beside it; nothing if it has ended.
train() {
  local name="$1" from="$2"
  shift 2
  [[ -f "$work/$name/adapter/adapter_config.json" ]] && return  # written last
  "$gateskip" train -m "$from" -f "$work/${task}_train.jsonl" --pair-format raw --packing none \
    --sequence-length "$length" --batch 24 --warmup 10 --train-base 'blk\..*' --base-lr 3e-4 --lora-rank 0 \
    --kl-weight 0 --ce-weight 1 --loss-positions 1 --run "$work/$name" --resume --adapter "$work/$name/adapter" \
    --trained-model "$work/$name.gguf" "$@"
}

stage "2/4 the model learns the task"
train dense "$base" --steps 140 --dense-every 1 --skip-rank -1 --no-prior --gate-lr 0 --gate-bias-lr 0
stage "3/4 gates, and the model once more with them"
train gated "$work/dense.gguf" --steps 160 --min-budget 0.05 --max-budget 0.55 --dense-every 8 --noise 0.5 \
  --skip-rank 0 --fit-sequences 48 --essential-rise 1e9 --prior-sequences 12 --prior-step 0.1 --prior-candidates 8
stage "4/4 thresholds"
"$gateskip" calibrate -m "$work/gated.gguf" --adapter "$work/gated/adapter" -f "$work/${task}_train.jsonl" \
  --windows documents --pair-format raw -c 128 --tokens 4096 --budgets 0.15,0.25,0.35,0.5
stage_end
