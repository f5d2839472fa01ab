#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Style and house rules: clang-format, the include ladder, rules for text, docs against the code, clang-tidy.
#
# usage: check.sh              all of it (clang-tidy reads build/release, which has to be configured)
#        check.sh --fast       all but clang-tidy: seconds
#        check.sh --changed    clang-tidy over files that differ from the branch main's last commit only
#        check.sh --fix        rewrite the formatting, then as --fast
set -euo pipefail
cd "$(dirname "$0")/.."

mode="${1:---all}"
case "$mode" in
  --all | --fast | --changed | --fix) ;;
  *) echo "check.sh: [command line] expected --fast, --changed, --fix or nothing, found '$mode'" >&2; exit 2 ;;
esac

failed=()
mapfile -t sources < <(git ls-files '*.cc' '*.h')
if [[ "$mode" == --fix ]]; then
  clang-format-14 -i "${sources[@]}"
else
  clang-format-14 --dry-run --Werror "${sources[@]}" || failed+=("clang-format (check.sh --fix rewrites)")
fi
for check in check_includes.py check_text.py check_errors.py; do
  python3 -B "scripts/$check" --self-test || failed+=("$check --self-test")
  python3 -B "scripts/$check" || failed+=("$check")
done

if [[ "$mode" == --all || "$mode" == --changed ]]; then
  if [[ ! -f build/release/compile_commands.json ]]; then
    echo "check.sh: clang-tidy needs compile commands: run cmake --preset release first" >&2
    failed+=("clang-tidy (not run)")
  else
    if [[ "$mode" == --changed ]]; then
      mapfile -t changed < <(git diff --name-only --diff-filter=d main -- 'src/*.cc' 'apps/*.cc')
    else
      mapfile -t changed < <(git ls-files 'src/*.cc' 'apps/*.cc')
    fi
    # The SIMD files and the LibTorch headers cost minutes each and say nothing about our code.
    tidy=()
    for file in "${changed[@]}"; do
      case "$file" in
        src/train/* | src/kernels/simd/* | *_test.cc | *_fuzz.cc) ;;
        *) tidy+=("$file") ;;
      esac
    done
    if (( ${#tidy[@]} > 0 )); then
      printf '%s\0' "${tidy[@]}" |
        xargs -0 -P "$(nproc)" -n 4 clang-tidy-14 --quiet -p build/release 2> >(grep -v 'warnings generated' >&2) ||
        failed+=("clang-tidy")
    fi
  fi
fi

if (( ${#failed[@]} > 0 )); then
  printf 'check.sh: FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "checks passed"
