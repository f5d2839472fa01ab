#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian 12 packages that are missing, and nothing else. Takes no time when all are there.
#
# usage: setup.sh build     what the program needs to be built
#        setup.sh test      that, and what the tests, the trainer and the checks need
set -euo pipefail

build_packages=(ca-certificates ccache cmake g++ libcli11-dev libfmt-dev libutf8proc-dev ninja-build
                nlohmann-json3-dev python3 python3-pip)
test_packages=(clang-14 clang-format-14 clang-tidy-14 git libclang-rt-14-dev libgmock-dev libgtest-dev libtorch-dev)

packages=("${build_packages[@]}")
case "${1:-build}" in
  build) ;;
  test) packages+=("${test_packages[@]}") ;;
  *) echo "setup.sh: expected build or test, found '$1'" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: not a Debian system; install the equivalents of: ${packages[*]}" >&2
  exit 0
fi
missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" == "install ok installed" ]] || missing+=("$package")
done
(( ${#missing[@]} == 0 )) && exit 0

as_root=()
if (( EUID != 0 )); then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: expected to run as root or with sudo, found neither; install: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing ${missing[*]}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# The package lists may be absent or old: try, refresh, try again.
install || { "${as_root[@]}" apt-get update >"$log" 2>&1 && install; } || {
  tail -n 20 "$log" >&2
  echo "setup.sh: apt-get could not install ${missing[*]}; see above" >&2
  exit 1
}
