#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stock lm_eval against the server, beside `gateskip eval`: the same documents (made up here), a multiple choice task and
one that generates, without gates and at a budget. Every score and every generated text has to be the same.

usage: VENV/bin/python lm_eval_equal.py -m MODEL --adapter DIR [--budget 0.25]
needs: pip install 'lm_eval[api]==0.4.13' transformers
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from outside_case import parse

THINGS = ["apple", "river", "hammer", "cloud", "violin", "bridge", "candle", "garden", "mirror", "pencil", "rocket", "spoon"]
TASKS = {
    "made_up_choice": {"output_type": "multiple_choice", "doc_to_text": "Which of these is a {{kind}}?\nAnswer:",
                       "doc_to_target": "{{answer}}", "doc_to_choice": "{{choices}}", "metric": ["acc", "acc_norm"]},
    "made_up_text": {"output_type": "generate_until", "doc_to_text": "A list of things: {{first}}, {{second}},",
                     "doc_to_target": "{{third}}", "metric": ["exact_match"],
                     "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 24}},
}


def documents(count):
    draw = random.Random(7)
    for _ in range(count):
        names = draw.sample(THINGS, 4)
        yield {"kind": f"word of {len(names[0])} letters, beginning with {names[0][0]}", "choices": names, "answer": 0,
               "first": names[1], "second": names[2], "third": names[3]}


def write_tasks(folder, count):
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(d) + "\n" for d in documents(count)))
    for name, task in TASKS.items():
        common = {k: v for k, v in task.items() if k not in ("metric", "generation_kwargs")}
        toml = [f"{k} = {json.dumps(v)}" for k, v in {"task": name, **common}.items()]
        if "generation_kwargs" in task:
            toml += ["[generation_kwargs]", *(f"{k} = {json.dumps(v)}" for k, v in task["generation_kwargs"].items())]
        toml += ["[data]", 'format = "jsonl"', 'files = ["documents.jsonl"]']
        for metric in task["metric"]:
            toml += ["[[metric_list]]", f'metric = "{metric}"']
        (folder / f"{name}.toml").write_text("\n".join(toml) + "\n")
        # JSON is YAML.
        yaml = {"task": name, **common, "dataset_path": "json", "test_split": "test",
                "dataset_kwargs": {"data_files": {"test": str(data)}},
                "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in task["metric"]]}
        if "generation_kwargs" in task:
            yaml["generation_kwargs"] = {**task["generation_kwargs"], "do_sample": False, "temperature": 0}
        (folder / f"{name}.yaml").write_text(json.dumps(yaml))


def ours(args, folder, budget):
    out = folder / f"ours{budget}"
    words = [args.gateskip, "eval", "-m", args.model, "--adapter", args.adapter, "--budget", str(budget), "-o", str(out)]
    for name in TASKS:
        words += ["--task-file", f"{folder / name}.toml={folder}"]
    subprocess.run(words, check=True, capture_output=True)
    samples = {}
    for name in TASKS:
        files = [f for f in (out / "samples").glob(f"*/{name}@*.jsonl") if f.parent.name != "original"]
        assert len(files) == 1, f"expected the samples of {name}, found {files} in {list(out.rglob('*'))}"
        lines = [json.loads(line) for line in files[0].read_text().splitlines()]
        samples[name] = sorted((l for l in lines if "instance" in l), key=lambda line: line["instance"])
    return samples


def theirs(args, folder, port, budget):
    out = folder / f"theirs{budget}"
    tokenizer = folder / "tokenizer"
    words = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args",
             f"model=any,base_url=http://127.0.0.1:{port}/v1/completions,num_concurrent=4,tokenized_requests=True,"
             f"tokenizer={tokenizer},max_length=2048", "--tasks", ",".join(TASKS), "--include_path", str(folder),
             "--output_path", str(out), "--log_samples", "--batch_size", "4"]
    env = {**os.environ, "OPENAI_API_KEY": "none", "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1",
           "HF_HOME": str(folder / "cache"), "TRANSFORMERS_OFFLINE": "1"}
    result = subprocess.run(words, env=env, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(result.stdout[-2000:] + result.stderr[-4000:])
    samples = {}
    for name in TASKS:
        file = next(out.rglob(f"samples_{name}_*.jsonl"))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        samples[name] = sorted(rows, key=lambda row: row["doc_id"])
    return samples


def main():
    args, server_case = parse(__doc__, budget=0.25, documents=40)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_tasks(folder, args.documents)
        subprocess.run([args.gateskip, "export", "-m", args.model, "-o", str(folder / "tokenizer"), "--format",
                        "safetensors"], check=True, capture_output=True)
        for budget in (0, args.budget):
            server = server_case.Server(args.model, "--adapter", args.adapter, "--budget", str(budget))
            try:
                compare(budget, ours(args, folder, budget), theirs(args, folder, server.port, budget))
            finally:
                server.stop()


def compare(budget, mine, others):
    largest = 0.0
    texts = 0
    for name in TASKS:
        assert len(mine[name]) == len(others[name]), name
        for ours_row, their_row in zip(mine[name], others[name]):
            response = ours_row["response"]
            if TASKS[name]["output_type"] == "multiple_choice":
                their_scores = [float(r[0][0]) for r in their_row["resps"]]
                for a, b in zip(response["log_likelihoods"], their_scores, strict=True):
                    largest = max(largest, abs(a - b))
            else:
                text = their_row["resps"][0][0]
                assert response.get("text", "") == text, (budget, response, text)
                texts += 1
    # The harness adds up floats that JSON holds exactly; both sum in double: 1e-3 is far above, any other token far below.
    assert largest < 1e-3, f"expected the same log-likelihoods, found a difference of {largest}"
    print(f"budget {budget}: largest difference of a log-likelihood {largest:.2e}, {texts} generated texts the same")


if __name__ == "__main__":
    main()
