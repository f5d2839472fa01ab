# SPDX-License-Identifier: Apache-2.0
"""tokenize, info, perplexity, bench, data, calibrate and analyze on the tiny models."""
import json
import math
import pathlib
import shutil
import unittest

import cli_case

TEXT = "The sea was calm. A boat went out, and the boat came back. " * 12


class TokenizeTest(cli_case.CliCase):
    def test_there_and_back(self):
        for model in (self.llama, self.gemma3):
            for text in ("hello world", "naïve café — 日本語 🙂", "a\n\tb\r\n", "x"):
                answer = self.run_json("tokenize", "-m", model, "--no-bos", "-p", text)
                self.assertEqual(answer["count"], len(answer["ids"]))
                self.assertEqual(answer["text"], text)
                back = self.run_ok("tokenize", "-m", model, "--ids", ",".join(map(str, answer["ids"])))
                self.assertEqual(back.stdout.decode(), text + "\n")

    def test_count_and_listing_agree(self):
        count = int(self.run_ok("tokenize", "-m", self.llama, "--count", "-p", "hello").stdout)
        listing = self.run_ok("tokenize", "-m", self.llama, "-p", "hello").stdout.decode().splitlines()
        self.assertEqual(len(listing), count)

    def test_json_ids_can_be_pasted_back(self):
        ids = self.run_json("tokenize", "-m", self.llama, "--no-bos", "-p", "hello")["ids"]
        self.assertEqual(self.run_ok("tokenize", "-m", self.llama, "--ids", json.dumps(ids)).stdout, b"hello\n")

    def test_ids_out_of_range(self):
        for ids in ("-1", "99999999", "1,x", "1e3", "99999999999999999999"):
            self.assert_refused(cli_case.USAGE, "tokenize", "-m", self.llama, "--ids", ids, says="--ids")


class InfoTest(cli_case.CliCase):
    def test_model(self):
        for model, architecture in ((self.llama, "llama"), (self.gemma3, "gemma3")):
            answer = self.run_json("info", "-m", model, "--tensors", "--metadata")
            self.assertEqual(answer["model"]["architecture"], architecture)
            self.assertRegex(answer["model"]["fingerprint"], r"^[0-9a-f]{64}$")
            self.assertEqual(sum(t["bytes"] for t in answer["tensors"]), answer["model"]["tensor_bytes"])
            self.assertEqual(answer["metadata"]["general.architecture"].strip('"'), architecture)
            text = self.run_ok("info", "-m", model, "--tensors", "--metadata").stdout.decode()
            self.assertIn("blk.0.attn_q.weight", text)

    def test_adapter(self):
        answer = self.run_json("info", "-m", self.llama, "--adapter", self.adapter)["adapter"]
        self.assertTrue(answer["fits_this_model"])
        self.assertEqual(answer["kv_rule"], "compute")
        self.assertEqual([b["budget"] for b in answer["budgets"]], sorted(b["budget"] for b in answer["budgets"]))
        other = self.run_json("info", "-m", self.gemma3, "--adapter", self.adapter)["adapter"]
        self.assertFalse(other["fits_this_model"])
        self.run_ok("info", "-m", self.llama, "--adapter", self.adapter)


class PerplexityTest(cli_case.CliCase):
    def perplexity(self, *words, model=None):
        return self.run_json("perplexity", "-m", model or self.llama, "-t", 1, "-p", TEXT, "-c", 64, *words)

    def test_figures_hang_together(self):
        for model in (self.llama, self.gemma3):
            r = self.perplexity(model=model)["results"][0]
            self.assertAlmostEqual(r["perplexity"], math.exp(r["nll"]), delta=1e-9 * r["perplexity"])
            self.assertAlmostEqual(r["perplexity_standard_error"], r["perplexity"] * r["nll_standard_error"])
            self.assertAlmostEqual(r["bits_per_byte"], r["nll"] * r["tokens"] / math.log(2) / r["bytes"])
            self.assertGreater(r["windows"], 1)
            self.assertGreater(r["nll_standard_error"], 0)

    def test_every_token_is_scored_once(self):
        ids = self.run_json("tokenize", "-m", self.llama, "-p", TEXT)["ids"]
        plain = self.run_json("tokenize", "-m", self.llama, "-p", TEXT, "--no-bos")["ids"]
        bos = len(ids) - len(plain)
        windows = math.ceil(len(plain) / (64 - bos))
        r = self.perplexity()["results"][0]
        if bos:
            self.assertEqual(r["tokens"], len(plain))
        else:
            self.assertIn(r["tokens"], (len(plain) - windows, len(plain) - windows + 1))

    def test_budgets_make_rows_with_their_saving(self):
        rows = self.perplexity("--adapter", self.adapter, "--budget", "0,0.2")["results"]
        self.assertEqual([r["saving"]["requested"] for r in rows], [0, 0.2])
        self.assertEqual(rows[0]["saving"]["branches_skipped"], 0)
        self.assertGreater(rows[1]["saving"]["branches_skipped"], 0)
        self.assertNotEqual(rows[0]["nll"], rows[1]["nll"])

    def test_max_tokens(self):
        r = self.perplexity("--max-tokens", 50)["results"][0]
        self.assertLessEqual(r["tokens"], 50)

    def test_too_short(self):
        # One token can be scored after a BOS; without any there is nothing.
        self.assert_refused(cli_case.USAGE, "perplexity", "-m", self.llama, "-p", "")


