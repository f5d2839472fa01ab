# SPDX-License-Identifier: Apache-2.0
"""More than the server can do, clients that go away, and its end: refusals, cancelled work, drained streams."""
import json
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
    words = ("--parallel", "2", "--write-timeout", "1")

    def test_nothing_is_left_of_those_who_go_and_the_others_do_not_notice(self):
        alone = self.server.post("/v1/completions", LONG).json()["choices"]
        cut = post_bytes({**LONG, "n": 2, "stream": True})
        for phase in range(12):
            sockets = [self.server.connect() for _ in range(4)]  # more than run at a time: some are queued
            for sock in sockets:
                sock.sendall(cut if phase % 2 else post_bytes({**LONG, "n": 2}))
            time.sleep(0.01 * phase)
            for sock in sockets:
                reset(sock) if phase % 3 else sock.close()
            if phase % 4 == 0:
                self.assertEqual(self.server.post("/v1/completions", LONG).json()["choices"], alone)
        wait_until(self.server.idle, 30, "all sequences and pages free")
        self.assertEqual(self.server.post("/v1/completions", LONG).json()["choices"], alone)

    def test_a_stream_nobody_reads_is_cut(self):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.server.port))
        sock.sendall(post_bytes({**LONG, "n": 8, "logprobs": 20, "stream": True}))
        wait_until(lambda: self.server.metric("gateskip_slow_readers_cut_total") >= 1, 30, "cut")
        wait_until(self.server.idle, 30, "idle")
        sock.close()


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
