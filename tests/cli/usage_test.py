# SPDX-License-Identifier: Apache-2.0
"""The command line alone: help, version, and values refused before any file is opened."""
import os
import unittest

import cli_case
from cli_case import USAGE, NOT_FOUND, IO, LIMIT

SUBCOMMANDS = ["generate", "chat", "perplexity", "tokenize", "info", "bench", "train", "calibrate"]


class UsageTest(cli_case.CliCase):
    needs_models = False

    def test_help_of_every_subcommand_fits_a_terminal(self):
        top = self.run_ok("--help").stdout.decode()
        for name in SUBCOMMANDS:
            self.assertIn(f"\n  {name} ", top)
            text = self.run_ok(name, "--help").stdout.decode()
            self.assertIn("Example", text)
            self.assertIn("--model", text)
            for line in text.splitlines():
                self.assertLessEqual(len(line), 120, line)

    def test_version(self):
        self.assertRegex(self.run_ok("--version").stdout.decode(), r"^gateskip \d+\.\d+\.\d+\n$")

    def test_no_arguments_shows_help_on_stderr(self):
        result = self.run_cli()
        self.assertEqual((result.returncode, result.stdout), (USAGE, b""))
        self.assertIn(b"Subcommands:", result.stderr)

    def test_unknown_subcommand_suggests_the_nearest(self):
        self.assert_refused(USAGE, "genrate", says="gateskip generate")
        self.assert_refused(USAGE, "frobnicate", says="--help")

    def test_unknown_option_and_stray_word(self):
        for name in SUBCOMMANDS:
            self.assert_refused(USAGE, name, "-m", "x", "--no-such-option", says="--no-such-option")
            self.assert_refused(USAGE, name, "-m", "x", "stray", says="stray")

    def test_option_without_its_value(self):
        self.assert_refused(USAGE, "generate", "-m", "x", "-p", says="--prompt")
        self.assert_refused(USAGE, "generate", "-p", "x", "-m", says="--model")

    def test_missing_model_says_how_to_get_one(self):
        for words in (["generate", "-p", "x"], ["chat"], ["perplexity", "-p", "x"], ["tokenize", "-p", "x"], ["info"],
                      ["bench"], ["train", "-f", "x", "--run", "r"], ["calibrate", "--adapter", "a", "-f", "x"]):
            self.assert_refused(USAGE, *words, says="scripts/fetch_model.sh")

    def test_budgets_out_of_range_are_refused_before_the_model_is_opened(self):
        for value in ("-0.1", "0.96", "nan", "inf", "-inf", "abc", "", "0.1x", "1e999", "0x1p-2"):
            for option in ("--budget", "--budget-prefill", "--budget-decode"):
                self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", option, value, says=option)
            self.assert_refused(USAGE, "perplexity", "-m", "absent", "-p", "x", "--budget", f"0,{value}", says="--budget")
            self.assert_refused(USAGE, "bench", "-m", "absent", "--budgets", f"0,{value}", says="--budgets")

    def test_numbers_out_of_range(self):
        cases = [("-n", "-2"), ("-n", "1.5"), ("-n", "99999999999999999999"), ("-t", "-1"), ("-t", "257"), ("-c", "-1"),
                 ("--temp", "-1"), ("--temp", "nan"), ("--temp", "101"), ("--top-k", "-1"), ("--top-p", "0"),
                 ("--top-p", "1.1"), ("--min-p", "1"), ("--min-p", "-0.1"), ("--repeat-penalty", "0"),
                 ("--repeat-penalty", "inf"), ("--repeat-window", "-1"), ("--seed", "-1"), ("--seed", "2e3"),
                 ("--policy", "magic"), ("--policy-seed", "x")]
        for option, value in cases:
            self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", option, value)
        for option, value in (("-r", "0"), ("-p", "0"), ("-n", "-1"), ("-t", "1,x"), ("-o", "xml"), ("-d", "-1"),
                              ("-d", "0,,1"), ("-s", "0"), ("-s", "1,4097"), ("--kv-cache", "q4_0")):
            self.assert_refused(USAGE, "bench", "-m", "absent", option, value)
        self.assert_refused(USAGE, "perplexity", "-m", "absent", "-p", "x", "-c", "1", says="--context")

    def test_cpu_lists(self):
        # The last ones are well written: no machine has the first, none runs two threads on one CPU by wish.
        for value in ("", "x", "0-", "-1", "1-0", "0,,0", "0-1024", "1.5", "0 ", "1023", "0,0", "0-0,0"):
            self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "--cpu-affinity", value, says="affinity")
        usable = min(os.sched_getaffinity(0))
        self.assert_refused(NOT_FOUND, "generate", "-m", "absent", "-p", "x", "--cpu-affinity", usable)

    def test_a_budget_needs_gates(self):
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "--budget", "0.2", says="--adapter")
        self.assert_refused(USAGE, "bench", "-m", "absent", "--budgets", "0,0.2", says="--adapter")
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "--adapter", "a", "--no-adapter", "--budget",
                            "0.2", says="--adapter")

    def test_contradictions(self):
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "-f", "y")
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "--f32", "--kv-cache", "q8_0", says="KV cache")
        for list_option, value in (("-t", "1,2"), ("-d", "0,1"), ("-s", "1,2")):
            self.assert_refused(USAGE, "bench", "-m", "absent", "--table", list_option, value, says="--table")
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "--chat", "--no-chat")
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "--system", "y", "--no-chat", says="--system")

    def test_environment_mirrors_options(self):
        env = cli_case.clean_environment(GATESKIP_MODEL="absent.gguf")
        self.assert_refused(NOT_FOUND, "generate", "-p", "x", env=env, says="absent.gguf")
        env = cli_case.clean_environment(GATESKIP_BUDGET="7")
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", env=env, says="--budget")
        env = cli_case.clean_environment(GATESKIP_THREADS="many")
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", env=env, says="--threads")

    def test_errors_as_json(self):
        self.assert_refused(USAGE, "generate", "-m", "absent", "-p", "x", "--budget", "7", "--json")
        self.assert_refused(NOT_FOUND, "info", "-m", "absent", "--json")

    def test_text_files(self):
        self.assert_refused(NOT_FOUND, "generate", "-m", "absent", "-f", "/no/such/file", says="/no/such/file")
        self.assert_refused(IO, "generate", "-m", "absent", "-f", "/", says="directory")
        self.assert_refused(LIMIT, "generate", "-m", "absent", "-f", "/dev/zero", says="/dev/zero")

    def test_train_and_calibrate_say_what_is_missing(self):
        self.assert_refused(USAGE, "train", "-m", "absent", "--run", "r", says="--data")
        self.assert_refused(USAGE, "train", "-m", "absent", "-f", "x", says="--run")
        self.assert_refused(USAGE, "train", "-m", "absent", "-f", "x@y", "--run", "r", says="weight")
        self.assert_refused(USAGE, "calibrate", "-m", "absent", "-f", "x", says="--adapter")
        self.assert_refused(USAGE, "calibrate", "-m", "absent", "--adapter", "a", says="--file")

    def test_control_characters_in_arguments_are_not_echoed(self):
        error = self.assert_refused(USAGE, "generate", "-m", "x", "-p", "x", "--budget", "\x1b[31mred\x07")
        self.assertNotIn("\x1b", error)


if __name__ == "__main__":
    unittest.main()