class BenchTest(cli_case.CliCase):
    def bench(self, *words):
        return ("bench", "-m", self.llama, "--adapter", self.adapter, "-t", "1", "-p", "24", "-n", "6", "-r", "2",
                "--budgets", "0,0.2", *words)

    def test_json(self):
        answer = self.run_json(*self.bench())
        self.assertEqual([r["config"] for r in answer["rows"]], ["ungated", "gates", "gated", "gated"])
        for r in answer["rows"]:
            self.assertGreater(r["prefill_giga_operations_per_second"], 0)
            self.assertGreater(r["dot_product_giga_operations_per_second"], 0)
            for rate in ("prefill_tokens_per_second", "decode_tokens_per_second", "both_tokens_per_second"):
                self.assertLessEqual(r[rate]["min"], r[rate]["median"])
                self.assertLessEqual(r[rate]["median"], r[rate]["max"])
                self.assertGreater(r[rate]["min"], 0)
            self.assertRegex(r["logits_hash"], r"^[0-9a-f]{8}$")
        self.assertEqual(answer["rows"][0]["decode_speedup"], 1)
        self.assertEqual(answer["rows"][0]["saving"]["decode"]["branches_skipped"], 0)
        # Deciding alone skips nothing; a budget does.
        self.assertEqual(answer["rows"][1]["saving"]["decode"]["branches_skipped"], 0)
        self.assertGreater(answer["rows"][3]["saving"]["decode"]["branches_skipped"], 0)
        self.assertEqual(answer["rows"][1]["logits_hash"], answer["rows"][2]["logits_hash"])

    def test_prompt_then_generation_takes_the_time_of_both(self):
        for r in self.run_json(*self.bench("-r", "1"))["rows"]:
            prompt, decode = (r[f"{phase}_tokens_per_second"]["median"] for phase in ("prefill", "decode"))
            self.assertAlmostEqual(r["both_tokens_per_second"]["median"] * (24 / prompt + 6 / decode), 24 + 6, places=6)

    def test_depths_and_sequences(self):
        rows = self.run_json(*self.bench("-d", "0,40", "-s", "1,3"))["rows"]
        self.assertEqual([(r["depth"], r["sequences"]) for r in rows[::4]], [(0, 1), (0, 3), (40, 1), (40, 3)])
        for r in rows:
            self.assertEqual(r["saving"]["prefill"]["rows"], 24 * r["sequences"], "the depth is not measured")
            self.assertEqual(r["saving"]["decode"]["rows"], 6 * r["sequences"])
            self.assertEqual(r["ideal_decode_speedup"] is None, r["sequences"] > 1)
        self.assertEqual(rows[4]["decode_speedup"], 1, "each group has its own ungated row")

    def test_a_filled_context_is_the_beginning_of_the_prompt(self):
        whole = self.run_json(*self.bench())["rows"]
        split = self.run_json(*self.bench("-d", "8", "-p", "16"))["rows"]
        self.assertEqual([r["logits_hash"] for r in whole], [r["logits_hash"] for r in split])

    def test_a_context_too_long_for_the_model(self):
        self.assert_refused(cli_case.USAGE, *self.bench("-d", "100000"), says="context length")

    def test_kv_cache_formats(self):
        half = self.run_json(*self.bench())
        eight = self.run_json(*self.bench("--kv-cache", "q8_0"))
        self.assertEqual([half["model"]["kv_cache"], eight["model"]["kv_cache"]], ["f16", "q8_0"])
        # 2 bytes an element; 1 and a share of a scale of 4 for each block of at most 32.
        self.assertLess(eight["model"]["kv_bytes_per_token"], 0.8 * half["model"]["kv_bytes_per_token"])
        self.assertNotEqual(half["rows"][0]["logits_hash"], eight["rows"][0]["logits_hash"])

    def test_the_answer_does_not_depend_on_the_run(self):
        first = self.run_json(*self.bench())["rows"]
        second = self.run_json(*self.bench("-t", "2"))["rows"]
        self.assertEqual([r["logits_hash"] for r in first], [r["logits_hash"] for r in second])

    def test_tables_fit_a_terminal(self):
        path = self.folder / "text.txt"
        path.write_text(TEXT)
        for words in ((), ("-d", "0,200", "-s", "1,16"), ("--table", "--text", path, "--prompt", "hello")):
            out = self.run_ok(*self.bench(*words)).stdout.decode()
            for line in out.splitlines():
                self.assertLess(len(line), 120, line)
            self.assertIn("ungated", out)

    def test_csv(self):
        lines = self.run_ok(*self.bench("-o", "csv", "-t", "1,2")).stdout.decode().splitlines()
        self.assertEqual(len(lines), 1 + 2 * 4)
        self.assertEqual(len({line.count(",") for line in lines}), 1)


