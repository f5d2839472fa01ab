#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The include ladder: a room of src/ includes from the rooms below it only, and LibTorch stays in src/train.

usage: check_includes.py [--self-test]
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Lowest first. runtime and train meet in gate, in the adapter file and in tests, never in an include.
LADDER = ["base", "tensor", "io", "text", "gate", "kernels", "model", "runtime", "sched", "server", "train", "eval",
          "analysis"]
STRANGERS = {("train", "runtime"), ("train", "sched"), ("train", "server"), ("server", "model"), ("server", "kernels")}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
TORCH = re.compile(r"^(torch|ATen|c10|caffe2)/")


def problems_of(path, text):
    """Complaints about one file, given by its path relative to the root."""
    parts = pathlib.PurePosixPath(path).parts
    room = parts[1] if parts[0] == "src" else None
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        if TORCH.match(name) and room != "train":
            yield f"{path}:{number}: {name}: LibTorch is for src/train only"
        target = name.split("/")[0]
        # src/ is on the search path, so <io/gguf.h> finds what "io/gguf.h" finds.
        if "/" not in name or (quote == "<" and target not in LADDER):
            continue
        if target == "gateskip":
            continue
        if room is None:
            if parts[0] == "include":
                yield f"{path}:{number}: {name}: a public header includes public headers only"
            continue
        if target not in LADDER:
            yield f"{path}:{number}: {name}: '{target}' is not a room of the ladder"
        elif LADDER.index(target) > LADDER.index(room) or (room, target) in STRANGERS:
            yield f"{path}:{number}: {name}: {room} may not include {target}"


def self_test():
    bad = [("src/base/a.cc", '#include "io/gguf.h"'), ("src/train/a.cc", '#include "runtime/engine_impl.h"'),
           ("src/gate/a.cc", "#include <torch/torch.h>"), ("include/gateskip/a.h", '#include "base/check.h"'),
           ("src/io/a.cc", '#include "apps/flags.h"'), ("src/base/a.cc", "#include <io/gguf.h>"),
           ("src/runtime/a.cc", '#include "../train/train.h"'), ("src/runtime/a.cc", '#include "train/train.h"'),
           ("tests/a.cc", "#include <ATen/ATen.h>"), ("src/server/a.cc", '#  include "model/step.h"')]
    good = [("src/runtime/a.cc", '#include "model/step.h"'), ("src/train/a.cc", "#include <torch/torch.h>"),
            ("src/io/a.h", '#include "gateskip/error.h"'), ("apps/a.cc", '#include "train/train.h"'),
            ("src/io/a.cc", '#include "io/gguf.h"'), ("src/io/a.cc", "#include <sys/mman.h>"),
            ("src/io/a.cc", "#include <nlohmann/json.hpp>"), ("src/io/a.cc", '// #include "apps/flags.h"')]
    missed = [case for case in bad if not list(problems_of(*case))]
    wronged = [case for case in good if list(problems_of(*case))]
    if missed or wronged:
        sys.exit(f"check_includes.py --self-test: missed {missed}, wronged {wronged}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    files = subprocess.run(["git", "ls-files", "*.h", "*.cc"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = [p for path in files.stdout.split() for p in problems_of(path, (ROOT / path).read_text())]
    if found:
        print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)


main()
