#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The long runs whose figures are in docs/reliability.md, against `gateskip serve` with a real model.

Each subcommand is one question and prints one JSON object. They use the machine's cores beside the server they ask, so
rates are lower than with the load from elsewhere, and ratios of one run are what counts.

usage: reliability.py -m MODEL --adapter DIR [--gateskip PROGRAM] [-t N] WHAT [options]
       reliability.py ... throughput --peer-python VENV/bin/python     (pip install 'llama-cpp-python[server]==0.3.36')
"""
import argparse
import json
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tests" / "server")]

import answers  # noqa: E402
import overload  # noqa: E402
import speed  # noqa: E402


def add(commands, name, run, **options):
    command = commands.add_parser(name, help=run.__doc__)
    for option, default in options.items():
        command.add_argument(f"--{option.replace('_', '-')}", type=type(default), default=default)
    command.set_defaults(run=run)
    return command


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateskip", default="build/release/apps/gateskip")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("-t", "--threads", type=int, default=2)
    commands = parser.add_subparsers(dest="what", required=True)
    add(commands, "throughput", speed.throughput, rounds=3, requests=64, max_tokens=128, peer_python="")
    add(commands, "first-token", speed.first_token, rounds=5)
    add(commands, "long-prompt", speed.long_prompt, rounds=3, prompt_tokens=3000)
    add(commands, "slow", overload.slow, drippers=2000, seconds=120)
    add(commands, "overload", overload.overload, factor=10.0, seconds=120)
    add(commands, "goodput", overload.goodput, seconds=60)
    add(commands, "soak", overload.soak, seconds=1800)
    add(commands, "disconnects", answers.disconnects, cuts=1000)
    add(commands, "mutate", answers.mutate, requests=50_000)
    add(commands, "invariance", answers.invariance, prompts=200, rounds=10)
    return parser.parse_args()


def main():
    args = parse()
    os.environ["GATESKIP_BINARY"] = args.gateskip
    import server_case

    def start(*words):
        return server_case.Server(args.model, "--adapter", args.adapter, "--threads", args.threads, *words)

    began = time.monotonic()
    result = args.run(args, start)
    print(json.dumps({"what": args.what, "took_seconds": round(time.monotonic() - began), **result}, indent=1))


if __name__ == "__main__":
    main()
