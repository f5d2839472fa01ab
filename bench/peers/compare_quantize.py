#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gateskip's quantiser beside llama.cpp's: the same source, the same format of every tensor, the same text.

For each type llama.cpp quantises the source; gateskip quantises it into the formats that came out, tensor by tensor, so
that both files are of one size. Both are scored by gateskip in f32, so that the formats are all that differs. With
--exchange each engine also scores the other's file, with its own 8-bit activations.

usage: compare_quantize.py --gateskip build/release/apps/gateskip -m model.gguf --text TEXT [--types q4_0,q4_k_m,...]
                           [--importance TEXT] [--tokens 4096] [--exchange 256] [--json]
needs: pip install llama-cpp-python==0.3.36
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import compare_llama_cpp

FILE_TYPES = {"q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K_M", "q5_k": "Q5_K_S", "q5_1": "Q5_1", "q5_0": "Q5_0",
              "q4_k_m": "Q4_K_M", "q4_k": "Q4_K_S", "q4_1": "Q4_1", "q4_0": "Q4_0"}


def run_json(*words):
    return json.loads(subprocess.run([*map(str, words), "--json"], check=True, capture_output=True, text=True).stdout)


def peer_quantize(args, kind, path):
    lib, _keep = compare_llama_cpp.quiet_peer()
    params = lib.llama_model_quantize_default_params()
    params.ftype = getattr(lib, f"LLAMA_FTYPE_MOSTLY_{FILE_TYPES[kind]}")
    params.allow_requantize = True
    params.nthread = args.threads
    if lib.llama_model_quantize(args.model.encode(), path.encode(), params) != 0:
        sys.exit(f"compare_quantize.py: [{args.model}] peer: expected to write {kind}, found an error")


def formats(args, path):
    tensors = run_json(args.gateskip, "info", "-m", path, "--tensors")["tensors"]
    return {t["name"]: t["type"].lower() for t in tensors if len(t["shape"]) > 1}


def our_quantize(args, kind, like, path, *words):
    rules = [word for name, form in formats(args, like).items() for word in ("--tensor-type", f"{name}={form}")]
    return run_json(args.gateskip, "quantize", "-m", args.model, "-o", path, "--type", kind, "--allow-requantize",
                    "--force", "-t", args.threads, *rules, *words)


def score(args, path):
    """Mean NLL of the text in f32."""
    return run_json(args.gateskip, "perplexity", "-m", path, "-f", args.text, "--f32", "-t", args.threads, "-c", "512",
                    "--max-tokens", args.tokens)["results"][0]["nll"]


def exchange(args, path):
    """The same first tokens' NLL by both engines, as they run."""
    words = argparse.Namespace(gateskip=args.gateskip, model=path, check=args.text, prompt=args.exchange,
                               threads=args.threads, decode=0)
    return compare_llama_cpp.compare_quality(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateskip", default="build/release/apps/gateskip")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--text", required=True, help="what both are scored on")
    parser.add_argument("--importance", help="also weigh by activations on this text, which is not the scored one")
    parser.add_argument("--types", default="q8_0,q6_k,q5_1,q5_0,q4_k_m,q4_1,q4_0")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--exchange", type=int, default=0, metavar="N", help="tokens for each engine on both files")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.gateskip = str(pathlib.Path(args.gateskip).resolve())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = os.path.join(folder, "ours.gguf"), os.path.join(folder, "theirs.gguf")
        source = score(args, args.model)
        for kind in args.types.split(","):
            peer_quantize(args, kind, theirs)
            report = our_quantize(args, kind, theirs, ours)
            row = {"type": kind, "bits_per_weight": report["bits_per_weight"], "source": source,
                   "llama.cpp": score(args, theirs), "gateskip": score(args, ours)}
            if args.exchange:
                row["exchange"] = {"gateskip's file": exchange(args, ours), "llama.cpp's file": exchange(args, theirs)}
            if args.importance:
                our_quantize(args, kind, theirs, ours, "--importance-from", args.importance)
                row["gateskip weighted"] = score(args, ours)
            rows.append(row)
            if not args.json:
                print(kind, {k: v for k, v in row.items() if k != "type"}, file=sys.stderr)
    if args.json:
        print(json.dumps({"model": os.path.basename(args.model), "tokens": args.tokens, "rows": rows}))
        return
    names = ["llama.cpp", "gateskip"] + (["gateskip weighted"] if args.importance else [])
    print(f"Perplexity of {args.tokens} tokens in f32, {math.exp(source):.3f} before\n")
    print("| type | bits per weight | " + " | ".join(names) + " |\n| --- | ---: |" + " ---: |" * len(names))
    for row in rows:
        cells = [f"{math.exp(row[name]):.3f}" for name in names]
        print(f"| {row['type'].upper()} | {row['bits_per_weight']:.2f} | {' | '.join(cells)} |")
    if args.exchange:
        print(f"\nMean NLL of the first {args.exchange} tokens\n")
        print("| type | file by | f32 | gateskip | llama.cpp |\n| --- | --- | ---: | ---: | ---: |")
        for row in rows:
            for name, nll in row["exchange"].items():
                print(f"| {row['type'].upper()} | {name[:-7]} | {nll['f32']:.4f} | {nll['gateskip']:.4f} "
                      f"| {nll['llama.cpp']:.4f} |")


if __name__ == "__main__":
    main()
