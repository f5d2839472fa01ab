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
# shellcheck source=scripts/synthetic_recipe.sh
. scripts/synthetic_recipe.sh

recipe "${1:-addition}" "${2:-runs/${1:-addition}}"
stage "1/4 problems"
problems
stage "2/4 the model learns the task"
train_dense
stage "3/4 gates, and the model once more with them"
train_gated gated
stage "4/4 thresholds"
thresholds gated 0.15,0.25,0.35,0.5
stage_end
