#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a bare Debian 12 to the main job: installs what is missing, builds, fetches the model, and shows the same model
# ungated and at four budgets. Run it again: it takes as long as the measurement.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS" >&2; }

step "1/4 packages"
scripts/setup.sh build
step "2/4 build"
if [[ ! -f build/quickstart/build.ninja ]]; then cmake --preset quickstart >/dev/null; fi
cmake --build --preset quickstart --target gateskip
step "3/4 model"
scripts/fetch_model.sh smollm2
step "4/4 the same model, ungated and gated"
build/quickstart/apps/gateskip bench --table \
  -m "${GATESKIP_MODELS:-models}/SmolLM2-135M-Instruct.Q4_1.gguf" \
  --adapter adapters/smollm2-135m-instruct --budgets 0,0.15,0.25,0.5 \
  --repetitions 3 --text tests/data/sample_text.txt --prompt "What is the capital of France, and what is it known for?"
cat >&2 <<'END'

Next:
  build/quickstart/apps/gateskip chat -m models/SmolLM2-135M-Instruct.Q4_1.gguf --adapter adapters/smollm2-135m-instruct --budget 0.15
  build/quickstart/apps/gateskip --help
END
