#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a bare Debian 12 to the main job: installs what is missing, builds, fetches the model, and shows the same model
# ungated and at four budgets. Run it again: it takes as long as the measurement.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

models="${GATESKIP_MODELS:-models}"
model="$models/SmolLM2-135M-Instruct.Q4_1.gguf"
adapter=adapters/smollm2-135m-instruct
gateskip=build/quickstart/apps/gateskip

stage "1/4 packages"
scripts/setup.sh build
stage "2/4 build"
build quickstart --target gateskip
stage "3/4 model"
scripts/fetch_model.sh
stage "4/4 the same model, ungated and gated"
"$gateskip" bench --table -m "$model" --adapter "$adapter" --budgets 0,0.15,0.25,0.5 --repetitions 3 \
  --text tests/data/sample_text.txt --prompt "What is the capital of France, and what is it known for?"
stage_end
cat >&2 <<END

Next:
  $gateskip chat -m $model --adapter $adapter --budget 0.15
  $gateskip --help
END
