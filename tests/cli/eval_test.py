# SPDX-License-Identifier: Apache-2.0
"""eval: a small sweep from the outside, its files, going on after an interruption, and what people get wrong."""
import json
import pathlib
import tempfile
import unittest

import cli_case

TASK = """task = "tiny"
output_type = "multiple_choice"
doc_to_text = "in the {{a}}"
doc_to_choice = "{{[b, c]}}"
doc_to_target = "label"
metric_list = [{metric = "acc"}]
"""


class EvalTest(cli_case.CliCase):
    def setUp(self):
        super().setUp()
        # Beside the working folder, in which nothing may appear when a run is refused.
        inputs = tempfile.TemporaryDirectory()
        self.addCleanup(inputs.cleanup)
        self.inputs = pathlib.Path(inputs.name)
        words = ["end", "box", "line", "things"]
        (self.inputs / "docs.jsonl").write_text("".join(
            json.dumps({"a": words[i % 4], "b": words[(i + 1) % 4], "c": words[(i + 2) % 4], "label": i % 2}) + "\n"
            for i in range(12)))
        (self.inputs / "task.toml").write_text(TASK)
        self.text = self.inputs / "text.txt"
        self.text.write_text("in the end there are things on the line and in the box\n" * 200)

    def evaluate(self, *words):
        return self.run_cli("eval", "-m", self.llama, "--task-file",
                            f"{self.inputs}/task.toml={self.inputs}/docs.jsonl", "-o", str(self.inputs / "out"), *words)

    def test_a_sweep_with_rivals_writes_results_samples_and_a_page(self):
        done = self.evaluate("--adapter", self.adapter, "--budget", "0,0.2", "--policy", "gates", "--policy", "shortgpt",
                             "--policy", "calm-state", "--arm", f"gated-random=random@{self.adapter}", "--calibration",
                             str(self.text), "--calibration-tokens", "512", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        results = json.loads(done.stdout.decode())
        cells = {(r["arm"], r["requested"]) for r in results["results"]}
        self.assertEqual(cells, {("original", 0), ("gates", 0), ("gates", 0.2), ("shortgpt", 0.2), ("calm-state", 0.2),
                                 ("gated-random", 0.2)})
        self.assertEqual(json.loads((self.inputs / "out/results.json").read_text()), results)
        self.assertIn("</html>", (self.inputs / "out/report.html").read_text())
        lines = (self.inputs / "out/samples/gates/tiny@0.2.jsonl").read_text().splitlines()
        self.assertEqual(sum("instance" in json.loads(line) for line in lines), 12)
        # Nothing is run twice.
        again = self.evaluate("--adapter", self.adapter, "--budget", "0,0.2", "--policy", "gates", "--json")
        self.assertEqual((self.inputs / "out/samples/gates/tiny@0.2.jsonl").read_text().splitlines(), lines)
        self.assertEqual(again.returncode, 0, again.stderr)

    def test_examples_come_from_where_one_says(self):
        examples = self.inputs / "examples.jsonl"
        examples.write_text("".join(json.dumps({"a": "sky", "b": "is", "c": "was", "label": 0}) + "\n" for _ in range(3)))
        done = self.evaluate("--num-fewshot", "2", "--fewshot", f"tiny={examples}", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = (self.inputs / "out/samples/original/tiny@0.jsonl").read_text().splitlines()
        samples = [json.loads(line)["sample"] for line in lines if "sample" in line]
        self.assertEqual(len(samples), 12)
        for sample in samples:
            for request in sample["requests"]:
                self.assertTrue(request["context"].startswith("in the sky is\n\nin the sky is\n\nin the "), request)

    def test_the_list_names_tasks_and_papers(self):
        done = self.run_cli("eval", "--list")
        self.assertEqual(done.returncode, 0)
        for word in ("hellaswag", "gsm8k", "shortgpt", "arXiv 2207.07061"):
            self.assertIn(word, done.stdout.decode())

    def test_mistakes_are_named(self):
        out = ("-o", str(self.inputs / "out"))
        task = f"{self.inputs}/task.toml={self.inputs}/docs.jsonl"
        for words, status, named in (
                ((), cli_case.USAGE, "--task"),
                (("--task", "piqua=x"), cli_case.NOT_FOUND, "did you mean 'piqa'"),
                (("--task", "piqa"), cli_case.USAGE, "NAME=PATH"),
                (("--task", f"piqa={self.inputs}/absent"), cli_case.NOT_FOUND, "absent"),
                (("--task-file", task, "--policy", "shortgtp"), cli_case.USAGE, "did you mean 'shortgpt'"),
                (("--task-file", task, "--policy", "gates", "--budget", "0.2"), cli_case.USAGE, "adapter"),
                (("--task-file", task, "--policy", "shortgpt", "--budget", "0.2"), cli_case.USAGE, "calibration"),
                (("--task-file", task, "--shard", "3/2"), cli_case.USAGE, "shard"),
                (("--task-file", task, "--arm", "x"), cli_case.USAGE, "NAME=POLICY"),
                (("--task-file", task, "--fewshot", "tiny"), cli_case.USAGE, "TASK=PATH"),
                (("--task-file", task, "--fewshot", "tinny=x"), cli_case.USAGE, "found 'tinny'"),
                (("--task-file", task, "--num-fewshot", "1", "--fewshot", f"tiny={self.inputs}/absent"),
                 cli_case.NOT_FOUND, "absent"),
                (("--task-file", f"{self.inputs}/docs.jsonl={self.inputs}/docs.jsonl"), cli_case.USAGE, "TOML")):
            with self.subTest(words=words):
                self.assert_refused(status, "eval", "-m", self.llama, *out, *words, says=named)
        self.assertFalse((self.inputs / "out/results.json").exists())

    def test_samples_of_another_model_are_not_mixed_in(self):
        self.assertEqual(self.evaluate().returncode, 0)
        self.assert_refused(cli_case.MISMATCH, "eval", "-m", self.llama, "--task-file",
                            f"{self.inputs}/task.toml={self.inputs}/docs.jsonl", "-o", str(self.inputs / "out"), "--f32",
                            says="--output")


if __name__ == "__main__":
    unittest.main()
