#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the library into a temporary prefix, builds the consumer against it, runs it, and checks that what was
# installed names neither LibTorch nor a path of the source or build folder.
#
# usage: install_consumer_test.sh CMAKE BUILD_FOLDER SOURCE_FOLDER VERSION GENERATOR CXX CXX_FLAGS BUILD_TYPE
set -euo pipefail
cmake="$1" build="$2" source="$3" version="$4" generator="$5" cxx="$6" flags="$7" type="$8"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --component development --prefix "$work/prefix" >"$work/log"
# A prefix that moved is found all the same.
mv "$work/prefix" "$work/moved"
if grep -rlE -e "$source|$build|[Tt]orch" "$work/moved" --include='*.cmake' --include='*.h'; then
  echo "install_consumer: expected no LibTorch and no path of the build in what is installed, found the files above" >&2
  exit 1
fi
# Warnings as errors are the consumer's own choice: the public headers have to stand them.
"$cmake" -S "$source/tests/consumer" -B "$work/build" -G "$generator" -DCMAKE_PREFIX_PATH="$work/moved" \
  -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE="$type" \
  -DCMAKE_CXX_FLAGS="$flags -Wall -Wextra -Wconversion -Wshadow -Werror" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
"$cmake" --build "$work/build" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
cd "$work"
found="$("$work/build/consumer")"
if [[ "$found" != "$version" ]]; then
  echo "install_consumer: expected version $version, found '$found'" >&2
  exit 1
fi
if ldd "$work/build/consumer" | grep -i torch; then
  echo "install_consumer: expected a program without LibTorch, found the libraries above" >&2
  exit 1
fi
echo "consumer of version $found built and run"
