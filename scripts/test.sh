#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds and runs every check: style and include rules, fuzz targets on their corpora, the tests under
# sanitizers, then all tests optimised. Exit status 0 only if all of them passed.
#
# usage: test.sh            everything
#        test.sh --quick    the optimised tests only, without the real models
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
case "${1:-}" in
  "") ;;
  --quick) quick=true ;;
  *) echo "test.sh: expected nothing or --quick, found '$1'" >&2; exit 2 ;;
esac

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }
failed=()
# build PRESET: quiet unless it fails.
build() {
  cmake --preset "$1" >/dev/null
  cmake --build --preset "$1" | tail -n 1
}

step "packages"
scripts/setup.sh test

if ! $quick; then
  step "models"
  export GATESKIP_MODELS="${GATESKIP_MODELS:-$PWD/models}"
  for model in smollm2 gemma3; do
    scripts/fetch_model.sh "$model" || echo "WARNING: $model could not be fetched; its tests will be SKIPPED"
  done
fi

step "build release"
build release
step "checks"
scripts/check.sh || failed+=("checks")

if ! $quick; then
  step "fuzz targets on their corpora"
  build fuzz
  ctest --preset fuzz -j "$(nproc)" || failed+=("fuzz")
  step "tests with address and undefined-behaviour sanitizers"
  build asan
  ctest --preset asan -L quick -j "$(nproc)" || failed+=("asan")
fi

step "tests"
if (( ${#failed[@]} > 0 )); then
  # Shown before the last run, whose closing lines end the output; the exit status remembers.
  echo "FAILED so far: ${failed[*]}"
fi
labels=()
if $quick; then labels=(-L quick); fi
ctest --preset release "${labels[@]}" -j "$(nproc)" || failed+=("release")
(( ${#failed[@]} == 0 ))
