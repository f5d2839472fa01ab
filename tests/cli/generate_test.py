# SPDX-License-Identifier: Apache-2.0
"""generate and chat on the tiny models: determinism, where the text comes from, budgets, streams that close."""
import json
import subprocess
import unittest

import cli_case
from cli_case import BINARY, IO, LIMIT, USAGE


class GenerateTest(cli_case.CliCase):
    def generate(self, *words, model=None, **options):
        return self.run_json("generate", "-m", model or self.llama, "-t", 1, "-n", 12, "--ignore-eos", *words, **options)

    def test_greedy_repeats_itself_bit_for_bit_at_any_thread_count(self):
        for model in (self.llama, self.gemma3):
            first = self.generate("-p", "hello", model=model)
            self.assertEqual(len(first["token_ids"]), 12)
            self.assertEqual(first["finish_reason"], "length")
            self.assertEqual(self.generate("-p", "hello", model=model)["token_ids"], first["token_ids"])
            self.assertEqual(self.generate("-p", "hello", "-t", 2, model=model)["token_ids"], first["token_ids"])

    def test_seed_decides_the_draws(self):
        options = ("-p", "hello", "--temp", "2", "--top-k", "0", "--top-p", "1")
        first = self.generate(*options, "--seed", "7")["token_ids"]
        self.assertEqual(self.generate(*options, "--seed", "7")["token_ids"], first)
        self.assertNotEqual(self.generate(*options, "--seed", "8")["token_ids"], first)

    def test_prompt_from_flag_file_and_pipe_is_the_same(self):
        path = self.folder / "prompt.txt"
        path.write_text("hello world")
        expected = self.generate("-p", "hello world")["token_ids"]
        self.assertEqual(self.generate("-f", path)["token_ids"], expected)
        self.assertEqual(self.generate("-f", "-", stdin="hello world")["token_ids"], expected)
        self.assertEqual(self.generate(stdin="hello world")["token_ids"], expected)

    def test_text_streams_to_stdout_and_timings_to_stderr(self):
        whole = self.generate("-p", "hello")
        result = self.run_ok("generate", "-m", self.llama, "-t", 1, "-n", 12, "--ignore-eos", "-p", "hello")
        self.assertEqual(result.stdout.decode(), whole["text"] + "\n")
        lines = result.stderr.decode().splitlines()
        self.assertEqual(len(lines), 2, lines)
        for line, name in zip(lines, ("prompt", "generation")):
            self.assertRegex(line, name + r" +\d+ tokens +[\d.]+ tok/s +saving [\d.]+ % requested, [\d.]+ % nominal, "
                                          r"-?[\d.]+ % net")
        self.assertNotIn("\x1b", result.stderr.decode())

    def test_budget_zero_without_and_with_no_adapter_are_the_plain_model(self):
        plain = self.generate("-p", "hello")["token_ids"]
        self.assertEqual(self.generate("-p", "hello", "--adapter", self.adapter, "--no-adapter")["token_ids"], plain)

    def test_a_budget_skips_and_says_so(self):
        answer = self.generate("-p", "hello world, this is text", "--adapter", self.adapter, "--budget", "0.2")
        for phase in ("prefill", "decode"):
            saving = answer["saving"][phase]
            self.assertEqual(saving["requested"], 0.2)
            self.assertGreater(saving["branches_skipped"], 0)
            self.assertGreater(saving["branches_run"], 0)
            nominal = saving["branches_skipped"] / (saving["branches_run"] + saving["branches_skipped"])
            self.assertAlmostEqual(saving["nominal"], nominal, places=6)

    def test_budgets_by_phase(self):
        answer = self.generate("-p", "hello world, this is text", "--adapter", self.adapter, "--budget", "0.2",
                               "--budget-prefill", "0")
        self.assertEqual(answer["saving"]["prefill"]["branches_skipped"], 0)
        self.assertEqual(answer["saving"]["prefill"]["requested"], 0)
        self.assertGreater(answer["saving"]["decode"]["branches_skipped"], 0)

    def test_random_policy_needs_no_adapter_and_obeys_its_seed(self):
        options = ("-p", "hello world, this is text", "--budget", "0.3", "--policy", "random")
        first = self.generate(*options, "--policy-seed", "1")
        self.assertGreater(first["saving"]["decode"]["branches_skipped"], 0)
        self.assertEqual(self.generate(*options, "--policy-seed", "1")["token_ids"], first["token_ids"])

    def test_stop_string_ends_before_it(self):
        text = self.generate("-p", "hello")["text"]
        stop = text[4:6]
        cut = self.generate("-p", "hello", "--stop", "@@never@@", "--stop", stop)
        self.assertEqual(cut["text"], text[:text.index(stop)])
        self.assertEqual(cut["finish_reason"], "stop_string")

    def test_drafts_change_no_text(self):
        words = ("-p", "abcabcabcabc", "-n", 40, "--temp", "2", "--seed", 3)
        plain = self.generate(*words)
        self.assertEqual(plain["speculation"]["drafted"], 0)
        for draft in (["ngram"], ["exit", "--draft-budget", "0.25"],
                      ["gates", "--draft-budget", "0.3", "--draft-tokens", "3"]):
            with self.subTest(draft=draft[0]):
                drafted = self.generate(*words, "--adapter", self.adapter, "--no-adapter", "--speculative", *draft)
                for same in ("text", "token_ids", "finish_reason", "saving"):
                    self.assertEqual(drafted[same], plain[same])
                speculation = drafted["speculation"]
                self.assertGreater(speculation["drafted"], 0)
                self.assertLessEqual(speculation["accepted"], speculation["drafted"])
                self.assertLess(speculation["steps"], len(plain["token_ids"]))

    def test_drafts_that_make_no_sense_are_refused(self):
        words = ("generate", "-m", self.llama, "-p", "abc")
        gates = (*words, "--adapter", self.adapter, "--speculative", "gates")
        self.assert_refused(USAGE, *words, "--speculative", "gates", says="--adapter")
        self.assert_refused(USAGE, *words, "--speculative", "guess", says="--speculative")
        self.assert_refused(USAGE, *words, "--speculative", "exit", "--draft-budget", "0", says="--draft-budget")
        self.assert_refused(USAGE, *words, "--speculative", "ngram", "--draft-tokens", "33", says="--draft-tokens")
        self.assert_refused(USAGE, *gates, "--draft-budget", "0.9", says="budget")

    def test_f32_runs(self):
        self.assertEqual(len(self.generate("-p", "hello", "--f32")["token_ids"]), 12)

    def test_prompt_longer_than_the_context(self):
        self.assert_refused(LIMIT, "generate", "-m", self.llama, "-p", "word " * 100, "-c", "16")

    def test_empty_prompt_ends_cleanly(self):
        for model in (self.llama, self.gemma3):
            result = self.run_cli("generate", "-m", model, "-p", "", "-n", 2)
            self.assertIn(result.returncode, (0, cli_case.USAGE))  # 0: the model starts with BOS
            if result.returncode != 0:
                self.assertRegex(result.stderr.decode().strip(), cli_case.ERROR_SHAPE)

    def test_bytes_that_are_no_utf8_are_taken(self):
        answer = self.generate(stdin=b"caf\xe9 \xff\xfe\x00 ok")
        self.assertEqual(len(answer["token_ids"]), 12)

    def test_stream_is_valid_utf8(self):
        result = self.run_ok("generate", "-m", self.llama, "-t", 1, "-n", 200, "--ignore-eos", "-p", "hello", "--temp",
                             "5", "--top-k", "0", "--top-p", "1")
        result.stdout.decode("utf-8")

    def test_reader_that_leaves_early(self):
        shell = subprocess.run(["sh", "-c", '"$0" generate -m "$1" -t 1 -n 400 --ignore-eos -p hello | head -c 3', BINARY,
                                self.llama], capture_output=True, cwd=self.folder, env=cli_case.clean_environment(), timeout=60)
        self.assertEqual(shell.returncode, 0)
        self.assertNotIn(b"error", shell.stderr)
        process = subprocess.Popen([BINARY, "generate", "-m", self.llama, "-t", "1", "-n", "100", "--ignore-eos", "-p", "a"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli_case.clean_environment())
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(60), 0, error)

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([BINARY, "generate", "-m", self.llama, "-n", "4", "-p", "a"], stdout=full,
                                    stderr=subprocess.PIPE, env=cli_case.clean_environment(), timeout=60)
        self.assertEqual(result.returncode, IO)
        self.assertIn(b"[stdout]", result.stderr)


