# SPDX-License-Identifier: Apache-2.0
"""More than the server can do, clients that go away, and its end: refusals, cancelled work, drained streams."""
import ctypes
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

from server_case import BINARY, ServerCase, events, parse_answers, wait_until

LONG = {"prompt": [10, 11, 12], "max_tokens": 480, "ignore_eos": True, "temperature": 1, "seed": 1}


def post_bytes(body, path="/v1/completions"):
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def reset(sock):
    """Closes at once, with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_answer(sock):
    """The bytes of one answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    size = int(data.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(data) < data.index(b"\r\n\r\n") + 4 + size:
        data += sock.recv(65536)
    return data


class Overload(ServerCase):
    words = ("--parallel", "2", "--max-queue", "2", "--adaptive-budget", "0:0.4")

    def test_what_has_no_place_is_refused_at_once_and_the_rest_is_answered(self):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.server.post("/v1/completions", LONG)))
                   for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [a for a in answers if a.status == 429]
        self.assertEqual(len(answers), 16)
        self.assertTrue(refused)
        self.assertEqual({a.status for a in answers}, {200, 429})
        for answer in refused:
            self.assert_error(answer, 429)
        wait_until(self.server.idle, 30, "idle")

    def test_more_than_ever_fits_is_the_clients_fault(self):
        self.assert_error(self.server.complete(prompt=["a"] * 5, max_tokens=1), 400, "--max-queue")

    def test_the_queue_moves_only_budgets_nobody_set(self):
        usages = []

        def ask(**fields):
            answer = self.server.post("/v1/completions", {**LONG, **fields})
            if answer.status == 200:
                usages.append((fields, answer.json()["usage"]["gateskip"]))

        threads = [threading.Thread(target=ask, kwargs=fields) for fields in [{}, {"budget": 0.1}] * 2]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
        self.assertTrue(usages)
        for fields, usage in usages:
            self.assertEqual(usage["adapted"], not fields)
            if fields:
                self.assertEqual(usage["decode"]["requested"], 0.1)
            self.assertLessEqual(usage["decode"]["requested"], 0.4)


class Disconnects(ServerCase):
    words = ("--parallel", "2", "--write-timeout", "1", "--kv-tokens", "8192")

    def wait_for(self, phase, sock):
        """Until the server's own numbers say that a request is there."""
        if phase == "stream":
            data = b""
            while b"data: " not in data:
                data += sock.recv(65536)
        elif phase == "queued":
            wait_until(lambda: self.server.waiting() >= 1, 60, phase)
        else:
            wait_until(lambda: self.server.running() >= 1, 60, phase)

    def test_nothing_is_left_of_those_who_go_in_any_phase_and_the_others_do_not_notice(self):
        alone = self.server.post("/v1/completions", LONG).json()["choices"]
        gone = self.server.metric("gateskip_disconnects_total")
        for phase in ("queued", "running", "stream"):
            for leave in (reset, socket.socket.close):
                cut = {**LONG, "n": 2, "max_tokens": 400, "stream": phase == "stream"}
                # One that runs, for long and as wide as it may; what comes after it waits.
                others = [self.server.connect() for _ in range(1 if phase == "queued" else 0)]
                for other in others:
                    other.sendall(post_bytes({**LONG, "n": 8}))
                sock = self.server.connect()
                sock.sendall(post_bytes(cut))
                self.wait_for(phase, sock)
                leave(sock)
                for other in others:
                    self.assertEqual(len(parse_answers(read_answer(other))[0].json()["choices"]), 8)
                    other.close()
                wait_until(self.server.idle, 30, f"all sequences and pages free, {phase}")
                self.assertEqual(self.server.post("/v1/completions", LONG).json()["choices"], alone)
        self.assertEqual(self.server.metric("gateskip_disconnects_total"), gone + 6)

    def test_a_stream_nobody_reads_is_cut(self):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.server.port))
        sock.sendall(post_bytes({**LONG, "n": 8, "logprobs": 20, "stream": True}))
        wait_until(lambda: self.server.metric("gateskip_slow_readers_cut_total") >= 1, 30, "cut")
        wait_until(self.server.idle, 30, "idle")
        sock.close()


