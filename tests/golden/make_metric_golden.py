#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/eval_metrics.json: what lm-evaluation-harness makes of documents and answers written for this test.

usage: make_metric_golden.py --squad-metrics FILE [--check]

Run by hand, in an environment with lm_eval 0.4.13 and datasets. FILE is transformers/data/metrics/squad_metrics.py of
transformers 4.57 (the official SQuAD 2.0 script; `evaluate`, which the harness asks, fetches the same one from the
network). --check compares with the file instead of writing it.

The harness runs for real: its task files, its few-shot sampler, its filters, metrics, aggregations and bootstrap. Only
datasets.load_dataset is replaced, by documents made up here, and the model, by answers made up here. For every task the
file holds the documents as the data set's publisher would write them, the requests, the answers and the results.
"""
import argparse
import importlib.util
import json
import math
import os
import pathlib
import random
import sys
import types

os.environ["DISABLE_MULTIPROC"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
import datasets  # noqa: E402
from lm_eval.api import metrics as harness_metrics  # noqa: E402
from lm_eval.api import task as harness_task  # noqa: E402
from lm_eval.evaluator_utils import _compute_task_aggregations  # noqa: E402
from lm_eval.filters.extraction import RegexFilter  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

PATH = pathlib.Path(__file__).resolve().parent.parent / "data" / "eval_metrics.json"
SEED = 1234
BOOTSTRAP = 1000
DATASET = {}
harness_task.datasets.load_dataset = lambda *args, **kwargs: DATASET["now"]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv(rows):
    return "".join(",".join('"' + str(x).replace('"', '""') + '"' for x in row) + "\n" for row in rows)


def run(name, splits, answers, num_fewshot=0, limit=None):
    """Requests and results of the harness's task, answered from `answers` (of one document a list of responses)."""
    DATASET["now"] = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})
    task = TaskManager().load([name])["tasks"][name]
    task.set_config("num_fewshot", num_fewshot)
    task.set_fewshot_seed(SEED)
    task.build_all_requests(limit=limit)
    docs = {}
    for instance in task.instances:
        docs.setdefault(instance.doc_id, []).append(instance)
    requests, responses, scores, raw = [], [], [], {}
    for doc_id in sorted(docs):
        given = []
        for instance, answer in zip(docs[doc_id], answers(doc_id, docs[doc_id])):
            instance.resps = [answer]
            given.append(answer)
        responses.append(given)
        requests.append([list(i.args) if i.request_type == "loglikelihood" else [i.args[0]] for i in docs[doc_id]])
    results = {}
    if name != "squadv2":
        task.apply_filters()
        filters = [f.name for f in task._filters]
        for doc_id in sorted(docs):
            of_doc = {}
            for key in filters:
                values = task.process_results(docs[doc_id][0].doc, [i.filtered_resps[key] for i in docs[doc_id]])
                for metric, value in values.items():
                    raw.setdefault((metric, key), []).append(value)
                    label = metric if key == "none" else f"{metric},{key}"
                    of_doc[label] = list(value) if isinstance(value, tuple) else float(value)
            scores.append(of_doc)
        aggregated, _ = _compute_task_aggregations(task, raw, BOOTSTRAP)
        for (metric, key) in raw:
            error = aggregated[f"{metric}_stderr,{key}"]
            results[metric if key == "none" else f"{metric},{key}"] = [
                float(aggregated[f"{metric},{key}"]), None if error == "N/A" else float(error), len(raw[metric, key])]
    return {"num_fewshot": num_fewshot, "limit": limit or 0, "requests": requests, "responses": responses,
            "scores": scores, "results": results}


def likelihoods(salt):
    def of(doc_id, instances):
        rng = random.Random(f"{salt} {doc_id}")
        return [(round(rng.uniform(-12, -1), 3), rng.random() < 0.4) for _ in instances]
    return of


def texts(answers):
    return lambda doc_id, instances: [answers[doc_id]]


def case(task, variants, runs):
    """`variants`: the same documents in the forms they are published in, each {file name: content}."""
    return {"task": task, "variants": variants, "runs": runs}


WORDS = ["red", "gr\u00fcn", "l\u00f6wen  mit", "blue-green",
         "a \"quoted\" one", "\u732b", "x", "very long answer indeed"]


def word(i):
    return WORDS[i % len(WORDS)]


