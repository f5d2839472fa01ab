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
# (what, pattern, kinds of file, files it is right in)
RULES = [
    ("an open end without an issue number", re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))"), None,
     {"scripts/check_text.py"}),
    ("a path of somebody's machine", re.compile(r"(?<![\w./$~<-])/(work|root|home|Users)/[\w.]"), None,
     {"scripts/check_text.py"}),
    ("a package registry's host", re.compile(r"\b(pypi\.org|pythonhosted|registry\.npmjs|crates\.io|deb\.debian)"), None,
     {"scripts/check_text.py"}),
    ("trailing space", re.compile(r"[ \t]+$"), None, set()),
    ("std::regex (exponential on hostile text)", re.compile(r"\bstd::w?regex\b"), (".cc", ".h"), set()),
    ("std::stoi and its kin (use ParseInt of the flags, or from_chars)", re.compile(r"\bstd::sto[a-z]+\("),
     (".cc", ".h"), set()),
    ("assert (vanishes in release; use GS_CHECK)", re.compile(r"(?<![\w_])assert\("), (".cc", ".h"), set()),
    ("abort", re.compile(r"\b(std::)?abort\(\)"), (".cc", ".h"), set()),
    ("exit (return from main)", re.compile(r"(?<![\w_.])(std::)?_?exit\("), (".cc", ".h"), {"apps/interrupt.cc"}),
    ("torch::load (runs what it reads)", re.compile(r"torch::load\b"), (".cc", ".h"), set()),
]
DATA = ("tests/data/", "adapters/")


def problems_of(path, text):
    suffix = pathlib.PurePosixPath(path).suffix
    lines = text.split("\n")
    if suffix in CODE and not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
        yield f"{path}:1: no SPDX-License-Identifier: Apache-2.0"
    if suffix in CODE and len(lines) > MAX_LINES + 1:
        yield f"{path}: {len(lines) - 1} lines, at most {MAX_LINES}: split it"
    if text and not text.endswith("\n"):
        yield f"{path}: no newline at the end"
    for number, line in enumerate(lines, 1):
        for what, pattern, kinds, allowed in RULES:
            if (kinds is None or suffix in kinds) and path not in allowed and pattern.search(line):
                yield f"{path}:{number}: {what}"


def self_test():
    licence = "// SPDX-License-Identifier: Apache-2.0\n"
    bad = ["int x;\n", licence + "// TO" + "DO later\n", licence + "// see /ho" + "me/me/x\n", licence + "int x; \n",
           licence + "std::re" + "gex r;\n", licence + "as" + "sert(x);\n", licence + "std::st" + "oi(x);\n",
           licence + "ex" + "it(1);\n", licence + "x\n" * 600, licence + "int x;", licence + "py" + "pi.org\n"]
    good = [licence + "static_assert(true);\n", licence + "// a/home/x\n", licence + "OnExit(1);\n"]
    missed = [text for text in bad if not list(problems_of("src/a.cc", text))]
    wronged = [text for text in good if list(problems_of("src/a.cc", text))]
    if missed or wronged:
        sys.exit(f"check_text.py --self-test: missed {missed}, wronged {wronged}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = []
    for path in filter(None, files.stdout.split("\0")):
        if path.startswith(DATA) or not (ROOT / path).is_file():
            continue
        found += problems_of(path, (ROOT / path).read_text())
    print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)


main()
