# SPDX-License-Identifier: Apache-2.0
"""What a hostile or broken peer sends: bad framing, smuggling, slow and huge requests, foreign pages, wrong keys."""
import base64
import re
import threading
import time
import unittest

from server_case import ServerCase, parse_answers, wait_until

HOST = b"Host: localhost\r\n"
GOOD = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b'{"prompt": "a", "max_tokens": 1}'
POST = b"POST /v1/completions HTTP/1.1\r\n" + HOST


def with_length(body=BODY):
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*chunks, head=POST, end=b"0\r\n\r\n"):
    return (head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + end)


class Framing(ServerCase):
    words = ("--header-timeout", "1", "--body-timeout", "1", "--idle-timeout", "0.5")

    def statuses(self, data):
        return [answer.status for answer in parse_answers(self.server.raw(data))]

    def test_good_ones(self):
        self.assertEqual(self.statuses(GOOD), [200])
        self.assertEqual(self.statuses(GOOD * 3), [200] * 3)
        self.assertEqual(self.statuses(with_length() + GOOD), [200, 200])
        self.assertEqual(self.statuses(chunked(BODY[:5], BODY[5:]) + GOOD), [200, 200])
        self.assertEqual(self.statuses(chunked(BODY, end=b"0;x=y\r\nTrailer: 1\r\n\r\n") + GOOD), [200, 200])
        self.assertEqual(self.statuses(GOOD.replace(b"1.1", b"1.0")), [200])
        self.assertEqual(self.statuses(b"GET /health HTTP/1.1\r\nhOsT: localhost:1\r\n\r\n"), [200])

    def test_one_byte_at_a_time(self):
        with self.server.connect() as sock:
            for byte in chunked(BODY[:9], BODY[9:]):
                sock.sendall(bytes([byte]))
            self.assertIn(b"200 OK", sock.recv(65536))

    def test_expect_continue(self):
        with self.server.connect() as sock:
            sock.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
            self.assertEqual(sock.recv(65536), b"HTTP/1.1 100 Continue\r\n\r\n")
            sock.sendall(BODY)
            self.assertIn(b"200 OK", sock.recv(65536))

    def test_what_two_readers_could_take_differently_is_refused_and_closed(self):
        bad = {
            "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            "two equal lengths": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "list of lengths": POST + b"Content-Length: 1, 1\r\n\r\nx",
            "signed length": POST + b"Content-Length: +1\r\n\r\nx",
            "negative length": POST + b"Content-Length: -1\r\n\r\nx",
            "hexadecimal length": POST + b"Content-Length: 0x1\r\n\r\nx",
            "huge length": POST + b"Content-Length: 18446744073709551617\r\n\r\nx",
            "empty length": POST + b"Content-Length:\r\n\r\nx",
            "other coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "identity coding": POST + b"Transfer-Encoding: identity\r\n\r\n",
            "quoted coding": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
            "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "chunked in 1.0": chunked(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
            "space before colon": POST + b"Content-Length : 1\r\n\r\nx",
            "folded field": POST + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\nx",
            "folded first": b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n",
            "bare LF": GOOD.replace(b"\r\n", b"\n"),
            "bare LF in a field": POST + b"X: a\nContent-Length: 1\r\n\r\nx",
            "bare CR": POST + b"X: a\rContent-Length: 1\r\n\r\nx",
            "NUL": POST + b"X: a\0b\r\n\r\n",
            "no host": b"GET /health HTTP/1.1\r\n\r\n",
            "two hosts": b"GET /health HTTP/1.1\r\n" + HOST * 2 + b"\r\n",
            "no colon": POST + b"nonsense\r\n\r\n",
            "no name": POST + b": x\r\n\r\n",
            "no version": b"GET /health\r\n" + HOST + b"\r\n",
            "version 2": b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n",
            "version 0.9": b"GET /health HTTP/0.9\r\n" + HOST + b"\r\n",
            "two spaces": b"GET  /health HTTP/1.1\r\n" + HOST + b"\r\n",
            "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "lower case method": b"get /health HTTP/1.1\r\n" + HOST + b"\r\n",
            "PRI": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        }
        for name, data in bad.items():
            self.assertEqual(self.statuses(data + GOOD), [400], name)

    def test_chunks(self):
        for size in (b"-2", b" 1", b"0x1", b"+1", b"f" * 17, b"", b"g", b"1 ", b"\r\n1"):
            data = POST + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\nx\r\n0\r\n\r\n"
            found = self.statuses(data + GOOD)
            self.assertIn(found, ([400], [413]), size)
        wrong_end = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n"
        self.assertEqual(self.statuses(wrong_end + GOOD), [400])
        extension = POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 200_000
        self.assertIn(self.statuses(extension), ([400], [431]))
        trailer = POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n"
        self.assertIn(self.statuses(trailer), ([400], [431]))
        self.assertEqual(self.statuses(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), [408])

    def test_limits(self):
        self.assertEqual(self.statuses(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"), [431])
        self.assertEqual(self.statuses(b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 200 + b"\r\n"), [431])
        self.assertEqual(self.statuses(b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000), [431])
        self.assertEqual(self.statuses(POST + b"Content-Length: 5000000\r\n\r\n" + b"x" * 5_000_000), [413])
        self.assertEqual(self.statuses(chunked(*[b"x" * 65536] * 70)), [413])
        self.assertEqual(self.statuses(POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), [415])
        just_fits = b'{"prompt": [1], "x": "' + b"y" * ((4 << 20) - 24) + b'"}'
        self.assertEqual(len(just_fits), 4 << 20)
        self.assertEqual(self.statuses(with_length(just_fits)), [200])

    def test_memory_of_endless_headers(self):
        def resident():
            with open(f"/proc/{self.server.process.pid}/status") as status:
                return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1))

        before = resident()
        for _ in range(4):
            self.assertEqual(self.statuses(b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000_000)[:1], [431])
        self.assertLess(resident() - before, 16_000)

    def test_json(self):
        bad = [b"", b"{", b"[]", b"null", b"3", b'"x"', b"{}", b"{}{}", b'{"prompt": "a"', b"\xff", b'{"prompt": "\xff"}',
               b'{"prompt": "\\ud800"}', b'{"prompt": "a", "prompt": "b"}', b'{"prompt": "a", "n": 1e999}',
               b'{"prompt": "a"}\0', b'{"prompt": "a", "n": NaN}', b"[" * 1_000_000, b'{"a":' * 500_000,
               b'{"x": ' + b"[" * 100 + b"]" * 100 + b', "prompt": "a"}', b"[" + b"1," * 1_000_000 + b"1]"]
        for body in bad:
            answer = parse_answers(self.server.raw(with_length(body)))[0]
            self.assert_error(answer, 400)

    def test_no_text_of_the_request_in_the_log(self):
        self.server.complete(prompt="secretword", max_tokens=1)
        self.statuses(b"GET /secretword HTTP/1.1\r\n" + HOST + b"\r\n")
        self.assertNotIn("secretword", self.server.log)
        self.assertNotIn("secretword", self.server.request("GET", "/metrics").body.decode())

    def test_a_foreign_host_or_origin(self):
        for headers in (b"Host: evil.example\r\n", b"Host: localhost.evil.example\r\n", b"Host: 127.0.0.1.evil\r\n",
                        HOST + b"Origin: http://evil.example\r\n", HOST + b"Origin: null\r\n",
                        HOST + b"Origin: http://localhost.evil\r\n"):
            for path in (b"/", b"/health", b"/props", b"/nothing"):
                answers = parse_answers(self.server.raw(b"GET " + path + b" HTTP/1.1\r\n" + headers + b"\r\n"))
                self.assertEqual([a.status for a in answers], [403], headers)
                self.assertNotIn("access-control-allow-origin", answers[0].headers)
        own = b"GET /props HTTP/1.1\r\nHost: localhost:9\r\nOrigin: http://localhost:9\r\n\r\n"
        self.assertEqual(self.statuses(own), [200])

    def test_slow_requests_end_and_the_others_are_served(self):
        slow = []
        for i in range(300):
            sock = self.server.connect()
            sock.sendall([b"G", b"GET / HTTP/1.1\r\nX", POST + b"Content-Length: 9\r\n\r\nx"][i % 3])
            slow.append(sock)
        stop = threading.Event()

        def drip():
            while not stop.wait(0.3):
                for sock in slow:
                    try:
                        sock.send(b"x")
                    except OSError:
                        pass

        dripper = threading.Thread(target=drip)
        dripper.start()
        try:
            for _ in range(20):
                self.assertEqual(self.server.request("GET", "/health").status, 200)
                self.assertEqual(self.server.complete(prompt="a", max_tokens=1).status, 200)
            # The deadline is for the whole, whatever trickles in. (1 s; much more only on a machine that is very busy.)
            wait_until(lambda: self.server.metric("gateskip_connections") <= 5, 20, "all slow ones cut")
        finally:
            stop.set()
            dripper.join()
            for sock in slow:
                sock.close()