class ChatTest(cli_case.CliCase):
    def chat(self, text, *words, model=None):
        return self.run_ok("chat", "-m", model or self.llama, "-t", 1, "-n", 8, "--temp", 0, "--quiet", *words, stdin=text)

    def setUp(self):
        super().setUp()
        probe = self.run_cli("generate", "-m", self.llama, "-n", 1, "--chat", "-p", "x")
        if probe.returncode == cli_case.UNSUPPORTED:
            self.skipTest("the tiny model has no chat template")

    def test_reset_forgets(self):
        once = self.chat("hello\n").stdout
        twice = self.chat("hello\n/reset\nhello\n").stdout
        self.assertEqual(twice, once + once)

    def test_exit_leaves(self):
        self.assertEqual(self.chat("/exit\nhello\n").stdout, b"")

    def test_last_line_without_newline_is_answered(self):
        self.assertEqual(self.chat("hello").stdout, self.chat("hello\n").stdout)

    def test_bad_command_ends_a_pipe(self):
        result = self.run_cli("chat", "-m", self.llama, stdin="/bogus\n")
        self.assertEqual(result.returncode, cli_case.USAGE)
        self.assertRegex(result.stderr.decode().strip(), cli_case.ERROR_SHAPE)

    def test_budget_command(self):
        result = self.run_cli("chat", "-m", self.llama, "--adapter", self.adapter, "-t", 1, "-n", 4, "--temp", 0,
                              stdin="/budget 0.2\nhello\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(b"20.0 % requested", result.stderr)
        self.assertEqual(self.run_cli("chat", "-m", self.llama, stdin="/budget 2\n").returncode, cli_case.USAGE)


if __name__ == "__main__":
    unittest.main()
