#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gateskip beside llama.cpp on one file: same prompt length, threads and machine, runs in turn (A B A B ...).

Both run ungated and dense. Each round starts both programs afresh, warms up once and measures once; medians and spread
over the rounds. Rates do not say whether the answers are right: `--check` compares the token-by-token NLL of a text, in
f32 against the fast path of ours and against the peer's.

usage: compare_llama_cpp.py --gateskip build/release/apps/gateskip -m model.gguf [-t 2] [-p 512] [-n 128] [-r 5]
                    [--requantize Q4_0] [--check TEXT] [--json]
needs: pip install llama-cpp-python==0.3.36
"""
import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time


def quiet_peer():
    import llama_cpp

    @llama_cpp.llama_log_callback
    def drop(level, text, data):
        del level, text, data

    llama_cpp.llama_log_set(drop, None)
    llama_cpp.llama_backend_init()
    return llama_cpp, drop  # the callback must outlive the calls


def open_peer(lib, path, threads, context):
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit(f"compare_llama_cpp.py: [{path}] peer: expected to load it, found an error")
    params = lib.llama_context_default_params()
    params.n_ctx = context
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    return model, lib.llama_init_from_model(model, params)


def peer_decode(lib, context, ids):
    array = (lib.llama_token * len(ids))(*ids)
    if lib.llama_decode(context, lib.llama_batch_get_one(array, len(ids))) != 0:
        sys.exit("compare_llama_cpp.py: [peer] decode: expected success, found an error")


def peer_rates(args):
    """One warm-up and one measured run; greedy, no sampler."""
    lib, _keep = quiet_peer()
    model, context = open_peer(lib, args.model, args.threads, args.prompt + args.decode + 8)
    memory = lib.llama_get_memory(context)
    size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    draw = random.Random(0)
    ids = [draw.randrange(1000, min(size, 40000)) for _ in range(args.prompt)]
    for _ in range(2):
        lib.llama_memory_clear(memory, True)
        start = time.perf_counter()
        for begin in range(0, len(ids), 512):
            peer_decode(lib, context, ids[begin:begin + 512])
        lib.llama_synchronize(context)
        prefill = len(ids) / (time.perf_counter() - start)
        start = time.perf_counter()
        for i in range(args.decode):
            peer_decode(lib, context, [ids[i % len(ids)]])
        lib.llama_synchronize(context)
        decode = args.decode / (time.perf_counter() - start)
    print(json.dumps({"prefill": prefill, "decode": decode}))


def peer_nll(args):
    """Mean NLL of a text, token by token from one context of args.prompt tokens."""
    import numpy
    lib, _keep = quiet_peer()
    model, context = open_peer(lib, args.model, args.threads, args.prompt + 8)
    ids = json.loads(sys.stdin.read())[:args.prompt]
    size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    total = 0.0
    for i, token in enumerate(ids[:-1]):
        peer_decode(lib, context, [token])
        logits = numpy.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), shape=(size,)).astype(numpy.float64)
        top = logits.max()
        total += math.log(numpy.exp(logits - top).sum()) + top - logits[ids[i + 1]]
    print(json.dumps({"nll": total / (len(ids) - 1), "tokens": len(ids) - 1}))


def child(args, mode, model, stdin=None):
    command = [sys.executable, "-B", os.path.abspath(__file__), "--child", mode, "-m", model, "-t", str(args.threads),
               "-p", str(args.prompt), "-n", str(args.decode)]
    return json.loads(subprocess.run(command, check=True, input=stdin, capture_output=True, text=True).stdout)


def our_rates(args):
    command = [args.gateskip, "bench", "-m", args.model, "-t", str(args.threads), "-p", str(args.prompt), "-n",
               str(args.decode), "-r", "1", "--budgets", "0", "--json"]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"][0]
    return {"prefill": row["prefill_tokens_per_second"]["median"], "decode": row["decode_tokens_per_second"]["median"]}


def requantize(source, target, name):
    """Writes `source` in another format (Q4_0, F16, ...) with the peer's own quantiser."""
    lib, _keep = quiet_peer()
    params = lib.llama_model_quantize_default_params()
    params.ftype = lib.LLAMA_FTYPE_ALL_F32 if name == "F32" else getattr(lib, f"LLAMA_FTYPE_MOSTLY_{name}")
    params.allow_requantize = True
    if lib.llama_model_quantize(source.encode(), target.encode(), params) != 0:
        sys.exit(f"compare_llama_cpp.py: [{source}] peer: expected to write {name}, found an error")