def choice_cases():
    letters = ["A", "B", "C", "D", "E"]
    cases = []
    # CommonsenseQA, ARC, OpenBookQA: questions with labelled choices.
    hub, stem, adapters = [], [], []
    for i in range(40):
        count = 5 if i % 7 == 3 else 4
        chosen = [f"{word(i + k)} {k}" for k in range(count)]
        labels = [str(k + 1) for k in range(count)] if i % 5 == 4 else letters[:count]
        question = f"  Which of these is {word(i)} number {i}? " if i % 3 == 0 else f"Why {word(i)} {i}?"
        key = labels[(i * 3 + 1) % count]
        hub.append({"id": f"q{i}", "question": question,
                    "choices": {"text": chosen, "label": labels}, "answerKey": key})
        stem.append({"id": f"q{i}", "question": {"stem": question, "choices": [
            {"text": t, "label": label} for t, label in zip(chosen, labels)]}, "answerKey": key})
        marks = " ".join(f"Answer{k + 1}: {t}" for k, t in enumerate(chosen))
        adapters.append({
            "instruction": f"Please choose the correct answer to the question: {question}\n\n{marks}\n\nAnswer format: "
                           "answer1/answer2", "input": "", "output": "", "answer": f"answer{labels.index(key) + 1}"})
    for name in ["arc_easy", "arc_challenge"]:
        splits = {"train": hub[10:], "validation": hub[8:10], "test": hub[:8]}
        runs = [run(name, splits, likelihoods(name)), run(name, splits, likelihoods(name), 3)]
        cases.append(case(name, [
            {"test.jsonl": lines(stem[:8]), "train.jsonl": lines(stem[10:])},
            {"test.json": json.dumps(adapters[:8]), "train.json": json.dumps(adapters[10:])},
            {"test.jsonl": lines(hub[:8]), "train.jsonl": lines(hub[10:])}], runs))
    named = [dict({k: v for k, v in row.items() if k != "question"}, question_stem=row["question"]) for row in hub]
    splits = {"train": named[10:], "validation": named[8:10], "test": named[:8]}
    runs = [run("openbookqa", splits, likelihoods("o")), run("openbookqa", splits, likelihoods("o"), 2)]
    cases.append(case("openbookqa", [{"test.jsonl": lines(stem[:8]), "train.jsonl": lines(stem[10:])},
                                     {"test.jsonl": lines(named[:8]), "train.jsonl": lines(named[10:])}], runs))
    five = [{"id": f"c{i}", "question": f" Where is {word(i)} {i}? ", "question_concept": "x",
             "answerKey": letters[i * 2 % 5],
             "choices": {"label": letters, "text": [word(i + k) for k in range(5)]}} for i in range(12)]
    publisher = [{"answerKey": r["answerKey"], "id": r["id"], "question": {
        "question_concept": "x", "stem": r["question"],
        "choices": [{"label": a, "text": t} for a, t in zip(letters, r["choices"]["text"])]}} for r in five]
    splits = {"train": five[5:], "validation": five[:5]}
    runs = [run("commonsense_qa", splits, likelihoods("c")), run("commonsense_qa", splits, likelihoods("c"), 2)]
    cases.append(case("commonsense_qa", [{"dev_rand_split.jsonl": lines(publisher[:5]),
                                          "train_rand_split.jsonl": lines(publisher[5:])}], runs))
    # PIQA, whose labels are in another file.
    rows = [{"goal": f"To {word(i)} it {i},", "sol1": f"use {word(i)}.",
             "sol2": f"use {word(i + 1)} and {word(i + 2)}.",
             "label": i * 5 % 3 % 2} for i in range(14)]
    bare = [{k: v for k, v in row.items() if k != "label"} for row in rows]
    splits = {"train": rows[6:], "validation": rows[:6]}
    runs = [run("piqa", splits, likelihoods("p")), run("piqa", splits, likelihoods("p"), 2),
            run("piqa", splits, likelihoods("p"), 0, 3)]
    files = {"valid.jsonl": lines(bare[:6]), "train.jsonl": lines(bare[6:])}
    for split, part in (("valid", rows[:6]), ("train", rows[6:])):
        files[f"{split}-labels.lst"] = "".join(f"{row['label']}\n" for row in part)
    cases.append(case("piqa", [files], runs))
    # HellaSwag, with what its preprocessing takes out.
    rows = [{"ind": i, "activity_label": ["Baking", "Cutting the [grass]", " Finance "][i % 3],
             "ctx_a": f"[header] How to {word(i)} [title] Do it  slowly [step] now. A man  stands {i}.",
             "ctx_b": ["he", "the MAN [substeps]", "", "\u00e9t\u00e9 IST"][i % 4], "ctx": "x",
             "endings": [f"{word(i + k)} [title] {word(k)} [substeps] ends  {k}." for k in range(4)],
             "label": str(i * 3 % 4)} for i in range(11)]
    splits = {"train": rows[6:], "validation": rows[:6]}
    runs = [run("hellaswag", splits, likelihoods("h")), run("hellaswag", splits, likelihoods("h"), 2)]
    published = [dict(row, label=int(row["label"])) for row in rows]
    cases.append(case("hellaswag", [{"hellaswag_val.jsonl": lines(published[:6]),
                                     "hellaswag_train.jsonl": lines(published[6:])}], runs))
    # WinoGrande: one context for each option.
    rows = [{"sentence": f"The {word(i)} did not fit the box because _ was too big {i}.", "option1": f"the {word(i)}",
             "option2": "the box", "answer": str(1 + i * 7 % 2)} for i in range(10)]
    rows[1]["sentence"] = "_ knows _ names."
    splits = {"train": rows[5:], "validation": rows[:5]}
    runs = [run("winogrande", splits, likelihoods("w")), run("winogrande", splits, likelihoods("w"), 2)]
    cases.append(case("winogrande", [{"dev.jsonl": lines(rows[:5]), "train_xl.jsonl": lines(rows[5:])}], runs))
    # BoolQ, as SuperGLUE has it and as it was published.
    rows = [{"question": f"is {word(i)} {i}", "passage": f"Title {i} -- A passage on {word(i)}.", "idx": i,
             "label": i % 3 % 2} for i in range(9)]
    published = [{"question": r["question"], "title": f"Title {r['idx']}", "answer": bool(r["label"]),
                  "passage": r["passage"].split(" -- ", 1)[1]} for r in rows]
    splits = {"train": rows[5:], "validation": rows[:5]}
    runs = [run("boolq", splits, likelihoods("b")), run("boolq", splits, likelihoods("b"), 2)]
    cases.append(case("boolq", [{"val.jsonl": lines(rows[:5]), "train.jsonl": lines(rows[5:])},
                                {"dev.jsonl": lines(published[:5]), "train.jsonl": lines(published[5:])}], runs))
    return cases


