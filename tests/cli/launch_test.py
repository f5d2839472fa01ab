#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The launcher of `gateskip train --nproc`, on a probe that plays the ranks: environment, output, ends of all kinds."""
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

import cli_case

PROBE = os.environ["GATESKIP_LAUNCH_PROBE"]
LONG = 60  # seconds; nothing here takes as long unless it hangs


def start(*words, **variables):
    return subprocess.Popen([PROBE, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=cli_case.clean_environment(**variables))


def finish(process):
    out, err = process.communicate(timeout=LONG)
    return process.returncode, out, err


def children_of(pid):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def exists(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class LaunchTest(unittest.TestCase):
    def until(self, condition):
        deadline = time.monotonic() + LONG
        while not condition():
            self.assertLess(time.monotonic(), deadline, "waited for too long")
            time.sleep(0.01)

    def wait_for_ranks(self, process, count):
        """Until `count` ranks have said on stderr that they wait."""
        lines = [process.stderr.readline() for _ in range(count)]
        self.assertEqual([line for line in lines if "waits" not in line], [])

    def test_every_rank_knows_its_place_and_only_rank_zero_prints_as_is(self):
        status, out, err = finish(start(3, 5, "print"))
        self.assertEqual(status, 0, err)
        self.assertEqual(out, "out 0 of 3, local 0 of 3, 127.0.0.1\nno line end")
        lines = err.splitlines()
        for rank in (1, 2):
            mine = [line for line in lines if line.startswith(f"[rank {rank}] ")]
            self.assertIn(f"[rank {rank}] out {rank} of 3, local {rank} of 3, 127.0.0.1", mine)
            self.assertIn(f"[rank {rank}] no line end", mine)
        tokens = set(re.findall(r"token (\S+)", err))
        self.assertEqual(len(tokens), 1, err)
        self.assertRegex(tokens.pop(), r"^[0-9a-f]{32}$")

    def test_every_run_has_its_own_token(self):
        tokens = {re.search(r"token (\S+)", finish(start(2, 5, "print", GATESKIP_RANK_TOKEN="mine"))[2])[1]
                  for _ in range(2)}
        self.assertEqual(len(tokens), 2)
        self.assertNotIn("mine", tokens)

    def test_the_ranks_meet(self):
        # What is left over from another run or for several hosts does not disturb.
        status, _, err = finish(start(3, 5, "meet", GLOO_SOCKET_IFNAME="no-such-interface", MASTER_PORT="1"))
        self.assertEqual(status, 0, err)
        for rank in range(3):
            self.assertEqual(len(re.findall(rf"word{rank}$", err, re.M)), 3, err)

    def test_the_first_failure_is_named_and_ends_the_others(self):
        for failing in (0, 1, 2):
            status, _, err = finish(start(3, LONG, "exit", failing, 7))
            self.assertEqual(status, 7, err)
            self.assertIn(f"[launch] rank {failing} of 3: expected it to finish, found it ended by exit status 7;", err)
            self.assertEqual(err.count("[launch]"), 1, err)

    def test_a_rank_that_is_killed_is_named_with_its_signal(self):
        status, _, err = finish(start(2, LONG, "signal", 1, int(signal.SIGKILL)))
        self.assertEqual(status, 128 + signal.SIGKILL, err)
        self.assertIn("rank 1 of 2: expected it to finish, found it ended by signal 9 (Killed);", err)

    def test_ranks_that_do_not_end_are_killed(self):
        status, _, err = finish(start(3, 1, "stubborn", 2, int(signal.SIGKILL)))
        self.assertEqual(status, 128 + signal.SIGKILL, err)
        self.assertIn("rank 2 of 3", err)

    def test_signals_reach_all_ranks(self):
        for number, expected in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            process = start(3, LONG, "wait")
            self.wait_for_ranks(process, 3)
            process.send_signal(number)
            status, _, err = finish(process)
            self.assertEqual(status, expected, err)
            self.assertNotIn("error", err)

    def test_the_ranks_die_with_the_launcher(self):
        process = start(3, LONG, "wait")
        self.wait_for_ranks(process, 3)
        ranks = children_of(process.pid)
        self.assertEqual(len(ranks), 3)
        process.kill()
        process.communicate(timeout=LONG)
        self.until(lambda: not any(exists(pid) for pid in ranks))

    def test_a_number_of_ranks_out_of_range_is_refused(self):
        for number in (0, -1, 1025):
            status, _, err = finish(start(number, 5, "print"))
            self.assertEqual(status, cli_case.USAGE, err)
            self.assertIn("[launch] nproc", err)


if __name__ == "__main__":
    unittest.main()
