#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The table of docs/synthetic.md for one task and one seed: the second training once for the gates and once for every
# rival, on the same tokens, each measured on the same test problems. Interrupted, it goes on where it stopped.
# Writes docs/results/synthetic/TASK_SEED.json; scripts/gen_synthetic_docs.py makes the tables of them.
#
# usage: synthetic_table.sh TASK SEED [ROW...]
#   ROW: gated static static15 static25 static35 static50 exit mod skiplayer; all of them unless some are named.
#   The seed draws the order of the problems and the noise of the second training; the model it starts from is that of
#   demo_synthetic.sh.
# environment: SYNTHETIC_WORK (runs/TASK), SYNTHETIC_TRAIN_OPTIONS (such as "-t 1"), SYNTHETIC_LIMIT (test problems, 300)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh
# shellcheck source=scripts/synthetic_recipe.sh
. scripts/synthetic_recipe.sh

if (( $# < 2 )) || ! [[ "$2" =~ ^[0-9]{1,6}$ ]]; then
  echo "synthetic_table.sh: [command line] arguments: expected TASK SEED [ROW...], found '$*'" >&2
  exit 2
fi
recipe "$1" "${SYNTHETIC_WORK:-runs/$1}"
seed="$2"
rows=("${@:3}")
if (( ${#rows[@]} == 0 )); then rows=(gated static static15 static25 static35 static50 exit mod skiplayer); fi
for row in "${rows[@]}"; do
  case "$row" in
    gated | static | static15 | static25 | static35 | static50 | exit | mod | skiplayer) ;;
    *)
      echo "synthetic_table.sh: [command line] ROW: expected one of the usage's, found '$row'" >&2
      exit 2
      ;;
  esac
done
read -ra train_options <<< "${SYNTHETIC_TRAIN_OPTIONS:-}"
options=(--seed "$seed" "${train_options[@]}")
budgets=0.15,0.25,0.35,0.5

# measure NAME EVAL-OPTIONS: exact match on the test problems, into $work/NAME/eval.
measure() {
  "$gateskip" eval -m "$work/$1.gguf" --task "synthetic_$task=$work" --limit "${SYNTHETIC_LIMIT:-300}" -o "$work/$1/eval" "${@:2}" >&2
}

stage "problems, and the model that learns the task"
problems
train_dense
for row in "${rows[@]}"; do
  name="seed$seed/$row"
  stage "$task, seed $seed: $row"
  case "$row" in
    gated) train_gated "$name" "${options[@]}" ;;
    static) second "$name" --preset static-pruning --skip-rank 0 "${every_budget[@]}" "${options[@]}" ;;
    static*)
      budget="0.${row#static}"
      second "$name" --preset static-pruning --skip-rank 0 --min-budget "$budget" --max-budget "$budget" --dense-every 0 \
        "${options[@]}"
      ;;
    exit) second "$name" --preset early-exit "${every_budget[@]}" "${options[@]}" ;;
    *) second "$name" --preset "$row" "${every_budget[@]}" "${options[@]}" ;;
  esac
  arm=(--arm "$row=gates@$work/$name/adapter")
  case "$row" in
    exit)
      measure "$name" --policy early-exit --calibration "$work/${task}_train.jsonl" --windows documents \
        --pair-format raw --budget "0,$budgets"
      ;;
    static?*)
      # A model pruned for one budget works with exactly the branches it was healed without: all the sets around it are
      # measured, and the table takes the one that does best.
      around="$(awk -v b="$budget" 'BEGIN { for (i = -3; i <= 5; ++i) printf "%s%.2f", i > -3 ? "," : "", b + i / 100 }')"
      thresholds "$name" "$around"
      measure "$name" "${arm[@]}" --budget "$around"
      ;;
    *)
      thresholds "$name" "$budgets"
      measure "$name" "${arm[@]}" --budget "0,$budgets"
      ;;
  esac
done
stage_end
python3 -B scripts/gen_synthetic_docs.py --collect "$work/seed$seed" "$task" "$seed"
