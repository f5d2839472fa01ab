# SPDX-License-Identifier: Apache-2.0
"""gateskip train: signals, a disk that is full, and kills. (What it learns is tested in tests/laws.)"""
import json
import pathlib
import resource
import signal
import subprocess
import sys
import time
import unittest

import cli_case

KILL_TEST = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "kill_test.py"


class TrainCase(cli_case.CliCase):
    def setUp(self):
        super().setUp()
        self.text = self.folder / "text.txt"
        self.text.write_text("".join(f"in the end there are {i * 3} things on line {i}\n" for i in range(80)))
        self.run_directory = self.folder / "run"

    def words(self, run=None, steps=8, **options):
        settings = {"sequence-length": 24, "batch": 2, "fit-sequences": 1, "prior-sequences": 1, "prior-step": 0.25,
                    "essential-rise": 1000, "skip-rank": 2, "lora-rank": 2, "checkpoint-every": 1, "steps": steps,
                    "threads": 1, "keep-checkpoints": 2, **{k.replace("_", "-"): v for k, v in options.items()}}
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return [cli_case.BINARY, "train", "-m", self.llama, "-f", str(self.text), "--run",
                str(run or self.run_directory), "--resume", *flags]

    def start(self, *more, **options):
        process = subprocess.Popen([*self.words(**options), *more], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, env=cli_case.clean_environment())
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, process, words):
        seen = ""
        for line in process.stderr:
            seen += line
            if words in line:
                return
        self.fail(f"ended with {process.wait()} before '{words}': {seen}")

    def steps_saved(self):
        return sorted(int(path.name[5:]) for path in self.run_directory.glob("step-*"))


class SignalTest(TrainCase):
    def test_the_first_one_saves_and_the_run_can_go_on(self):
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, cli_case.CANCELLED)):
            with self.subTest(number):
                process = self.start(steps=100000, checkpoint_every=100000)
                self.wait_for(process, "step ")
                process.send_signal(number)
                error = process.stderr.read()
                self.assertEqual(process.wait(timeout=120), status, error)
                self.assertIn("stopped; a checkpoint is in", error)
                saved = self.steps_saved()[-1]
                self.assertGreaterEqual(saved, 10)  # the first line about a step is that of step 10
                process = self.start(steps=100000, checkpoint_every=100000)
                self.wait_for(process, f"resumed at step {saved}")
                process.kill()
                process.wait()

    def test_the_second_one_ends_it_at_once(self):
        for first in (signal.SIGTERM, signal.SIGINT):
            for second in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(first=first, second=second):
                    # The start, which is not interrupted, takes far longer than this test.
                    process = self.start(fit_sequences=4000, sequence_length=256, prior_sequences=4000)
                    self.wait_for(process, "fitting")
                    process.send_signal(first)
                    time.sleep(0.3)  # the same signal twice at once is one
                    self.assertIsNone(process.poll())
                    process.send_signal(second)
                    self.assertEqual(process.wait(timeout=60), 128 + second, process.stderr.read())
                    self.assertEqual(self.steps_saved(), [])


class FullDiskTest(TrainCase):
    def test_it_stops_and_the_checkpoints_before_are_whole(self):
        subprocess.run(self.words(steps=2), check=True, capture_output=True, env=cli_case.clean_environment())
        before = {path.name: cli_case.tree_digest(path) for path in self.run_directory.glob("step-*")}
        self.assertEqual(set(before), {"step-1", "step-2"})
        process = subprocess.run(self.words(steps=2), capture_output=True, text=True, env=cli_case.clean_environment(),
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)))
        self.assertEqual(process.returncode, cli_case.IO, process.stderr)
        self.assertRegex(process.stderr.strip().splitlines()[-1], cli_case.ERROR_SHAPE)
        self.assertIn("ulimit -f", process.stderr)
        after = {path.name: cli_case.tree_digest(path) for path in self.run_directory.glob("step-*")}
        self.assertEqual(after, before)
        self.assertEqual([path.name for path in self.run_directory.iterdir() if path.name.startswith(".")], [])


class RanksTest(TrainCase):
    """Data-parallel training: --nproc 2 against one process with the same micro-steps in a step."""

    def train(self, name, *more, **options):
        run = self.folder / name
        done = subprocess.run([*self.words(run=run, steps=6, checkpoint_every=3, **options), "--f32", *more],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                              env=cli_case.clean_environment())
        self.assertEqual(done.returncode, 0, done.stderr)
        return run

    def losses(self, run):
        events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        return [event["loss"] for event in events if event["event"] == "step"]

    def tensors(self, run):
        return (run / "step-6" / "model.safetensors").read_bytes()

    def test_two_ranks_learn_what_one_learns(self):
        alone = self.train("alone", accumulation=4)
        pair = self.train("pair", "--nproc", "2", accumulation=2)
        # Gradients are summed in another order, which is a rounding of some 1e-7 of each; AdamW divides small gradients
        # by their own size, so that six steps may carry it to a thousandth of a step, which moves the loss far less.
        for one, two in zip(self.losses(alone), self.losses(pair), strict=True):
            self.assertAlmostEqual(one, two, delta=1e-4 * abs(one) + 1e-6)
        again = self.train("again", "--nproc", "2", accumulation=2)
        self.assertEqual(self.tensors(pair), self.tensors(again), "two ranks twice: the same bits")

    def test_two_ranks_resume_bit_for_bit(self):
        straight = self.train("straight", "--nproc", "2", accumulation=1)
        process = self.start("--f32", "--nproc", "2", steps=6, checkpoint_every=1, accumulation=1)
        self.wait_for(process, "measuring the prior")
        while not self.steps_saved():
            time.sleep(0.01)
        process.kill()
        process.wait()
        resumed = self.train(self.run_directory.name, "--nproc", "2", accumulation=1)
        self.assertEqual(self.tensors(straight), self.tensors(resumed))


class KillTest(TrainCase):
    def kill_test(self, *words):
        return subprocess.run([sys.executable, "-B", str(KILL_TEST), *words], capture_output=True, text=True,
                              env=cli_case.clean_environment(), timeout=250)

    def test_killed_and_resumed_it_ends_in_the_same_bits(self):
        result = self.kill_test("--kills", "5", "--", *self.words(run="{run}"))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"\n5 kills in \d+ trainings")

    def test_the_kill_test_can_fail(self):
        # A trainer that starts anew every time and saves chance.
        program = self.folder / "chance.py"
        program.write_text("""
import hashlib, json, pathlib, random, sys, time
for step in range(1, 4):
    time.sleep(0.05)
    folder = pathlib.Path(sys.argv[1]) / f"step-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in ("model.safetensors", "state.json"):
        data = str(random.random()).encode()
        (folder / name).write_bytes(data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"step": step, "files": files}))
""")
        result = self.kill_test("--kills", "3", "--", sys.executable, str(program), "{run}")
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertRegex(result.stderr, r"expected \(|was there, after kill|started anew")


if __name__ == "__main__":
    unittest.main()
