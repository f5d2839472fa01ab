#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules for the text of every tracked file: licence line, length, banned calls, no paths of somebody's machine.

usage: check_text.py [--self-test]
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_LINES = 600
CODE = (".cc", ".h", ".py", ".sh")
CPP = (".cc", ".h")
# Data of the tests and trained adapters: not written by hand, so style says nothing, but nothing private gets in.
DATA = ("tests/data/", "adapters/")
SELF = {"scripts/check_text.py"}
# (what, pattern, kinds of file or None for all, files it is right in)
PRIVATE = [
    ("a path of somebody's machine", re.compile(r"(?<![\w./$~<-])/(work|root|home|Users|tmp/w)/[\w.]"), None, SELF),
    ("a package registry's host", re.compile(r"\b(pypi\.org|pythonhosted|registry\.npmjs|crates\.io|deb\.debian)"), None,
     SELF),
]
STYLE = [
    ("an open end without an issue number", re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))"), None, SELF),
    ("trailing space", re.compile(r"[ \t\r]+$"), None, set()),
    ("std::regex (exponential on hostile text)", re.compile(r"\bstd::w?regex\b"), CPP, set()),
    ("std::stoi and its kin (use ParseInt of the flags, or from_chars)", re.compile(r"\bstd::sto[a-z]+\("), CPP, set()),
    ("assert (vanishes in release; use GS_CHECK)", re.compile(r"(?<!\w)assert\("), CPP, set()),
    ("abort or terminate", re.compile(r"(?<![\w.>])(?:abort|terminate)\("), CPP, set()),
    # A second Ctrl-C leaves at once, from a signal handler; a rank whose run failed must not hang in a call that does not
    # come back; a child that cannot become a rank.
    ("exit (return from main)", re.compile(r"(?<![\w.>])(?:_|quick_)?[eE]xit\("), CPP,
     {"apps/interrupt.cc", "apps/train_launch.cc", "src/train/rank_channel.cc"}),
    ("torch::load (runs what it reads)", re.compile(r"torch::load\b"), CPP, set()),
]


def problems_of(path, text):
    suffix = pathlib.PurePosixPath(path).suffix
    lines = text.split("\n")
    rules = PRIVATE
    if not path.startswith(DATA):
        rules = PRIVATE + STYLE
        if suffix in CODE and not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
            yield f"{path}:1: no SPDX-License-Identifier: Apache-2.0"
        if suffix in CODE and len(lines) > MAX_LINES + 1:
            yield f"{path}: {len(lines) - 1} lines, at most {MAX_LINES}: split it"
        if text and not text.endswith("\n"):
            yield f"{path}: no newline at the end"
    for number, line in enumerate(lines, 1):
        for what, pattern, kinds, allowed in rules:
            if (kinds is None or suffix in kinds) and path not in allowed and pattern.search(line):
                yield f"{path}:{number}: {what}"


def self_test():
    licence = "// SPDX-License-Identifier: Apache-2.0\n"
    code = lambda *parts: ("src/a.cc", licence + "".join(parts) + "\n")
    # Split words, so that this file keeps its own rules but for the patterns above.
    bad = [("src/a.cc", "int x;\n"), ("src/a.cc", licence + "int x;"), code("// TO", "DO later"), code("// FIX", "ME(me)"),
           code("// see /ho", "me/me/x"), code('"/tm', 'p/w/x"'), code("int x; "), code("int x;\r"),
           code("std::re", "gex r;"), code("as", "sert(x);"), code("std::st", "oi(x);"),
           code("ex", "it(1);"), code("std::ex", "it(1);"), code("_Ex", "it(1);"), code("std::quick_ex", "it(1);"),
           code("::_ex", "it(1);"), code("std::ab", "ort();"), code("ab", "ort();"), code("std::termi", "nate();"),
           code("torch::lo", "ad(x);"), code("x\n" * 600), code("py", "pi.org"),
           ("adapters/a/adapter_config.json", '{"text": "/ro' + 'ot/x"}\n'), ("docs/a.md", "/wo" + "rk/x\n"),
           ("scripts/a.sh", "true\n")]
    good = [code("static_assert(true);"), code("// a/home/x"), code("OnExit(1);"), code("app.exit(request);"),
            code("// TODO(#12): later"), code("pool->terminate();"), ("docs/a.md", "To assert(x) is human.\n"),
            ("tests/data/a.txt", "a  \nTODO"), code("x\n" * 598)]
    missed = [case for case in bad if not list(problems_of(*case))]
    wronged = [case for case in good if list(problems_of(*case))]
    if missed or wronged:
        sys.exit(f"check_text.py --self-test: missed {missed}, wronged {wronged}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = []
    for path in filter(None, files.stdout.split("\0")):
        if not (ROOT / path).is_file():
            continue
        data = (ROOT / path).read_bytes()
        binary = b"\0" in data
        if binary and not path.startswith(DATA):
            found.append(f"{path}: a binary file; these belong into {' or '.join(DATA)}")
        # Latin-1 maps every byte, so that a private path in binary data is seen too.
        found += problems_of(path, data.decode("latin-1" if path.startswith(DATA) else "utf-8", errors="replace"))
    if found:
        print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)


main()