def mmlu_case():
    subjects = {"astronomy": 4, "high_school_physics": 7}
    files, headed, parts, runs = {}, {}, [], []
    for subject, count in subjects.items():
        rows = [{"question": f" {subject} {word(i)} {i}?\n", "subject": subject,
                 "choices": [word(i + k) for k in range(4)],
                 "answer": (i * 3 + len(subject)) % 4} for i in range(count + 5)]
        splits = {"test": rows[:count], "dev": rows[count:]}
        runs.append([run(f"mmlu_{subject}", splits, likelihoods(subject), shots) for shots in (0, 5)])
        for split, part in splits.items():
            letters = [[r["question"], *r["choices"], "ABCD"[r["answer"]]] for r in part]
            digits = [[r["question"], *r["choices"], r["answer"]] for r in part]
            files[f"{split}/{subject}_{split}.csv"] = csv(letters)
            headed[f"{split}/{subject}_{split}.csv"] = (
                "question,choice0,choice1,choice2,choice3,answer\n" + csv(digits))
    files["test/world_religions_test.csv"] = csv([["not stem", "a", "b", "c", "d", "A"]])
    merged = []
    for zero, five in zip(*runs):
        both = {key: zero[key] for key in ("num_fewshot", "limit")}
        for key in ("requests", "responses", "scores"):
            both[key] = zero[key] + five[key]
        values, errors, sizes = zip(*(part["results"]["acc"] for part in (zero, five)))
        both["results"] = {
            "acc": [harness_metrics.aggregate_subtask_metrics(values, sizes, True),
                    float(harness_metrics.pooled_sample_stderr(errors, sizes)), sum(sizes)],
            "acc_macro": [harness_metrics.aggregate_subtask_metrics(values, sizes, False),
                          float(harness_metrics.unweighted_mean_stderr(errors)), sum(sizes)],
            "acc:astronomy": [values[0], errors[0], sizes[0]],
            "acc:high_school_physics": [values[1], errors[1], sizes[1]]}
        merged.append(both)
    return [case("mmlu_stem", [files, headed], merged)]


