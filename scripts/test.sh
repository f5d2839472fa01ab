#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds, checks style and include rules, runs the fuzz targets on their corpora, then all tests. Exit status
# 0 only if everything passed; the closing lines are ctest's.
#
# usage: test.sh            everything, optimised, the real models and the fuzz targets too
#        test.sh --quick    the same without fuzz targets, real models and clang-tidy
#        test.sh --asan     the quick tests under the address and undefined-behaviour sanitizers instead
#        test.sh --tsan     the quick tests under the thread sanitizer instead
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

mode="${1:---all}"
case "$mode" in
  --all | --quick | --asan | --tsan) ;;
  *) echo "test.sh: [command line] expected --quick, --asan, --tsan or nothing, found '$mode'" >&2; exit 2 ;;
esac
if (( $# > 1 )); then echo "test.sh: [command line] expected one option, found $#" >&2; exit 2; fi

preset=release
filter=(-L quick)
failed=()
warnings=()
# A test that finds nothing to run has not passed.
run_tests() { ctest --preset "$@" --no-tests=error -j "$(nproc)"; }

stage "packages"
scripts/setup.sh test

case "$mode" in
  --asan) preset=asan ;;
  --tsan) preset=tsan ;;
  --all)
    stage "models"
    export GATESKIP_MODELS="${GATESKIP_MODELS:-$PWD/models}"
    if scripts/fetch_model.sh && scripts/fetch_model.sh --gemma; then
      filter=(-LE fuzz)
    else
      # Left out, not run and skipped inside: those would be counted as passed.
      filter=(-LE 'fuzz|real')
      warnings+=("SKIPPED: the tests on the real models (label real): a model could not be fetched, see above")
    fi
    ;;
esac

stage "build $preset"
build "$preset"

if [[ "$mode" == --all || "$mode" == --quick ]]; then
  stage "checks"
  if [[ "$mode" == --all ]]; then checks=(); else checks=(--fast); fi
  scripts/check.sh "${checks[@]}" || failed+=("checks")
fi
if [[ "$mode" == --all ]]; then
  stage "build fuzz"
  if build fuzz; then
    stage "fuzz targets on their corpora"
    run_tests fuzz -L fuzz || failed+=("fuzz")
  else
    failed+=("fuzz build")
  fi
fi

stage "tests ($preset)"
# Said before the last run, whose closing lines end the output; the exit status remembers.
for warning in "${warnings[@]}"; do printf '!! %s\n' "$warning" >&2; done
if (( ${#failed[@]} > 0 )); then printf '!! FAILED before the tests: %s\n' "${failed[*]}" >&2; fi
run_tests "$preset" "${filter[@]}" || failed+=("tests")
(( ${#failed[@]} == 0 ))