class DataTest(cli_case.CliCase):
    # Random weights end a question by chance only, so they are drawn from nearly evenly.
    def data(self, out, *words):
        return ("data", "-m", self.llama, "-o", out, "-t", "1", "-n", "12", "-c", "256", "--temp", "20", "--top-p", "1",
                *words)

    def records(self, path):
        return [json.loads(line) for line in path.read_text().splitlines()]

    def test_the_model_asks_and_answers(self):
        out = self.folder / "self.jsonl"
        self.run_ok(*self.data(out, "--tokens", 600, "--seed", 3))
        records = self.records(out)
        self.assertGreater(len(records), 2)
        for r in records:
            self.assertEqual(set(r), {"prompt", "completion", "tokens", "index"})
            self.assertTrue(r["prompt"] and r["completion"])
        self.assertGreaterEqual(sum(r["tokens"] for r in records), 600)
        self.assertEqual([r["index"] for r in records], sorted({r["index"] for r in records}))

    def test_a_resumed_file_is_that_of_one_run(self):
        whole, parts = self.folder / "whole.jsonl", self.folder / "parts.jsonl"
        self.run_ok(*self.data(whole, "--tokens", 800, "--seed", 5))
        self.run_ok(*self.data(parts, "--tokens", 200, "--seed", 5))
        with parts.open("ab") as f:
            f.write(b'{"prompt": "half a rec')  # a killed run's last line
        self.run_ok(*self.data(parts, "--tokens", 800, "--seed", 5, "--resume"))
        self.assertEqual(parts.read_bytes(), whole.read_bytes())
        other = self.folder / "other.jsonl"
        self.run_ok(*self.data(other, "--tokens", 200, "--seed", 6))
        self.assertNotEqual(other.read_bytes(), whole.read_bytes()[:len(other.read_bytes())])

    def test_prompts_of_a_file(self):
        prompts = self.folder / "prompts.txt"
        prompts.write_text("What is the sea?\n\n  Where are the boats?  \n")
        out = self.folder / "answers.jsonl"
        self.run_ok(*self.data(out, "--prompts", prompts))
        self.assertEqual([r["prompt"] for r in self.records(out)], ["What is the sea?", "Where are the boats?"])

    def test_training_reads_what_it_writes(self):
        out = self.folder / "self.jsonl"
        self.run_ok(*self.data(out, "--tokens", 400))
        result = self.run_cli("train", "-m", self.llama, "-f", out, "--run", self.folder / "run", "--steps", 0,
                              "--sequence-length", 16, "--fit-sequences", 1, "--prior-sequences", 1, "--essential-rise", 100)
        if result.returncode != cli_case.UNSUPPORTED:  # a build without LibTorch
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_refusals(self):
        self.assert_refused(cli_case.USAGE, "data", "-m", self.llama, says="--out")
        self.assert_refused(cli_case.NOT_FOUND, *self.data("x.jsonl", "--prompts", "/no/such/file"))
        there = self.fixtures / "there.jsonl"
        there.write_text("mine\n")
        self.addCleanup(there.unlink)
        self.assert_refused(cli_case.USAGE, *self.data(there), says="--resume")
        self.assert_refused(cli_case.CORRUPT, *self.data(there, "--resume"))
        for text in ("mine, without a line end", '{"prompt": 1, "index": 0}\n', "[]\n"):
            there.write_text(text)
            self.assert_refused(cli_case.CORRUPT, *self.data(there, "--resume"), says="gateskip data")
            self.assertEqual(there.read_text(), text)
        self.assert_refused(cli_case.IO, *self.data("/no/such/folder/x.jsonl"), says="check the folder")

    def synthetic(self, out, *words):
        return ("data", "--synthetic", "addition", "-o", out, *words)

    def test_synthetic_tasks_need_no_model(self):
        out = self.folder / "addition.jsonl"
        self.run_ok(*self.synthetic(out, "--examples", 20, "--split", "test", "--size", 2, "--seed", 5))
        records = self.records(out)
        self.assertEqual(len({r["prompt"] for r in records}), 20)
        for r in records:
            a, b = r["prompt"].rstrip(":").split("+")
            self.assertEqual(r["answer"], str(int(a) + int(b)))
            self.assertTrue(r["completion"].endswith("=" + r["answer"]))
        other = self.folder / "train.jsonl"
        self.run_ok(*self.synthetic(other, "--examples", 20, "--size", 2, "--seed", 5))
        self.assertFalse({r["prompt"] for r in records} & {r["prompt"] for r in self.records(other)})

    def test_synthetic_refusals(self):
        out = self.folder / "refused.jsonl"
        for words in (("--model", self.llama), ("--tokens", 5), ("--resume",), ("--temp", 1), ("--prompts", "x"), ("--threads", 1)):
            self.assert_refused(cli_case.USAGE, *self.synthetic(out, *words), says=words[0].removeprefix("-"))
        for words in (("--examples", 3), ("--split", "test"), ("--size", 2)):
            self.assert_refused(cli_case.USAGE, *self.data(out, *words), says="--synthetic")
        self.assert_refused(cli_case.USAGE, "data", "--synthetic", "addition", says="--out")
        self.assert_refused(cli_case.USAGE, "data", "--synthetic", "subtraction", "-o", out, says="subtraction")
        self.assert_refused(cli_case.USAGE, *self.synthetic(out, "--size", 10), says="size")
        self.assert_refused(cli_case.LIMIT, *self.synthetic(out, "--size", 1, "--examples", 500), says="hardly any")
        self.assertFalse(out.exists())
        there = self.fixtures / "synthetic.jsonl"
        there.write_text("mine")
        self.addCleanup(there.unlink)
        self.assert_refused(cli_case.USAGE, *self.synthetic(there), says="name another")
        self.assertEqual(there.read_text(), "mine")


