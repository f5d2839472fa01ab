#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures everything docs/performance.md has a table of, and writes it as one JSON file that
scripts/gen_performance_docs.py turns into the tables. Sections that are not asked for keep what the file has.

usage: bench/measure_performance.py -m SMOLLM2.gguf --gemma GEMMA.gguf [--sections peers,gates,...] [-t 2] [-r 3]
needs, for the sections peers and formats: pip install llama-cpp-python==0.3.36, run with that Python
Takes about an hour on two cores. Run it on a machine that does nothing else.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "peers"))
import compare_llama_cpp  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = ROOT / "tests" / "data" / "sample_text.txt"
OUT = ROOT / "docs" / "results" / "performance" / "figures.json"
FORMATS = ("Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K", "BF16", "F16", "F32")
PEER_NAMES = {"Q4_K": "Q4_K_M"}  # the peer's name of a file of that format
LONG_CONTEXT = 4096


def bench(args, *words, model=None):
    command = [args.gateskip, "bench", "-m", model or args.model, "-t", str(args.threads), "-r", str(args.repetitions),
               "--json", *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(args, model, *words):
    return compare_llama_cpp.compare(compare_llama_cpp.parse(
        ["--gateskip", args.gateskip, "-m", model, "-t", str(args.threads), "-r", str(args.repetitions), *map(str, words)]))


def peers(args):
    check = ("--check", TEXT)
    return [compare(args, args.model, "--requantize", "Q4_0", *check), compare(args, args.gemma, *check)]


def gates(args):
    return bench(args, "--adapter", args.adapter, "--budgets", "0,0.25,0.5")


def random(args):
    """Decisions by chance: what skipping itself costs, against the ideal of bytes and operations."""
    return bench(args, "--policy", "random", "--budgets", "0.25,0.5")


def context(args):
    """Decoding from 128 and from LONG_CONTEXT tokens on, for both formats of the KV cache."""
    return {cache: bench(args, "--kv-cache", cache, "-p", 128, "-n", 64, "-d", f"0,{LONG_CONTEXT - 128}", "--budgets", 0)
            for cache in ("f16", "q8_0")}


def batch(args):
    return bench(args, "-p", 128, "-n", 64, "-s", "1,4,16", "--budgets", 0)


def threads(args):
    """One thread, one per core, twice as many as cores."""
    counts = f"1,{args.threads},{2 * args.threads}"
    return bench(args, "-t", counts, "--budgets", 0)


def formats(args):
    """The same model in every weight format, both engines on the same file, and the NLL of one text."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            path = str(pathlib.Path(folder) / f"{name}.gguf")
            compare_llama_cpp.requantize(args.model, path, PEER_NAMES.get(name, name))
            found[name] = compare(args, path, "-n", 64, "--check", TEXT)
            found[name]["bytes"] = pathlib.Path(path).stat().st_size
            pathlib.Path(path).unlink()
    return found


def head(args):
    """The output head as stored and in 4 bits, in turn."""
    runs = {"stored": [], "q4": []}
    for _ in range(args.repetitions):
        for name, rows in runs.items():
            rows.append(bench(args, "--head", name, "--budgets", 0, "-r", 1)["rows"][0])
    scores = {}
    for name in runs:
        words = [args.gateskip, "perplexity", "-m", args.model, "-f", str(TEXT), "--head", name, "--json"]
        scores[name] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["results"][0]
    return {name: {"rows": rows, "nll": scores[name]["nll"], "tokens": scores[name]["tokens"]}
            for name, rows in runs.items()}


SECTIONS = {function.__name__: function
            for function in (peers, gates, random, context, batch, threads, formats, head)}


def machine():
    names = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {len(names)} cores"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateskip", default=str(ROOT / "build" / "release" / "apps" / "gateskip"))
    parser.add_argument("-m", "--model", required=True, help="SmolLM2-135M-Instruct, Q4_1")
    parser.add_argument("--gemma", help="Gemma 3 270M, Q4_K_M: for the section peers")
    parser.add_argument("--adapter", default=str(ROOT / "adapters" / "smollm2-135m-instruct"))
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("-o", "--out", type=pathlib.Path, default=OUT)
    args = parser.parse_args()
    names = args.sections.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"--sections: expected some of {', '.join(SECTIONS)}, found {unknown[0]!r}")
    if "peers" in names and not args.gemma:
        parser.error("--gemma: expected a file for the section peers, found none")
    figures = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in names:
        print(f"measure_performance.py: {name}", file=sys.stderr)
        figures[name] = {"machine": machine(), "threads": args.threads, "repetitions": args.repetitions,
                         "found": SECTIONS[name](args)}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
