#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Style and house rules: clang-format, the include ladder, text rules, clang-tidy (needs build/release configured).
#
# usage: check.sh            all of it
#        check.sh --fix      rewrite the formatting, then check the rest
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t sources < <(git ls-files '*.cc' '*.h')
if [[ "${1:-}" == "--fix" ]]; then
  clang-format-14 -i "${sources[@]}"
else
  clang-format-14 --dry-run --Werror "${sources[@]}"
fi
for check in scripts/check_includes.py scripts/check_text.py; do
  python3 "$check" --self-test
  python3 "$check"
done
if [[ -f build/release/compile_commands.json ]]; then
  # The SIMD files and the LibTorch headers cost minutes each and say nothing about our code.
  git ls-files 'src/*.cc' 'apps/*.cc' | grep -v -e '^src/train/' -e '^src/kernels/simd/' -e '_test.cc$' -e '_fuzz.cc$' |
    xargs -P "$(nproc)" -n 4 clang-tidy-14 --quiet -p build/release 2> >(grep -v 'warnings generated' >&2)
fi
echo "checks passed"