class SlowBodies(ServerCase):
    words = ("--body-timeout", "60", "--min-body-rate", "100", "--header-timeout", "60")

    def test_a_body_that_trickles_in_is_cut_long_before_its_time_is_up(self):
        with self.server.connect(120) as sock:
            sock.sendall(POST + b"Content-Length: 100000\r\n\r\n")
            stop = threading.Event()

            def drip():
                while not stop.wait(0.5):
                    try:
                        sock.send(b"x")
                    except OSError:
                        return

            dripper = threading.Thread(target=drip)
            dripper.start()
            began = time.monotonic()
            try:
                self.assertIn(b"408 Request Timeout", sock.recv(65536))
            finally:
                stop.set()
                dripper.join()
            self.assertLess(time.monotonic() - began, 40)  # a sixth of the time is up after 10 s

    def test_a_body_that_keeps_its_rate_has_all_of_its_time(self):
        body = b'{"max_tokens": 1, "prompt": "a", "user": "' + b"u" * 40_000 + b'"}'
        with self.server.connect(120) as sock:
            sock.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body))
            for begin in range(0, len(body), 2000):
                sock.sendall(body[begin:begin + 2000])
                time.sleep(0.6)  # 3300 bytes a second, for 12 s: past the first look
            self.assertIn(b"200 OK", sock.recv(65536))


