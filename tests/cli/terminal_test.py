# SPDX-License-Identifier: Apache-2.0
"""What a person at a terminal sees, through a pseudo-terminal: prompt, colour, Ctrl-C."""
import os
import pty
import select
import signal
import time
import unittest

import cli_case
from cli_case import BINARY


class Terminal:
    def __init__(self, folder, *words, **environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(BINARY, [BINARY, *map(str, words)], cli_case.clean_environment(TERM="xterm", **environment))
        self.seen = b""

    def read_until(self, what, seconds=20):
        end = time.monotonic() + seconds
        while what not in self.seen:
            if time.monotonic() > end or not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{what!r} did not come; seen: {self.seen!r}")
            try:
                self.seen += os.read(self.fd, 4096)
            except OSError as error:
                raise AssertionError(f"{what!r} did not come before the end; seen: {self.seen!r}") from error
        at = self.seen.index(what) + len(what)
        before, self.seen = self.seen[:at], self.seen[at:]
        return before

    def type(self, data):
        os.write(self.fd, data)

    def drain(self):
        try:
            while True:
                block = os.read(self.fd, 4096)
                if not block:
                    break
                self.seen += block
        except OSError:
            pass
        return self.seen

    def wait(self):
        self.drain()
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)
        except (ProcessLookupError, ChildProcessError, OSError):
            pass


class TerminalTest(cli_case.CliCase):
    def open(self, *words, **environment):
        terminal = Terminal(self.folder, *words, **environment)
        self.addCleanup(terminal.close)
        return terminal

    def test_errors_are_red_unless_no_color(self):
        words = ("generate", "-m", "/no/such/model", "-p", "x")
        colourful = self.open(*words)
        self.assertEqual(colourful.wait(), cli_case.NOT_FOUND)
        self.assertIn(b"\x1b[1;31mgateskip: error:", colourful.seen)
        plain = self.open(*words, NO_COLOR="1")
        self.assertEqual(plain.wait(), cli_case.NOT_FOUND)
        self.assertNotIn(b"\x1b", plain.seen)

    def test_chat_prompts_answers_and_leaves_at_ctrl_d(self):
        chat = self.open("chat", "-m", self.llama, "-t", 1, "-n", 5, "--temp", 0)
        chat.read_until(b"> ")
        chat.type(b"/help\n")
        chat.read_until(b"/reset")
        chat.read_until(b"> ")
        chat.type(b"/bogus\n")
        chat.read_until(b"error:")
        chat.read_until(b"> ")
        chat.type(b"\x04")
        self.assertEqual(chat.wait(), 0)

    def test_ctrl_c_at_the_prompt_leaves(self):
        chat = self.open("chat", "-m", self.llama, "-t", 1)
        chat.read_until(b"> ")
        chat.type(b"\x03")
        self.assertEqual(chat.wait(), cli_case.CANCELLED)


if __name__ == "__main__":
    unittest.main()