class CalibrateTest(cli_case.CliCase):
    def test_in_place_and_usable(self):
        adapter = self.folder / "adapter"
        shutil.copytree(self.adapter, adapter)
        text = self.folder / "text.txt"
        text.write_text(TEXT)
        answer = self.run_json("calibrate", "-m", self.llama, "--adapter", adapter, "-f", text, "-t", 1, "--tokens", 256,
                               "-c", 64, "--budgets", "0.1,0.2")
        self.assertGreater(len(answer["budgets"]), 0)
        best = answer["budgets"][-1]["requested"]
        info = self.run_json("info", "-m", self.llama, "--adapter", adapter)["adapter"]
        self.assertIn(best, [b["budget"] for b in info["budgets"]])
        self.run_ok("generate", "-m", self.llama, "--adapter", adapter, "--budget", best, "-p", "hello", "-n", 4)

    def test_every_file_gives_its_share(self):
        adapter = self.folder / "adapter"
        shutil.copytree(self.adapter, adapter)
        files = []
        for name, text in (("text.txt", TEXT), ("pairs.jsonl", json.dumps({"prompt": "x" * 90, "completion": TEXT}))):
            files += ["-f", self.folder / name]
            (self.folder / name).write_text(text)
        words = ("calibrate", "-m", self.llama, "--adapter", adapter, *files, "-t", 1, "--tokens", 256, "-c", 64,
                 "--budgets", "0.1")
        self.run_ok(*words)
        self.assertEqual(self.adapter_config(adapter)["calibration_tokens"], 256)
        one = self.adapter_config(adapter)["calibration_sha256"]
        (self.folder / "pairs.jsonl").write_text(json.dumps({"prompt": "y" * 90, "completion": TEXT}))
        self.run_ok(*words)
        self.assertNotEqual(self.adapter_config(adapter)["calibration_sha256"], one)
        (self.folder / "pairs.jsonl").write_text(json.dumps({"prompt": "y", "completion": "z"}))
        result = self.run_cli(*words)
        self.assertEqual(result.returncode, cli_case.USAGE)
        self.assertIn(b"pairs.jsonl", result.stderr)

    @staticmethod
    def adapter_config(adapter):
        return json.loads((adapter / "adapter_config.json").read_text())

    def test_failure_leaves_the_adapter_alone(self):
        self.assert_refused(cli_case.NOT_FOUND, "calibrate", "-m", self.llama, "--adapter", self.adapter, "-f", "/no/text")
        self.assert_refused(cli_case.MISMATCH, "calibrate", "-m", self.gemma3, "--adapter", self.adapter, "-f",
                            pathlib.Path(__file__).resolve())