def compare_quality(args):
    def ours(*words):
        out = subprocess.run([args.gateskip, *words], check=True, capture_output=True, text=True).stdout
        return json.loads(out)

    words = ["tokenize", "-m", args.model, "-f", args.check, "--json"]
    ids = ours(*words)["ids"]
    bos = len(ids) - ours(*words, "--no-bos")["count"]  # --max-tokens counts the text's
    score = ["perplexity", "-m", args.model, "-f", args.check, "-c", str(args.prompt), "--max-tokens",
             str(args.prompt - bos), "--json"]
    peer = child(args, "nll", args.model, json.dumps(ids))
    return {"tokens": peer["tokens"], "f32": ours(*score, "--f32")["results"][0]["nll"],
            "gateskip": ours(*score)["results"][0]["nll"], "llama.cpp": peer["nll"]}


def compare(args):
    """What main prints, as one dictionary."""
    with tempfile.TemporaryDirectory() as folder:
        runners = {"gateskip": lambda: our_rates(args), "llama.cpp": lambda: child(args, "rates", args.model)}
        if args.requantize:
            other = os.path.join(folder, f"{args.requantize}.gguf")
            requantize(args.model, other, args.requantize)
            runners[f"llama.cpp {args.requantize}"] = lambda: child(args, "rates", other)
        runs = {name: [] for name in runners}
        for _ in range(args.rounds):
            for name, run in runners.items():
                runs[name].append(run())
    result = {"model": os.path.basename(args.model), "threads": args.threads, "prompt": args.prompt,
              "decode": args.decode, "rounds": args.rounds, "rates": {}}
    for name, rows in runs.items():
        result["rates"][name] = {
            phase: {"median": statistics.median(r[phase] for r in rows), "min": min(r[phase] for r in rows),
                    "max": max(r[phase] for r in rows)} for phase in ("prefill", "decode")}
    if args.check:
        result["nll"] = compare_quality(args)
    return result


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateskip", default="build/release/apps/gateskip")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--decode", type=int, default=128)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--requantize", help="measure the peer on this format, too (Q4_0: its fastest)")
    parser.add_argument("--check", help="a text whose NLL both compute")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=["rates", "nll"], help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main():
    args = parse()
    if args.child:
        return peer_rates(args) if args.child == "rates" else peer_nll(args)
    result = compare(args)
    if args.json:
        print(json.dumps(result))
        return None
    print(f"{result['model']}, {args.threads} threads, {args.rounds} rounds in turn: median (min-max) tokens/s\n")
    print(f"| engine | prefill {args.prompt} | decode {args.decode} | prefill x | decode x |")
    print("| --- | ---: | ---: | ---: | ---: |")
    mine = result["rates"]["gateskip"]
    for name, rates in result["rates"].items():
        cells = [f"{r['median']:.0f} ({r['min']:.0f}-{r['max']:.0f})" for r in (rates["prefill"], rates["decode"])]
        ratios = [f"{mine[phase]['median'] / rates[phase]['median']:.2f}" for phase in ("prefill", "decode")]
        print(f"| {name} | {' | '.join(cells)} | {' | '.join(ratios)} |")
    if args.check:
        nll = result["nll"]
        print(f"\nNLL over {nll['tokens']} tokens: {nll['f32']:.5f} in f32, {nll['gateskip']:.5f} gateskip, "
              f"{nll['llama.cpp']:.5f} llama.cpp")
    return None


if __name__ == "__main__":
    main()
