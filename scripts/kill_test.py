#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills a training again and again and shows that nothing is lost: the run that was killed and resumed ends in the same
bits as one that was not.

usage: kill_test.py [--kills N] [--points] [--seed S] [--folder DIR] -- COMMAND...

COMMAND is a whole training command that goes on from what it finds (gateskip train ... --resume). "{run}" in it stands
for the run directory. It runs once undisturbed; then it, and every process it starts, is killed with SIGKILL and
started again until it has finished, and that as often as it takes to kill it N times. Half of the kills come at a
moment chosen uniformly from its running time, half while a checkpoint is being written. With --points it kills itself
instead, at each named point of the checkpoint writer in turn (the program must be built with -DGATESKIP_KILL_POINTS=ON).

After every kill the run directory is read by this script, not by the trainer: the newest checkpoint whose manifest
verifies must be no older than before the kill, and it is the one the next start must resume from.
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TENSORS = "model.safetensors"


def fail(message):
    sys.exit(f"kill_test.py: {message}")


def verified(directory):
    """The manifest of a checkpoint directory, or None when anything in it does not verify."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
        for name, entry in manifest["files"].items():
            data = (directory / name).read_bytes()
            if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
                return None
        return manifest if directory.name == f"step-{manifest['step']}" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def newest(run):
    """(step, manifest) of the newest valid checkpoint; (-1, None) when there is none."""
    found = [verified(path) for path in run.glob("step-*")] if run.is_dir() else []
    return max(((m["step"], m) for m in found if m), key=lambda pair: pair[0], default=(-1, None))


def result(run):
    """SHA-256 of parameters with optimizer state, and of everything else a resume needs, at the end."""
    step, manifest = newest(run)
    if manifest is None:
        fail(f"{run}: no valid checkpoint at the end")
    return (step, *(manifest["files"][name]["sha256"] for name in (TENSORS, "state.json")))


class Killer:
    def __init__(self, command, points, rng):
        self.command, self.points, self.rng = command, points, rng
        self.seconds = None  # an undisturbed run takes these
        self.kills = self.during_a_save = self.rounds = 0

    def start(self, run, log, environment=None):
        words = [word.replace("{run}", str(run)) for word in self.command]
        with log.open("wb") as out:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                    env={**os.environ, **(environment or {})})

    def straight(self, run, log):
        begin = time.monotonic()
        process = self.start(run, log)
        if process.wait() != 0:
            fail(f"the undisturbed run ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        self.seconds = time.monotonic() - begin
        return result(run)

    def wait(self, process, run):
        """Until the moment to kill has come, or the process has ended."""
        if self.rng.random() < 0.5:
            deadline = time.monotonic() + self.rng.uniform(0, self.seconds)
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(min(0.01, max(0.0, deadline - time.monotonic())))
            return
        # A save, after some that are left alone, so that the training gets on. Not slept in between: saves are short.
        seen, spared = set(), self.rng.randint(0, 3)
        while process.poll() is None:
            names = os.listdir(run) if run.is_dir() else []
            seen.update(name for name in names if name.startswith(".step-"))
            if len(seen) > spared:
                time.sleep(self.rng.uniform(0, 0.003))
                return

    def disturb(self, run, log):
        """Starts it and kills it. True when it had finished before."""
        if self.points:
            point = f"{self.points[self.kills % len(self.points)]}:{self.rng.randint(1, 3)}"
            process = self.start(run, log, {"GATESKIP_KILL_POINT": point})
            process.wait()
        else:
            process = self.start(run, log)
            self.wait(process, run)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode == 0:
            return True
        if process.returncode != -signal.SIGKILL:
            fail(f"it ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        self.kills += 1
        self.during_a_save += any(name.startswith(".") for name in os.listdir(run)) if run.is_dir() else 0
        return False

    def round(self, folder, wanted, most):
        """One training, killed up to `most` times, to its end."""
        self.rounds += 1
        run, log = folder / f"killed-{self.rounds}", folder / f"killed-{self.rounds}.log"
        before, kills = -1, 0
        while True:
            finished = self.disturb(run, log) if kills < most else self.finish(run, log)
            resumed = re.search(r"resumed at step (\d+)", log.read_text(errors="replace"))
            if resumed and int(resumed.group(1)) != before:
                fail(f"{run}: resumed at step {resumed.group(1)}, the newest valid checkpoint was that of {before}")
            if finished and before >= 0 and not resumed:
                fail(f"{run}: started anew, although there was a checkpoint of step {before}")
            step = newest(run)[0]
            if step < before:
                fail(f"{run}: a checkpoint of step {before} was there, after kill {self.kills} only that of {step}")
            if finished:
                break
            before, kills = step, kills + 1
        left = [name for name in os.listdir(run) if name.startswith(".")]
        if left:
            fail(f"{run}: left behind: {left}")
        if result(run) != wanted:
            fail(f"{run}: expected {wanted} at the end, found {result(run)}")
        return kills

    def finish(self, run, log):
        process = self.start(run, log)
        if process.wait() != 0:
            fail(f"resumed, it ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        return True


def point_names():
    text = (ROOT / "src/io/kill_point.h").read_text()
    table = re.search(r"kKillPointNames = \{(.*?)\};", text, re.S).group(1)
    return re.findall(r'"([a-z-]+)"', table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], usage=__doc__.split("\n\n")[1][7:])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--points", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path, help="where the runs go; a temporary one by default")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    if not any("{run}" in word for word in arguments.command):
        fail("[command line] COMMAND: expected {run} in it, found none; put it where the run directory goes")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        points = point_names() if arguments.points else []
        killer = Killer(arguments.command, points, random.Random(arguments.seed))
        wanted = killer.straight(folder / "straight", folder / "straight.log")
        print(f"undisturbed: {killer.seconds:.1f} s, step {wanted[0]}, parameters and optimizer {wanted[1]}", flush=True)
        idle = 0
        while killer.kills < arguments.kills:
            killed = killer.round(folder, wanted, arguments.kills - killer.kills)
            idle = 0 if killed else idle + 1
            if idle == 20:
                fail("20 trainings in a row ended before a kill; with --points: is it built with kill points?")
            print(f"training {killer.rounds}: {killed} kills, {killer.kills} in all, the same bits", flush=True)
        print(f"{killer.kills} kills in {killer.rounds} trainings, {killer.during_a_save} of them with a checkpoint half "
              f"written: every one resumed from the newest valid checkpoint and ended in the same bits")


main()