class AnalyzeTest(cli_case.CliCase):
    def analyze(self, *words, adapter=None):
        text = self.folder / "text.txt"
        text.write_text(TEXT)
        return ("analyze", "-m", self.llama, "--adapter", adapter or self.adapter, "-f", text, "-c", 32, "--tokens", 96,
                "--budget", 0.3, *words)

    def test_json(self):
        answer = self.run_json(*self.analyze())
        self.assertEqual((answer["tokens"], answer["windows"], answer["context"]), (96, 3, 32))
        self.assertEqual(answer["saving"]["requested"], 0.3)
        self.assertEqual(len(answer["branches"]), 8)
        for branch in answer["branches"]:
            self.assertTrue(branch["gated"])
            self.assertTrue(0 <= branch["skipped"] <= 1 and 0 < branch["importance"] < 1, branch)
        self.assertEqual(sum(group["tokens"] for group in answer["classes"]), 96)
        self.assertEqual(sum(group["tokens"] for group in answer["positions"]), 96)
        self.assertEqual(answer["budgets"], [0.2, 0.4])
        self.assertEqual(len(answer["texts"][0]["net"]), 2)
        # Every branch counts alike in the nominal saving.
        skipped = sum(branch["skipped"] for branch in answer["branches"]) / 8
        self.assertAlmostEqual(answer["saving"]["nominal"], skipped, places=12)

    def test_perplexity_agrees(self):
        answer = self.run_json(*self.analyze())
        ids = self.run_json("tokenize", "-m", self.llama, "-p", TEXT)["ids"]
        body = self.run_json("tokenize", "-m", self.llama, "--no-bos", "-p", TEXT)["ids"]
        first = body[:3 * (32 - (len(ids) - len(body)))]  # what three windows hold, beside their BOS
        text = self.run_ok("tokenize", "-m", self.llama, "--ids", ",".join(map(str, first))).stdout.decode()[:-1]
        (self.folder / "first.txt").write_text(text)
        score = self.run_json("perplexity", "-m", self.llama, "--adapter", self.adapter, "-f", "first.txt", "-c", 32,
                              "--budget", 0.3)["results"][0]
        self.assertAlmostEqual(answer["nll"], score["nll"], places=5)
        self.assertAlmostEqual(answer["saving"]["net"], score["saving"]["net"], places=9)

    def test_page(self):
        result = self.run_ok(*self.analyze("-o", self.folder / "gates.html", "--show", 20))
        self.assertEqual(result.stdout.decode(), f"{self.folder}/gates.html\n")
        page = (self.folder / "gates.html").read_text()
        for part in ("A text as the gates see it", "By kind of token", "Does a budget hold", "skips "):
            self.assertIn(part, page)
        self.assertEqual(page.count('class="token"'), 20)
        self.assertNotIn("http", page)
        self.run_ok(*self.analyze("-o", self.folder / "again.html", "--show", 20))
        self.assertEqual((self.folder / "again.html").read_text(), page)

    def test_refusals(self):
        text = self.fixtures / "analyzed.txt"
        text.write_text(TEXT)
        self.addCleanup(text.unlink)
        good = ("analyze", "-m", self.llama, "--adapter", self.adapter, "-f", text, "-c", 32, "--json")
        self.assert_refused(cli_case.USAGE, "analyze", "-m", self.llama, "-f", text, "--json", says="--adapter")
        self.assert_refused(cli_case.USAGE, "analyze", "-m", self.llama, "--adapter", self.adapter, "--json", says="--file")
        self.assert_refused(cli_case.USAGE, *good[:-1], says="--out")
        self.assert_refused(cli_case.USAGE, *good, "--budget", 2, says="--budget")
        self.assert_refused(cli_case.USAGE, *good, "--budget", 0.9, says="[budget]")
        self.assert_refused(cli_case.USAGE, *good, "--tokens", 10, says="[analyze] tokens")
        self.assert_refused(cli_case.USAGE, *good, "-c", 8192, "--tokens", 8192, says="[analyze] window")
        self.assert_refused(cli_case.NOT_FOUND, *good, "-f", "/no/such/text")
        self.assert_refused(cli_case.MISMATCH, "analyze", "-m", self.gemma3, *good[3:])
        self.assert_refused(cli_case.IO, *good[:-1], "-o", "/no/such/folder/page.html")


if __name__ == "__main__":
    unittest.main()
