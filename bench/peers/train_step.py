#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One training step of `gateskip train` beside the same step in PyTorch: same file, text, threads, machine, in turn.

Three trainable sets (README.md says what a step of each does). Each round starts every program afresh, throws the first
steps away and takes the median of the rest; medians and spread over the rounds. Rates do not say whether the answers are
right: `--check` compares the NLL of the text, by our f32 path and by each peer's untrained model.

usage: train_step.py -m model.gguf [--gateskip build/release/apps/gateskip] [--python VENV/bin/python] [-f TEXT]
                     [--sets gates,lora,full] [--peers plain,hf] [-t 2] [-r 5] [--steps 6] [--compile] [--check] [--json]
needs: pip install torch transformers gguf, into the Python named by --python
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

# What both sides are told of a set: our flags, sequences and tokens of a step.
SETS = {
    "gates": (["--lora-rank", "0"], 4, 512),
    "lora": (["--lora-rank", "8", "--lora-targets", "attn_output,ffn_down"], 4, 512),
    "full": (["--train-base", "all", "--lora-rank", "0"], 1, 1024),
}
FULL_LOSS = {"ce": ["--kl-weight", "0", "--ce-weight", "1", "--loss-positions", "1"], "kl": []}
# Every branch gated, nothing added for a skipped row, sequences without inner borders, every step alike.
OUR_FLAGS = ["--skip-rank", "-1", "--no-prior", "--packing", "joined", "--dense-every", "0"]


def fail(message):
    sys.exit(f"train_step.py: {message}")


def ours(args, name):
    flags, batch, length = SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        command = [args.gateskip, "train", "-m", args.model, "-f", args.text, "--run", run, "-t", str(args.threads),
                   "--steps", str(args.warmup + args.steps), "--batch", str(batch), "--sequence-length", str(length),
                   *OUR_FLAGS, *flags]
        if name == "full":
            command += [*FULL_LOSS[args.full_loss], "--trained-model", os.path.join(folder, "trained.gguf")]
        with open(os.path.join(folder, "messages"), "w+", encoding="utf-8") as messages:
            child = subprocess.Popen(command, stdout=messages, stderr=messages)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode != 0:
                messages.seek(0)
                fail(f"[gateskip train] {name}: expected success, found exit {child.returncode}: "
                     f"{messages.read()[-400:]}")
        with open(os.path.join(run, "log.jsonl"), encoding="utf-8") as log:
            steps = [row for row in map(json.loads, log) if row["event"] == "step"][args.warmup:]
    return {"rate": statistics.median(s["tokens_per_second"] for s in steps), "peak_mib": usage.ru_maxrss / 1024}


def peer(args, ids, which, *flags):
    command = [args.python, "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_step.py"), "-m",
               args.model, "-t", str(args.threads), "--peer", which, *flags]
    done = subprocess.run(command, input=json.dumps(ids), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"[torch_step.py] {which}: expected success, found exit {done.returncode}: {done.stderr[-400:]}")
    return json.loads(done.stdout)


def peer_step(args, ids, which, name):
    _, batch, length = SETS[name]
    flags = ["--train", name, "--full-loss", args.full_loss, "--batch", str(batch), "--length", str(length),
             "--warmup", str(args.warmup), "--steps", str(args.steps)]
    result = peer(args, ids, which, *flags, *(["--compile"] if args.compile else []))
    return {"rate": batch * length / statistics.median(result["seconds"]), "peak_mib": result["peak_mib"],
            "settings": result["settings"]}


def token_ids(args):
    out = subprocess.run([args.gateskip, "tokenize", "-m", args.model, "-f", args.text, "--json"], check=True,
                         capture_output=True, text=True).stdout
    return json.loads(out)["ids"]


def check(args, ids):
    window = ids[:512]
    out = subprocess.run([args.gateskip, "perplexity", "-m", args.model, "-f", args.text, "-c", str(len(window)),
                          "--max-tokens", str(len(window)), "--f32", "--json"], check=True, capture_output=True,
                         text=True).stdout
    nll = {"gateskip f32": json.loads(out)["results"][0]["nll"]}
    for which in args.peers:
        nll[which] = peer(args, window, which, "--nll")["nll"]
    return nll


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(result):
    print(f"{result['model']}, {result['threads']} threads, {result['rounds']} rounds in turn, {result['steps']} steps "
          "each: median (min-max)\n")
    print("| trained | step | program | tokens/s | gateskip / it | peak MiB |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for name, programs in result["sets"].items():
        mine = programs.get("gateskip")
        for program, row in programs.items():
            rate = row["rate"]
            ratio = f"{mine['rate']['median'] / rate['median']:.2f}" if mine else "-"
            print(f"| {name} | {SETS[name][1]} x {SETS[name][2]} | {program} | {rate['median']:.0f} "
                  f"({rate['min']:.0f}-{rate['max']:.0f}) | {ratio} | {row['peak_mib']['median']:.0f} |")
    print("\n" + "\n".join(f"{program}: {words}" for program, words in result["settings"].items()))
    if "nll" in result:
        print("NLL: " + ", ".join(f"{value:.4f} {program}" for program, value in result["nll"].items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateskip", default="build/release/apps/gateskip")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-f", "--text", default="tests/data/sample_text.txt")
    parser.add_argument("--python", default=sys.executable, help="the Python that has torch")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--sets", type=lambda s: s.split(","), default=list(SETS))
    parser.add_argument("--peers", type=lambda s: s.split(","), default=["plain", "hf"])
    parser.add_argument("--full-loss", choices=list(FULL_LOSS), default="ce")
    parser.add_argument("--compile", action="store_true", help="torch.compile in the peers")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for name in args.sets:
        if name not in SETS:
            fail(f"[command line] --sets: expected some of {' '.join(SETS)}, found {name}")

    ids = token_ids(args)
    runs = {name: {program: [] for program in ("gateskip", *args.peers)} for name in args.sets}
    for _ in range(args.rounds):
        for name, programs in runs.items():
            for program, rows in programs.items():
                rows.append(ours(args, name) if program == "gateskip" else peer_step(args, ids, program, name))
    result = {"model": os.path.basename(args.model), "threads": args.threads, "rounds": args.rounds,
              "steps": args.steps, "sets": {}, "settings": {}}
    for name, programs in runs.items():
        result["sets"][name] = {program: {key: spread([r[key] for r in rows]) for key in ("rate", "peak_mib")}
                                for program, rows in programs.items()}
        for program, rows in programs.items():
            if "settings" in rows[0]:
                result["settings"][program] = rows[0]["settings"]
    if args.check:
        result["nll"] = check(args, ids)
    if args.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
