#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/errors.md against the code: every ErrorCode with its name and exit status, once, and no other.

usage: check_errors.py [--self-test]
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def problems_of(header, table, page):
    """Complaints, given the texts of include/gateskip/error.h, src/base/error.cc and docs/errors.md."""
    enum = re.search(r"enum class ErrorCode \{(.*?)\};", header, re.S)
    codes = re.findall(r"^\s*(k\w+),", enum.group(1), re.M) if enum else []
    rows = re.findall(r'\{ErrorCode::(k\w+), "(\w+)", (\d+)\}', table)
    documented = re.findall(r"^\| (\d+) \| `(\w+)` \| `(k\w+)` \|", page, re.M)
    if not codes or not rows or not documented:
        yield f"expected codes in all three places, found {len(codes)}, {len(rows)} and {len(documented)}"
    if sorted(code for code, _, _ in rows) != sorted(codes):
        yield f"src/base/error.cc: expected one row for each of {codes}, found {[row[0] for row in rows]}"
    wanted = sorted((status, name, code) for code, name, status in rows)
    for row in wanted:
        if documented.count(row) != 1:
            yield f"docs/errors.md: expected one row '| {row[0]} | `{row[1]}` | `{row[2]}` |', found {documented.count(row)}"
    for row in sorted(set(documented) - set(wanted)):
        yield f"docs/errors.md: {row} is not in src/base/error.cc"
    for column, what in ((0, "exit status"), (1, "name")):
        values = [row[column] for row in wanted]
        if len(set(values)) != len(values):
            yield f"src/base/error.cc: an {what} stands for two codes"


def self_test():
    header = "enum class ErrorCode {\n  kA,  // a\n  kB,  // b\n};"
    table = '{ErrorCode::kA, "a", 2},\n{ErrorCode::kB, "b", 1},'
    page = "| 2 | `a` | `kA` | text |\n| 1 | `b` | `kB` | text |\n"
    bad = [(header.replace("kB,  // b", "kB,\n  kC,"), table, page), (header, table.replace("1}", "3}"), page),
           (header, table, page.splitlines()[0]), (header, table, page + "| 4 | `c` | `kC` | text |\n"),
           (header, table, page + page), (header, table.replace('"b"', '"a"'), page.replace("`b`", "`a`")), ("", "", "")]
    missed = [case for case in bad if not list(problems_of(*case))]
    if missed or list(problems_of(header, table, page)):
        sys.exit(f"check_errors.py --self-test: missed {missed}, wronged {list(problems_of(header, table, page))}")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    texts = [(ROOT / path).read_text() for path in ("include/gateskip/error.h", "src/base/error.cc", "docs/errors.md")]
    found = list(problems_of(*texts))
    if found:
        print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)


main()
