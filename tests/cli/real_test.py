# SPDX-License-Identifier: Apache-2.0
"""On real models: Ctrl-C while generating, chat over several turns, bars on a terminal. Needs GATESKIP_MODELS."""
import os
import pathlib
import signal
import subprocess
import time
import unittest

import cli_case
from cli_case import BINARY, CANCELLED
from terminal_test import Terminal

MODELS = os.environ.get("GATESKIP_MODELS", "")
SMOL = pathlib.Path(MODELS) / "SmolLM2-135M-Instruct.Q4_1.gguf"
ROOT = pathlib.Path(__file__).resolve().parents[2]
ADAPTER = ROOT / "adapters" / "smollm2-135m-instruct"
TEXT = ROOT / "tests" / "data" / "sample_text.txt"


@unittest.skipUnless(MODELS and SMOL.exists(), "GATESKIP_MODELS is not set or holds no SmolLM2")
class RealTest(cli_case.CliCase):
    needs_models = False

    def start(self, *words):
        return subprocess.Popen([BINARY, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, cwd=self.folder, env=cli_case.clean_environment())

    def test_greedy_knows_a_capital(self):
        answer = self.run_json("generate", "-m", SMOL, "-p", "The capital of France is", "-n", 4)
        self.assertIn("Paris", answer["text"])

    def test_ctrl_c_shows_what_there_is(self):
        process = self.start("generate", "-m", SMOL, "-p", "Once upon a time", "-n", 4000, "--ignore-eos")
        self.addCleanup(process.kill)
        first = os.read(process.stdout.fileno(), 64)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        rest, error = process.communicate(timeout=10)
        self.assertLess(time.monotonic() - started, 5)
        self.assertEqual(process.returncode, CANCELLED)
        self.assertTrue((first + rest).endswith(b"\n"))
        (first + rest).decode("utf-8")
        self.assertIn(b"generation", error)
        self.assertNotIn(b"error", error)

    def test_ctrl_c_while_scoring(self):
        text = self.folder / "text.txt"
        text.write_text("It was a fine day. " * 20000)
        process = self.start("perplexity", "-m", SMOL, "-f", text)
        self.addCleanup(process.kill)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=10)
        self.assertEqual(process.returncode, CANCELLED, error)

    def test_chat_reuses_the_conversation(self):
        result = self.run_ok("chat", "-m", SMOL, "-n", 16, "--temp", 0, stdin="My name is Ada.\nWhat is my name?\n")
        self.assertIn(b"tokens reused", result.stderr)

    def test_ctrl_c_stops_an_answer_and_chat_goes_on(self):
        chat = Terminal(self.folder, "chat", "-m", SMOL, "--ignore-eos", "-n", 4000)
        self.addCleanup(chat.close)
        chat.read_until(b"> ")
        chat.type(b"Tell me a long story.\n")
        chat.read_until(b"\n")
        time.sleep(1.0)
        chat.type(b"\x03")
        chat.read_until(b"generation")
        chat.read_until(b"> ")
        chat.type(b"/exit\n")
        self.assertEqual(chat.wait(), 0)

    def test_a_bar_appears_on_a_terminal_and_goes(self):
        text = self.folder / "text.txt"
        text.write_text("It was a fine day, and the boats went out early. " * 400)
        terminal = Terminal(self.folder, "perplexity", "-m", SMOL, "-f", text, "-t", 1)
        self.addCleanup(terminal.close)
        self.assertEqual(terminal.wait(), 0)
        self.assertIn(b"ETA", terminal.seen)
        self.assertIn(b"\r\x1b[K", terminal.seen)


@unittest.skipUnless(MODELS and SMOL.exists(), "GATESKIP_MODELS is not set or holds no SmolLM2")
class DefaultAdapterTest(cli_case.CliCase):
    """The adapter of this repository, on text it was neither trained nor calibrated on."""

    needs_models = False
    budgets = (0.15, 0.25, 0.5)

    def scores(self, *words):
        answer = self.run_json("perplexity", "-m", SMOL, "--adapter", ADAPTER, "-f", TEXT, *words)
        return answer["results"]

    def test_budgets_are_met_and_paid_for(self):
        plain = self.scores("--no-adapter")[0]
        gated = self.scores("--budget", "0," + ",".join(map(str, self.budgets)))
        # Thresholds are of another text: the share of tokens that skip drifts by some points, not by tens.
        for row in gated[1:]:
            self.assertAlmostEqual(row["saving"]["net"], row["saving"]["requested"], delta=0.04)
        nll = [row["nll"] for row in gated]
        self.assertEqual(nll, sorted(nll), "skipping more cannot help")
        self.assertLess(abs(nll[0] - plain["nll"]), 0.05, "at budget 0 only the deltas differ from the plain model")
        self.assertLess(gated[0]["saving"]["net"], 0, "gates and deltas cost something")

    def test_gates_beat_random_skipping_at_the_same_net_saving(self):
        budgets = ",".join(map(str, self.budgets))
        for gated, chance in zip(self.scores("--budget", budgets), self.scores("--policy", "random", "--budget", budgets)):
            self.assertAlmostEqual(chance["saving"]["net"], gated["saving"]["net"], delta=0.04)
            self.assertLess(gated["nll"], chance["nll"])

    def test_one_process_serves_every_budget(self):
        chat = self.run_ok("chat", "-m", SMOL, "--adapter", ADAPTER, "-n", 8, "--temp", 0,
                           stdin="Hello.\n/budget 0.5\nHello again.\n")
        self.assertIn(b"50.0 % requested", chat.stderr)


if __name__ == "__main__":
    unittest.main()