def text_cases():
    cases = []
    rows = [{"question": f"How many {word(i)} are {i} and {i}?",
             "answer": f"It is <<{i}+{i}={2 * i}>>{2 * i}.\n#### {2 * i}"}
            for i in range(60)]
    rows[2]["answer"] = "Much.\n#### 1,234"
    rows[3]["answer"] = "Money.\n#### $7.50"
    answers = ["It is 0.\n#### 0", "about #### 3, or #### 2", "#### 1234.", "The cost is $7.50", "-8", "nothing at all",
               "Ten: 10. \n#### 10 is it", "#### -14", "\u0661\u0662", ""]
    splits = {"train": rows[12:], "test": rows[:10]}
    runs = [run("gsm8k", splits, texts(answers), shots) for shots in (0, 5, 8)]
    cases.append(case("gsm8k", [{"test.jsonl": lines(rows[:10]), "train.jsonl": lines(rows[12:])}], runs))
    rows = [{"text": t} for t in ["The cat sat on the mat", "one two  three",
                                  "\u201cYes,\u201d said Ol\u00e9", "a\nb c\nd", "e f"]]
    runs = [run("lambada_openai", {"test": rows}, likelihoods("l"))]
    cases.append(case("lambada_openai", [{"lambada_test.jsonl": lines(rows)}], runs))
    pages = [" = First = \n \n The <unk> ( 3 @.@ 5 m , 1 @,@ 000 ft ) is \" a b \" ; it 's N years ' old ' . \n \n "
             "= = Part = = "
             "\n \n dogs ' day , well @-@ known ! Is it ? [ 1 ] { x } : yes 20 \u00b0 C \u3000 ( \u00a0y ) /' 5/ \n",
             " = Second article = \n \n = = = Deep = = = \n \n = = = = Deeper = = = = \n Text of the second . \n"]
    rolling = lambda doc_id, instances: [round(-100.25 - 7.5 * doc_id, 3)]
    runs = [run("wikitext",
                {"train": [{"page": "x"}], "validation": [{"page": "x"}], "test": [{"page": p} for p in pages]},
                rolling)]
    # The second form is a file's articles as one text, each up to the next heading of the first level.
    cases.append(case("wikitext", [{"test.txt": lines([{"page": p} for p in pages])},
                                   {"wiki.test.raw": " \n" + pages[0] + "\n" + pages[1]}], runs))
    return cases


