#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/eval_smollm2.json: what lm-evaluation-harness with transformers answers, request by request.

usage: make_eval_golden.py SmolLM2-135M-Instruct.Q4_1.gguf > tests/data/eval_smollm2.json
needs: pip install lm_eval==0.4.13 torch transformers gguf datasets

The documents are made up here, 100 and more for each output type. The harness renders, tokenizes, truncates and scores
them; the weights are the GGUF's, dequantised to f32. The C++ test renders the same documents through our own task layer
and compares the requests as text, the log-likelihoods within a tolerance, and the generations letter by letter.
"""
import json
import pathlib
import sys
import tempfile

import lm_eval
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES = ["Ada", "Ben", "Clara", "Dario", "Edith", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Karla", "Levi"]
THINGS = ["apples", "stamps", "marbles", "books", "shells", "coins", "candles", "pencils", "maps", "keys", "plates"]
PLACES = ["kitchen", "garden", "cellar", "harbour", "library", "station", "workshop", "attic", "bakery", "school"]
VERBS = ["finds", "buys", "paints", "counts", "hides", "sells", "carries"]


def documents(count):
    for i in range(count):
        name, other = NAMES[i % 12], NAMES[(i * 5 + 3) % 12]
        thing, place, verb = THINGS[(i * 7) % 11], PLACES[(i * 3) % 10], VERBS[(i * 4) % 7]
        a, b = 2 + i * 13 % 17, 1 + i * 7 % 9
        yield {"question": f"{name} {verb} {a} {thing} in the {place} and gives {b} of them to {other}. "
                           f"What does {other} get?",
               "choices": [f"{b} {thing}", f"the {place}", f"{thing} and the {place} of {name}", "nothing at all"],
               "answer": i % 4,
               "text": f"{name} walked to the {place} with {a} {thing}. It was late, and nobody was there. \"Where is "
                       f"{other}?\" {name} asked. In the {place} there was only a lamp, and beside the lamp a note from {other}",
               "page": f" = {name} and the {place} = \n \n In the {place} , {name} keeps {a} {thing} ( {b} of them old ) . "
                       f"They were bought in 19{10 + i % 90} .\n" * (1 + i % 3)}


TASKS = {
    "golden_choice": {"output_type": "multiple_choice", "doc_to_text": "Question: {{question}}\nAnswer:",
                      "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
                      "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]},
    "golden_last_word": {"output_type": "loglikelihood", "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
                         "doc_to_target": "{{' '+text.split(' ')[-1]}}",
                         "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}]},
    "golden_rolling": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{page}}",
                       "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"},
                                       {"metric": "bits_per_byte"}]},
    "golden_generate": {"output_type": "generate_until", "doc_to_text": "Question: {{question}}\nAnswer:",
                        "doc_to_target": "{{choices[0]}}",
                        "generation_kwargs": {"until": ["\n\n", "Question:"], "max_gen_toks": 24, "do_sample": False},
                        "filter_list": [{"name": "number", "filter": [
                            {"function": "regex", "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)", "group_select": -1},
                            {"function": "take_first"}]}],
                        "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}]},
}


def load(path):
    path = pathlib.Path(path)
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu", dtype="float32", max_length=1024)


def main():
    docs = list(documents(104))
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "docs.jsonl"
        data.write_text("".join(json.dumps(d) + "\n" for d in docs), encoding="utf-8")
        configs = [{"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
                    "test_split": "test", **body} for name, body in TASKS.items()]
        results = lm_eval.simple_evaluate(model=load(sys.argv[1]), tasks=configs, num_fewshot=0, log_samples=True,
                                          bootstrap_iters=0)
    out = {"harness": lm_eval.__version__, "model": pathlib.Path(sys.argv[1]).name, "max_length": 1024, "documents": docs,
           "tasks": {}}
    for name in TASKS:
        rows = {}
        for sample in results["samples"][name]:
            rows[sample["doc_id"]] = sample
        answers = []
        for doc_id in sorted(rows):
            sample = rows[doc_id]
            requests = [list(sample["arguments"][key].values()) if isinstance(sample["arguments"], dict) else list(key)
                        for key in sample["arguments"]]
            responses = [r[0] for r in sample["resps"]]
            answer = {"requests": [[text for text in r if isinstance(text, str)] for r in requests]}
            if name == "golden_generate":
                answer["text"] = responses[0]
                answer["filtered"] = sample["filtered_resps"][0]
            else:
                flat = [r if isinstance(r, (list, tuple)) else [r, False] for r in responses]
                answer["log_likelihoods"] = [float(r[0]) for r in flat]
                answer["is_greedy"] = [str(r[1]) == "True" for r in flat]
            answers.append(answer)
        metrics = {key.split(",")[0]: value for key, value in results["results"][name].items()
                   if isinstance(value, float) and "stderr" not in key}
        errors = {key.split(",")[0].replace("_stderr", ""): value for key, value in results["results"][name].items()
                  if isinstance(value, float) and "stderr" in key}
        out["tasks"][name] = {"answers": answers, "metrics": metrics, "standard_errors": errors}
    json.dump(out, sys.stdout, ensure_ascii=False, indent=0)
    print()


if __name__ == "__main__":
    main()
