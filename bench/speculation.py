#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding against plain decoding on the same prompts, in turn: the texts must be equal, the rates are told.

usage: speculation.py --gateskip BINARY -m MODEL [--adapter DIR] [--prompts FILE] [-n TOKENS] [--limit N] [--budgets X,X]

FILE: one prompt a line, or JSON lines with "prompt" or "question". Without it, a few prompts of this file. The model that
verifies is the plain one, without the adapter; the adapter's gates draft at each of the budgets. Ends with status 1 if
any text differs.
"""
import argparse
import json
import statistics
import subprocess
import sys

PROMPTS = [
    "Why is the sky blue?", "Write a short story about a fox and a crow.", "List the months of the year and their days.",
    "Explain what a prime number is to a child.", "Write a Python function that adds two numbers, with a test.",
    "Translate 'good morning, how are you?' into French and explain each word.", "What is the capital of Italy?",
    "Repeat this text twice: The quick brown fox jumps over the lazy dog.",
]


def read_prompts(path):
    if path is None:
        return PROMPTS
    prompts = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("{"):
                record = json.loads(line)
                prompts.append(record.get("prompt") or record["question"])
            elif line.strip():
                prompts.append(line.strip())
    return prompts


def generate(options, prompt, words):
    command = [options.gateskip, "generate", "-m", options.model, "--chat", "-p", prompt, "-n", str(options.tokens),
               "--json", *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateskip", required=True)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--adapter")
    parser.add_argument("--prompts")
    parser.add_argument("-n", "--tokens", type=int, default=128)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--budgets", default="0.25,0.5")
    options = parser.parse_args()

    drafts = {"plain": [], "ngram": ["--speculative", "ngram"],
              "exit": ["--speculative", "exit", "--draft-budget", "0.5"]}
    if options.adapter:
        for budget in options.budgets.split(","):
            drafts[f"gates {budget}"] = ["--adapter", options.adapter, "--no-adapter", "--speculative", "gates",
                                         "--draft-budget", budget]
    prompts = read_prompts(options.prompts)
    prompts = prompts[:options.limit] if options.limit else prompts
    rates = {name: [] for name in drafts}
    counts = {name: [0, 0, 0, 0] for name in drafts}  # drafted, accepted, steps, tokens
    different = 0
    for prompt in prompts:
        text = None
        for name, words in drafts.items():
            answer = generate(options, prompt, words)
            if text is None:
                text = answer["text"]
            elif answer["text"] != text:
                different += 1
                print(f"differs: {name}: {prompt!r}", file=sys.stderr)
            rates[name].append(answer["timings"]["decode_tokens_per_second"])
            seen = answer["speculation"]
            for i, value in enumerate((seen["drafted"], seen["accepted"], seen["steps"],
                                       max(0, answer["generated_tokens"] - 1))):
                counts[name][i] += value
    print(f"{len(prompts)} prompts, at most {options.tokens} tokens each; texts that differ: {different}\n")
    print("| draft | tokens/s, median (quartiles) | x plain, median | accepted of drafted | tokens a step |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in drafts:
        ratios = [rate / plain for rate, plain in zip(rates[name], rates["plain"]) if plain > 0]
        low, middle, high = statistics.quantiles(rates[name], n=4) if len(prompts) > 1 else [rates[name][0]] * 3
        drafted, accepted, steps, tokens = counts[name]
        share = f"{100 * accepted / drafted:.0f} % of {drafted}" if drafted else "-"
        print(f"| {name} | {middle:.1f} ({low:.1f}-{high:.1f}) | {statistics.median(ratios):.2f} | {share} | "
              f"{tokens / max(1, steps):.2f} |")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
