# SPDX-License-Identifier: Apache-2.0
# What quickstart.sh and test.sh share: stages with their times, and builds that are quiet unless they fail.
# Sourced from the repository's root.

stage_name=""
stage_start=0

stage_end() {
  if [[ -n "$stage_name" ]]; then printf '== %s: %d s\n' "$stage_name" "$((SECONDS - stage_start))" >&2; fi
  stage_name=""
}

# stage NAME: closes the stage before with its time, and opens this one.
stage() {
  stage_end
  stage_name="$1"
  stage_start=$SECONDS
  printf '\n== %s\n' "$1" >&2
}

# build PRESET [ARGUMENTS of cmake --build]: on a terminal ninja's one moving line, elsewhere the last line only.
build() {
  local preset="$1" log
  shift
  mkdir -p "build/$preset"
  log="build/$preset/build.log"
  # Configure once, and again when the presets changed; ninja itself notices changed CMakeLists.txt.
  if [[ ! -f "build/$preset/build.ninja" || CMakePresets.json -nt "build/$preset/build.ninja" ]]; then
    if ! cmake --preset "$preset" >"$log" 2>&1; then
      cat "$log" >&2
      return 1
    fi
    touch "build/$preset/build.ninja"
  fi
  # As many jobs as cores: a file that includes LibTorch takes 1 to 2 GB to compile.
  local jobs
  jobs="$(nproc)"
  if [[ -t 1 ]]; then
    cmake --build --preset "$preset" -j "$jobs" "$@"
  elif cmake --build --preset "$preset" -j "$jobs" "$@" >"$log" 2>&1; then
    tail -n 1 "$log"
  else
    grep -v '^\[[0-9]*/[0-9]*\] \(Building\|Linking\)' "$log" | tail -n 60 >&2
    return 1
  fi
}
