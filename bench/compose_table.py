#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/compose.md: a model in fewer bits, without and with gates.

The model is unpacked to f16 once; every row is quantised from that, weighed by activations on --importance. Decode rates
are medians of rounds in which the files take turns; ratios are medians of the rounds' ratios to f16 without gates.

usage: compose_table.py [--gateskip BIN] -m model.gguf --adapter DIR --text TEXT --importance TEXT --calibrate TEXT
                        [--types q8_0,q6_k,...] [--gated q4_1] [-r 3] [-n 64] [--json]
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile

BUDGETS = [0.0, 0.15, 0.25]


def run_json(*words):
    return json.loads(subprocess.run([*map(str, words), "--json"], check=True, capture_output=True, text=True).stdout)


class Table:
    def __init__(self, args, folder):
        self.args = args
        self.folder = folder

    def path(self, name):
        return os.path.join(self.folder, name + ".gguf")

    def call(self, *words):
        return run_json(self.args.gateskip, *words)

    def quantize(self, source, name, kind, *words):
        return self.call("quantize", "-m", self.path(source), "-o", self.path(name), "--type", kind, "-t",
                         self.args.threads, "--importance-from", self.args.importance, *words)

    def decode(self, name, budget):
        budgets = "0" if budget is None else f"0,{budget}"
        row = self.call("bench", "-m", self.path(name), "-t", self.args.threads, "-p", "64", "-n", self.args.decode, "-r",
                        "1", "--budgets", budgets, *(["--no-adapter"] if budget is None else []))["rows"][-1]
        return row["decode_tokens_per_second"]["median"]

    def scores(self, name):
        budgets = ",".join(map(str, BUDGETS))
        rows = self.call("perplexity", "-m", self.path(name), "-f", self.args.text, "-t", self.args.threads, "--budget",
                         budgets)["results"]
        return [{"budget": b, "nll": row["nll"], "net": row["saving"]["net"]} for b, row in zip(BUDGETS, rows)]

    def run(self):
        args = self.args
        self.call("export", "-m", args.model, "-o", self.path("f16"), "--type", "f16")
        self.call("export", "-m", args.model, "--adapter", args.adapter, "-o", self.path("gated-f16"), "--type", "f16")
        plain = [{"type": kind, **self.quantize("f16", kind, kind, "--compare-on", args.text)} for kind in args.types]
        gated = [{"type": "f16", "scores": self.scores("gated-f16")}]
        for kind in args.gated:
            report = self.quantize("gated-f16", "gated-" + kind, kind, "--calibrate-from", args.calibrate)
            gated.append({"type": kind, "bits_per_weight": report["bits_per_weight"],
                          "scores": self.scores("gated-" + kind)})
        cells = [("f16", None)] + [(kind, None) for kind in args.types]
        cells += [(f"gated-{row['type']}", budget) for row in gated for budget in BUDGETS[1:]]
        rates = {cell: [] for cell in cells}
        for _ in range(args.rounds):
            for cell in cells:
                rates[cell].append(self.decode(*cell))
        base = rates["f16", None]

        def rate(cell):
            return {"decode": statistics.median(rates[cell]),
                    "x": statistics.median(r / b for r, b in zip(rates[cell], base))}

        for row in plain:
            row.update(rate((row["type"], None)))
        for row in gated:
            for score in row["scores"][1:]:
                score.update(rate((f"gated-{row['type']}", score["budget"])))
        return {"f16": rate(("f16", None)), "plain": plain, "gated": gated}


def show(result):
    print("| type | bits per weight | MB | perplexity | KL, nats | same top token | decode tok/s | x f16 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    first = result["plain"][0]["comparison"]
    print(f"| f16 | 16.00 | | {first['source_perplexity']:.3f} | | | {result['f16']['decode']:.0f} | 1.00 |")
    for row in result["plain"]:
        c = row["comparison"]
        print(f"| {row['type']} | {row['bits_per_weight']:.2f} | {row['bytes'] / 1e6:.0f} | {c['perplexity']:.3f} "
              f"| {c['kl']:.5f} | {100 * c['same_top_token']:.1f} % | {row['decode']:.0f} | {row['x']:.2f} |")
    print("\n| gates on | budget | net on this text | perplexity | NLL kept | decode tok/s | x f16 without gates |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in result["gated"]:
        dense = row["scores"][0]["nll"]
        for s in row["scores"]:
            speed = f"{s['decode']:.0f} | {s['x']:.2f}" if "x" in s else "| "
            print(f"| {row['type']} | {100 * s['budget']:.0f} % | {100 * s['net']:.1f} % | {math.exp(s['nll']):.2f} "
                  f"| {100 * dense / s['nll']:.1f} % | {speed} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateskip", default="build/release/apps/gateskip")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--text", required=True, help="what is scored")
    parser.add_argument("--importance", required=True, help="another text, whose activations weigh errors")
    parser.add_argument("--calibrate", required=True, help="another text, to find thresholds on")
    parser.add_argument("--types", default="q8_0,q6_k,q5_1,q5_0,q4_k_m,q4_1,q4_0", type=lambda t: t.split(","))
    parser.add_argument("--gated", default="q4_1,q4_0", type=lambda t: t.split(","))
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-n", "--decode", type=int, default=64)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = Table(args, folder).run()
    if args.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
