#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions of a token on SmolLM2, counted by callgrind: no clock, so no noise. A change that adds more than 3 % to a
recorded figure fails until the figure is changed on purpose (--record), one that saves as much says so.

Valgrind knows no AVX-512: the AVX2 kernels are counted. Figures belong to a compiler; with another one, and anyway, what
must hold by itself is held: gates cost little, and a saving that was asked for is a saving of instructions.

Needs GATESKIP_MODELS. usage: instruction_test.py --valgrind V --probe P --compiler C --adapter A --recorded FILE [--record]
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

PROMPT, DECODED = 16, 2  # of instruction_probe.cc
TOLERANCE = 0.03
SKIP = 77


def count(args, model):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([args.valgrind, "--tool=callgrind", "--instr-atstart=no", "--compress-strings=no",
                        f"--callgrind-out-file={folder}/out", args.probe, model, args.adapter],
                       check=True, capture_output=True, text=True)
        totals = {}
        for path in pathlib.Path(folder).iterdir():
            text = path.read_text()
            label = re.search(r"^desc: Trigger: Client Request: (\w+) (\d+)$", text, re.M)
            total = re.search(r"^(?:totals|summary): (\d+)", text, re.M)
            if label and total:
                totals[label.group(1), int(label.group(2))] = int(total.group(1))
    figures = {}
    for name in ("ungated", "gates", "half"):
        prompt = totals[name, 0]
        figures[name] = {"prefill": round(prompt / PROMPT),
                         "decode": round((totals[name, DECODED] - prompt) / DECODED)}
    return figures


def compare(figures, recorded):
    """Names of figures that grew, and of those that shrank, by more than the tolerance."""
    grown, shrunk = [], []
    for name, phases in figures.items():
        for phase, now in phases.items():
            before = recorded[name][phase]
            change = now / before - 1
            line = f"{name} {phase}: {before:,} -> {now:,} instructions a token ({change:+.1%})"
            if change > TOLERANCE:
                grown.append(line)
            elif change < -TOLERANCE:
                shrunk.append(line)
    return grown, shrunk


def broken_relations(figures):
    """What holds whatever the compiler."""
    wrong = []
    for phase in ("prefill", "decode"):
        dense, gates, half = (figures[name][phase] for name in ("ungated", "gates", "half"))
        # What the adapter adds at budget 0 is 2.5 % of the layers, counted in weights; twice that in instructions.
        if gates > 1.05 * dense:
            wrong.append(f"{phase}: expected gates that skip nothing to cost at most 5 %, found {gates / dense - 1:.1%}")
        # Half of the layers' cost is gone, skip paths and decisions included. The head stays: a fifth of a decoded
        # token's multiplications, so 60 % of all are left, fewer of a prompt's; the rest is room for attention and norms.
        if half > 0.75 * dense:
            wrong.append(f"{phase}: expected half of the layers saved to leave at most 75 %, found {half / dense:.1%}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--valgrind", "--probe", "--compiler", "--adapter", "--recorded"):
        parser.add_argument(name, required=True)
    parser.add_argument("--record", action="store_true", help="write the figures instead of comparing them")
    args = parser.parse_args()
    model = pathlib.Path(os.environ.get("GATESKIP_MODELS", "")) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not model.is_file():
        print("GATESKIP_MODELS is not set or holds no SmolLM2")
        return SKIP
    figures = count(args, model)
    for name, phases in figures.items():
        print(name, {phase: f"{value:,}" for phase, value in phases.items()})
    if args.record:
        recorded = {"compiler": args.compiler, "instructions_per_token": figures}
        pathlib.Path(args.recorded).write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        return 0
    wrong = broken_relations(figures)
    recorded = json.loads(pathlib.Path(args.recorded).read_text())
    if recorded["compiler"] == args.compiler:
        grown, shrunk = compare(figures, recorded["instructions_per_token"])
        wrong += grown
        for line in shrunk:
            print("saved (record it with --record):", line)
    else:
        print(f"recorded with {recorded['compiler']}, this is {args.compiler}: figures not compared")
    for line in wrong:
        print("FAILED", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