def load_squad_metrics(path):
    """The file alone, with stand-ins for what else it imports and does not need here."""
    for name in ("transformers_", "transformers_.data", "transformers_.data.metrics", "transformers_.models",
                 "transformers_.models.bert", "transformers_.utils"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    sys.modules["transformers_.models.bert"].BasicTokenizer = None
    sys.modules["transformers_.utils"].logging = types.SimpleNamespace(get_logger=lambda name: None)
    spec = importlib.util.spec_from_file_location("transformers_.data.metrics.squad_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def squad_case(metrics):
    golds = [["the Red Fox", "fox"], [], ["1,000 m"],
             ["caf\u00e9 an der Ecke"], [], ["a"], ["An answer with words", "words"]]
    answers = [" A red  fox!", "", "1000 M.", "Caf\u00e9 a der ecke",
               "unanswerable", "", "words with an answer, and more words"]
    rows = [{"id": f"s{i}", "title": f"T{i // 3}", "context": f"About {word(i)}.", "question": f"What is {i}?",
             "answers": {"text": gold, "answer_start": [0] * len(gold)}} for i, gold in enumerate(golds)]
    # Log-likelihoods of "unanswerable". With these the best threshold is neither end, and not the same for both metrics.
    unanswerable = [-2.0, -0.5, -3.0, -1.0, -0.25, -1.0, -0.75]
    squad_run = run("squadv2", {"train": rows, "validation": rows},
                    lambda i, _: [answers[i], (unanswerable[i], False)])

    def evaluate(indices):
        examples = [types.SimpleNamespace(qas_id=str(i), answers=[{"text": t} for t in golds[i]]) for i in indices]
        return metrics.squad_evaluate(examples, {str(i): answers[i] for i in indices},
                                      {str(i): math.exp(unanswerable[i]) for i in indices})
    names = ("exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1")
    squad_run["scores"] = [{k: float(v) for k, v in evaluate([i]).items() if k in names} for i in range(len(golds))]
    whole = evaluate(range(len(golds)))
    counts = {"": len(golds), "HasAns": sum(map(bool, golds)), "NoAns": sum(not g for g in golds)}
    squad_run["results"] = {}
    for name in names:
        of = [s[name] for s in squad_run["scores"] if name in s]
        count = counts[name.split("_")[0] if "_" in name else ""]
        squad_run["results"][name] = [float(whole[name]), harness_metrics.mean_stderr(of), count]
    for name in ("best_exact", "best_f1"):
        squad_run["results"][name] = [float(whole[name]), None, len(golds)]
    articles = {"version": "v2.0", "data": [{"title": f"T{t}", "paragraphs": [
        {"context": r["context"], "qas": [{"id": r["id"], "question": r["question"],
                                          "is_impossible": not r["answers"]["text"],
                                           "answers": [{"text": x, "answer_start": 0} for x in r["answers"]["text"]]}]}
        for r in rows if r["title"] == f"T{t}"]} for t in range(3)]}
    queries = {"queries.json": json.dumps(
               {"queries": [{k: r[k] for k in ("id", "title", "context", "question")} for r in rows]}),
               "ground_truth.json": json.dumps({r["id"]: {"answers": r["answers"]["text"] or [""]} for r in rows})}
    return [case("squadv2", [{"dev-v2.0.json": json.dumps(articles)}, queries], [squad_run])]


def filter_cases():
    """RegexFilter on its own: [pattern, group_select, text, answer]."""
    patterns = [(r"#### (\-?[0-9\.\,]+)", 0), (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1), (r"[a-z]+", 1), (r"(x)?(y)?", 0),
                (r"b*", -1), (r"( .*? );", 0)]
    inputs = ["", "#### 12", "#### 1 then #### -2,000.5", "a 7 b $8.25 c 9",
              "abc def", "bbb a bb", "y", "   padded  ; x ;"]
    rows = []
    for pattern, select in patterns:
        for text in inputs:
            try:
                (answer,), = RegexFilter(pattern, select).apply([[text]], [{}])
            except IndexError:  # fewer matches than group_select asks for: there the harness gives up
                continue
            rows.append([pattern, select, text, answer])
    return rows


def exact_match_cases():
    """[prediction, reference, options, value]."""
    options = [{}, {"ignore_case": True}, {"ignore_punctuation": True}, {"ignore_numbers": True},
               {"ignore_case": True, "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"]}]
    pairs = [("Yes", "yes"), ("it's", "its"), ("a1b22", "ab"), ("1,234.", "x\ny #### $1234"),
             ("\u00c4", "\u00e4"), ("", "."),
             ("same", "same")]
    return [[p, r, o,
             float(harness_metrics.exact_match_hf_evaluate(predictions=[p], references=[r], **o)["exact_match"])]
            for o in options for p, r in pairs]


def random_cases():
    """Python's random: seed, and the draws after each other."""
    rows = []
    for seed in (0, 1234, 2**32 + 5):
        rng = random.Random(seed)
        rows.append({"seed": seed, "uniform": [rng.random() for _ in range(4)],
                     "samples": [[n, k, rng.sample(range(n), k)]
                                 for n, k in ((5, 5), (21, 5), (21, 5), (22, 5), (85, 6),
                                              (86, 6), (86, 20), (2000, 25))],
                     "choices": rng.choices(range(37), k=8), "after": rng.random()})
    return rows


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--squad-metrics", required=True)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    golden = {"harness": "lm_eval 0.4.13", "seed": SEED, "tasks": choice_cases() + mmlu_case() + text_cases()
              + squad_case(load_squad_metrics(options.squad_metrics)),
              "regex_filter": filter_cases(), "exact_match": exact_match_cases(), "random": random_cases()}
    line = lambda value: json.dumps(value, ensure_ascii=True)
    rows = lambda values: "[\n" + ",\n".join(line(value) for value in values) + "\n]"
    text = "{" + ",\n".join(f'"{key}": {rows(value) if isinstance(value, list) else line(value)}'
                            for key, value in golden.items()) + "}\n"
    if not options.check:
        PATH.write_text(text)
    elif PATH.read_text() != text:
        sys.exit(f"{PATH}: expected what this harness gives, found another text; run without --check")


if __name__ == "__main__":
    main()