class Engine(ServerCase):
    """Behind one request at a time, with a short patience for it."""

    words = ("--parallel", "1", "--stall-timeout", "0.2", "--stream-keep-alive", "0.2", "--max-per-key", "9")

    def stopped_engine(self):
        """The engine's thread, and it alone, stopped: attached to as a debugger would."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        tasks = pathlib.Path(f"/proc/{self.server.process.pid}/task")
        engine = next(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == "engine")
        if libc.ptrace(16, engine, None, None) != 0:  # PTRACE_ATTACH
            raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(engine, 0x40000000)  # __WALL
        self.addCleanup(lambda: libc.ptrace(17, engine, None, None))  # PTRACE_DETACH
        return lambda: libc.ptrace(17, engine, None, None)

    def test_a_step_that_does_not_end_is_a_stall_until_it_does(self):
        answers = []
        ask = {**LONG, "n": 8}
        request = threading.Thread(target=lambda: answers.append(self.server.post("/v1/completions", ask)))
        request.start()
        wait_until(lambda: self.server.running() == 1, 30)
        go_on = self.stopped_engine()
        wait_until(lambda: self.server.request("GET", "/health").status == 503, 30, "a stall")
        self.assertEqual(self.server.request("GET", "/health").json(), {"status": "stalled"})
        self.assert_error(self.server.complete(prompt="a"), 503, "stalled")
        go_on()
        request.join()
        self.assertEqual(answers[0].status, 200)
        wait_until(lambda: self.server.request("GET", "/health").status == 200, 30, "health")

    def test_a_stream_that_waits_for_its_turn_is_kept_alive(self):
        first = self.server.connect(60)
        first.sendall(post_bytes({**LONG, "n": 8, "stream": True}))
        data = first.recv(1)
        go_on = self.stopped_engine()
        wait_until(lambda: self.server.request("GET", "/health").status == 503, 30, "a stall")
        while b": waiting\n\n" not in data:
            block = first.recv(65536)
            self.assertTrue(block, "a comment before the end")
            data += block
        go_on()
        while not data.endswith(b"0\r\n\r\n"):
            data += first.recv(65536)
        first.close()
        self.assertEqual(events(parse_answers(data)[0].body)[-1], "[DONE]")

    def test_one_key_holds_so_many_places_only(self):
        held = [self.server.connect(60) for _ in range(2)]
        held[0].sendall(post_bytes({**LONG, "n": 8}))
        held[1].sendall(post_bytes(LONG))
        wait_until(lambda: self.server.metric("gateskip_sequences_in_flight") == 9, 30)
        self.assert_error(self.server.complete(prompt="a"), 429, "this key")
        for sock in held:
            self.assertEqual(parse_answers(read_answer(sock))[0].status, 200)
            sock.close()
        self.assertEqual(self.server.complete(prompt="a", max_tokens=1).status, 200)
        self.assert_error(self.server.complete(prompt=["a", "b"], n=5), 400, "--max-per-key")


class Ends(ServerCase):
    def test_idle(self):
        server = self.start()
        began = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - began, 10)

    def test_streams_are_finished_and_new_requests_refused(self):
        server = self.start("--parallel", "1")
        sock = server.connect(60)
        sock.sendall(post_bytes({**LONG, "n": 8, "stream": True}))
        first = sock.recv(1)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in server.log, 10)
        try:
            self.assertEqual(server.request("GET", "/health").status, 503)
            self.assert_error(server.complete(prompt="a"), 503, "draining")
        except (ConnectionError, OSError):
            pass  # the stream had ended already
        data = first
        while block := sock.recv(65536):
            data += block
        self.assertEqual(events(parse_answers(data)[0].body)[-1], "[DONE]")
        self.assertEqual(server.process.wait(60), 0)

    def test_after_the_drain_timeout_streams_are_cut_with_an_error(self):
        server = self.start("--drain-timeout", "0", "--parallel", "1")
        sock = server.connect(60)
        sock.sendall(post_bytes({**LONG, "n": 8, "stream": True}))
        data = sock.recv(1)
        server.process.send_signal(signal.SIGTERM)
        while block := sock.recv(65536):
            data += block
        self.assertIn("error", events(parse_answers(data)[0].body)[-1])
        self.assertEqual(server.process.wait(60), 0)

    def refused(self, *words):
        result = subprocess.run([BINARY, "serve", "-m", str(self.model), *words], capture_output=True, timeout=60)
        self.assertRegex(result.stderr.decode(), r"gateskip: error: \[")
        return result.returncode

    def test_what_it_does_not_begin_with(self):
        self.assertEqual(self.refused("--host", "0.0.0.0"), 2)
        self.assertEqual(self.refused("--host", "no.address"), 2)
        self.assertEqual(self.refused("--api-key", "short"), 2)
        self.assertEqual(self.refused("--adaptive-budget", "0.3:0.1"), 2)
        self.assertEqual(self.refused("--port", str(self.server.port)), 8)


if __name__ == "__main__":
    unittest.main()
