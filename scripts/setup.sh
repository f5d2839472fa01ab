#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian 12 packages that are missing, and nothing else. Takes no time when all are there.
#
# usage: setup.sh build     what the program needs to be built
#        setup.sh test      that, and what the tests, the trainer, the benchmarks and the checks need
#
# GATESKIP_SETUP=skip leaves the system alone: for machines whose compilers and libraries come from elsewhere.
set -euo pipefail

build_packages=(ca-certificates ccache cmake g++ libboost-dev libcli11-dev libfmt-dev libre2-dev libtomlplusplus-dev
                libutf8proc-dev ninja-build nlohmann-json3-dev prometheus-cpp-dev python3 python3-pip)
test_packages=(clang-14 clang-format-14 clang-tidy-14 git libbenchmark-dev libclang-rt-14-dev libgmock-dev
               libgloo-dev libgtest-dev libtorch-dev valgrind)

packages=("${build_packages[@]}")
case "${1:-build}" in
  build) ;;
  test) packages+=("${test_packages[@]}") ;;
  *) echo "setup.sh: expected build or test, found '$1'" >&2; exit 2 ;;
esac
[[ "${GATESKIP_SETUP:-}" == skip ]] && exit 0

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup.sh: not a Debian system: nothing is installed here; it needs the equivalents of ${packages[*]}" >&2
  exit 0
fi
# One query for all; a package nobody knows of has no line, a removed one is not "installed".
installed="$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)"
missing=()
for package in "${packages[@]}"; do
  grep -qxF "installed $package" <<<"$installed" || missing+=("$package")
done
(( ${#missing[@]} == 0 )) && exit 0

as_root=()
if (( EUID != 0 )); then
  if ! command -v sudo >/dev/null; then
    {
      echo "setup.sh: expected to run as root or with sudo, found neither. Ask for these packages:"
      echo "  apt-get install ${missing[*]}"
      echo "or set GATESKIP_SETUP=skip if their contents are installed some other way."
    } >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing ${missing[*]}" >&2
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >>"$log" 2>&1 </dev/null; }
install() { apt install -y --no-install-recommends "${missing[@]}"; }
# The package lists may be absent or old: try, refresh, try again.
install || { apt update && install; } || {
  tail -n 20 "$log" >&2
  echo "setup.sh: apt-get could not install ${missing[*]}: see the lines above" >&2
  exit 1
}
