#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/cli.md from the binary's own --help, or checks that it is current.

usage: gen_cli_docs.py BINARY            write docs/cli.md
       gen_cli_docs.py BINARY --check    exit 1 if docs/cli.md is not what would be written
"""
import difflib
import os
import pathlib
import re
import subprocess
import sys

TARGET = pathlib.Path(__file__).resolve().parent.parent / "docs" / "cli.md"

INTRODUCTION = """# The command line

Generated from `gateskip --help` by `scripts/gen_cli_docs.py`; a test keeps it current.

- Text and results go to stdout, timings, progress and errors to stderr. With `--json` stdout holds one JSON object
  (`train`: one per line), for errors too: `{"error": {"code": ..., "message": ...}}`.
- Errors read `gateskip: error: [origin] subject: expected X, found Y; what to do`. The exit status names the kind.
- Every option is checked before a file is opened. Environment variables in brackets mirror options; an option given
  on the command line wins.
- Savings come three at a time: *requested*, *nominal* (share of branch applications skipped) and *net* (share of the
  ungated model's layer cost really saved, gates, deltas and K/V of skipped tokens paid for).
- Ctrl-C ends the running call and shows what there is, with exit status 130; a second one leaves at once. In `chat` it
  ends the answer. `train` writes a checkpoint first.
- Colour and bars appear on a terminal only; `NO_COLOR` turns colour off.
"""


def help_text(binary, *words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GATESKIP_")}
    result = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, env=environment, check=True)
    return result.stdout.rstrip()


def render(binary):
    top = help_text(binary)
    section = re.search(r"\nSubcommands:\n((?:  .*\n)+)", top + "\n")
    if section is None:
        raise SystemExit("gen_cli_docs: expected a list of subcommands in --help, found none")
    names = [line.split()[0] for line in section.group(1).splitlines() if re.match(r"  \S", line)]
    parts = [INTRODUCTION, f"```\n{top}\n```\n"]
    for name in names:
        parts.append(f"## gateskip {name}\n\n```\n{help_text(binary, name)}\n```\n")
    return "\n".join(parts)


def main(arguments):
    if len(arguments) not in (1, 2) or arguments[1:] not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    text = render(arguments[0])
    if len(arguments) == 1:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    current = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    if current == text:
        return 0
    sys.stdout.writelines(difflib.unified_diff(current.splitlines(True), text.splitlines(True), "docs/cli.md", "--help"))
    print("docs/cli.md is not current: run scripts/gen_cli_docs.py BINARY", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
