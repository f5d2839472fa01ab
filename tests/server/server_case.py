# SPDX-License-Identifier: Apache-2.0
"""What the server's black-box tests share: a server on a free port, HTTP spoken by hand, and its answers."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

BINARY = os.environ.get("GATESKIP_BINARY", "")
FIXTURE_WRITER = os.environ.get("GATESKIP_FIXTURES", "")
REFUSALS = (429, 503)


def wait_until(condition, seconds=10.0, what="condition"):
    """The condition's first true value; an error after that many seconds (generous: the machine may be busy)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not so after {seconds} s")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:300]!r}"


def parse_answers(data):
    """Every answer in the bytes a connection sent back; what does not parse as HTTP/1.1 is an error."""
    answers = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            raise AssertionError(f"no end of a header in {data[:200]!r}")
        lines = head.decode("latin-1").split("\r\n")
        status = int(re.fullmatch(r"HTTP/1\.1 (\d{3}) .+", lines[0]).group(1))
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        if "content-length" in headers:
            size = int(headers["content-length"])
            body, data = rest[:size], rest[size:]
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                line, _, rest = rest.partition(b"\r\n")
                size = int(line, 16)
                body, rest = body + rest[:size], rest[size + 2:]
                if size == 0:
                    break
            data = rest
        else:
            body, data = (rest, b"") if status != 100 else (b"", rest)
        answers.append(Answer(status, headers, body))
    return answers


def events(body):
    """The objects of a stream of server-sent events, without comments; "[DONE]" as that string."""
    found = []
    for block in body.decode().split("\n\n"):
        if block and not block.startswith(":"):
            assert block.startswith("data: "), block
            found.append(block[6:] if block[6:] == "[DONE]" else json.loads(block[6:]))
    return found


class Server:
    """A running `gateskip serve`; the log is what it printed."""

    def __init__(self, model, *words, env=None, ready=True, port=0):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GATESKIP_")}
        environment.update(env or {})
        self.process = subprocess.Popen([BINARY, "serve", "-m", str(model), "--port", str(port), *map(str, words)],
                                        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
        self.log, self.port = "", 0
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(60) or not self.port:
            self.stop(signal.SIGKILL)
            raise AssertionError(f"the server did not begin: {self.log}")
        if ready:
            wait_until(lambda: self.request("GET", "/health").status == 200, 60, "ready")

    def _read(self):
        for line in self.process.stderr:
            self.log += line.decode(errors="replace")
            match = re.search(r"listening on http://.*:(\d+)$", line.decode(errors="replace").strip())
            if match:
                self.port = int(match.group(1))
                self._listening.set()
        self._listening.set()

    def connect(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, data, timeout=30):
        """Sends bytes, and returns all that comes until the server closes."""
        with self.connect(timeout) as sock:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            received = b""
            try:
                while block := sock.recv(65536):
                    received += block
            except ConnectionResetError:
                pass
            return received

    def request(self, method, path, body=None, headers=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def complete(self, **fields):
        return self.post("/v1/completions", {"temperature": 0, **fields})

    def metric(self, name, **labels):
        """The value of a line of /metrics."""
        text = self.request("GET", "/metrics", headers=getattr(self, "metric_headers", None)).body.decode()
        for line in text.splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? ([^ ]+)", line)
            if match and match.group(1) == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', match.group(2) or ""))
                if found == labels:
                    return float(match.group(3))
        return None

    def running(self):
        return self.metric("gateskip_engine_requests", state="running")

    def waiting(self):
        return self.metric("gateskip_engine_requests", state="waiting")

    def pages_held(self):
        """KV pages that belong to requests: none when nothing runs."""
        return self.metric("gateskip_kv_pages", state="in_use") - self.metric("gateskip_kv_pages",
                                                                              state="prefix_cache_idle")

    def idle(self):
        return self.metric("gateskip_sequences_in_flight") == 0 and self.pages_held() == 0

    def stop(self, number=signal.SIGTERM, timeout=60):
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(timeout)
        self._reader.join(10)
        return status


class ServerCase(unittest.TestCase):
    """self.server: one for the class, on the tiny model with its adapter, started with `words`."""

    words = ()

    @classmethod
    def setUpClass(cls):
        cls._shared = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls._shared.cleanup)
        cls.fixtures = pathlib.Path(cls._shared.name)
        subprocess.run([FIXTURE_WRITER, str(cls.fixtures)], check=True)
        cls.model = cls.fixtures / "llama.gguf"
        cls.adapter = cls.fixtures / "llama-adapter"
        cls.server = cls.start(*cls.words)

    @classmethod
    def start(cls, *words, **options):
        server = Server(cls.model, "--adapter", cls.adapter, "--threads", "2", *words, **options)
        cls.addClassCleanup(server.stop, signal.SIGKILL)
        return server

    def assert_error(self, answer, status, says="", param=None):
        self.assertEqual(answer.status, status, answer)
        error = answer.json()["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertIn(says, error["message"])
        if param:
            self.assertEqual(error["param"], param)
        if status in REFUSALS:
            self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