class FewConnections(ServerCase):
    words = ("--max-connections", "16", "--header-timeout", "60", "--idle-timeout", "60")

    def test_room_is_made_by_closing_the_oldest_that_still_sends(self):
        waiting = [self.server.connect() for _ in range(20)]
        time.sleep(1.2)  # they have had their second
        for _ in range(20):
            self.assertEqual(self.server.request("GET", "/health").status, 200)
            self.assertEqual(self.server.complete(prompt="a", max_tokens=1).status, 200)
        for sock in waiting:
            sock.close()

    def test_the_reserve_is_for_health_and_metrics(self):
        waiting = [self.server.connect() for _ in range(13)]  # new, so not yet closed for others
        statuses = {path: self.server.request("GET", path).status for path in ("/health", "/props", "/metrics")}
        for sock in waiting:
            sock.close()
        self.assertEqual(statuses, {"/health": 200, "/props": 503, "/metrics": 200})


class Keys(ServerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        keys = cls.fixtures / "keys.txt"
        keys.write_text("# two\nfirst-key-123\n\nsecond-key-456\n")
        cls.server.stop()
        cls.server = cls.start("--api-key-file", keys, "--cors-origin", "https://app.example", ready=False)
        cls.server.metric_headers = {"Authorization": "Bearer first-key-123"}
        wait_until(lambda: cls.server.request("GET", "/health").status == 200, 60)

    def test_no_spelling_of_a_request_gets_around_the_key(self):
        paths = ["/props", "/v1/models", "/metrics", "/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize",
                 "/apply-template", "/nothing", "*"]
        spellings = [lambda p: p, lambda p: "/" + p, lambda p: "/." + p, lambda p: "/x/.." + p, lambda p: p + "/",
                     lambda p: p.replace("/", "/%2e/", 1), lambda p: p + "%00", lambda p: "http://localhost" + p,
                     lambda p: p.upper(), lambda p: p + "?x=/health", lambda p: "/health/.." + p,
                     lambda p: p + "#/health", lambda p: "/health;" + p, lambda p: "/health%2f.." + p]
        for path in paths:
            for spell in spellings:
                for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"):
                    for version in ("1.1", "1.0"):
                        data = f"{method} {spell(path)} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                        head = self.server.raw(data.encode(), timeout=10)[:12]
                        self.assertIn(head, (b"HTTP/1.1 401", b"HTTP/1.1 400"), data)

    def test_wrong_keys(self):
        basic = base64.b64encode(b"x:first-key-123").decode()
        for value in ("", "Bearer", "Bearer ", "Bearer first-key-12", "Bearer first-key-1234", "bearer  first-key-123",
                      "first-key-123", f"Basic {basic}", "Bearer FIRST-KEY-123", "Bearer # two",
                      "Bearer first-key-123, Bearer x", "Bearer first-key-123\tx"):
            answer = self.server.request("GET", "/props", headers={"Authorization": value})
            self.assert_error(answer, 401)
            self.assertEqual(answer.headers["www-authenticate"], "Bearer")

    def test_right_keys(self):
        for value in ("Bearer first-key-123", "bearer second-key-456"):
            self.assertEqual(self.server.request("GET", "/props", headers={"Authorization": value}).status, 200)
        for path in ("/health", "/"):
            self.assertEqual(self.server.request("GET", path).status, 200)
        self.assertNotIn("key-", self.server.log)

    def test_a_key_is_proof_enough_whatever_the_host(self):
        headers = {"Authorization": "Bearer first-key-123", "Host": "gpu7.example"}
        self.assertEqual(self.server.request("GET", "/props", headers=headers).status, 200)

    def test_the_allowed_origin(self):
        headers = {"Origin": "https://app.example"}
        preflight = self.server.request("OPTIONS", "/v1/completions", headers=headers)
        self.assertEqual(preflight.status, 204)
        self.assertEqual(preflight.headers["access-control-allow-origin"], "https://app.example")
        self.assertNotIn("access-control-allow-credentials", preflight.headers)
        answer = self.server.request("GET", "/props", headers={**headers, "Authorization": "Bearer first-key-123"})
        self.assertEqual(answer.headers["access-control-allow-origin"], "https://app.example")
        other = self.server.request("OPTIONS", "/v1/completions", headers={"Origin": "https://other.example"})
        self.assertEqual(other.status, 403)


if __name__ == "__main__":
    unittest.main()
