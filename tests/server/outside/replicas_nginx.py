#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two replicas behind nginx, as deploy/nginx.conf has it: a session stays with its replica, sessions spread over both,
streams come through as they are made, and a rolling restart loses no request.

usage: replicas_nginx.py -m MODEL --adapter DIR [--gateskip PROGRAM]        needs nginx
"""
import collections
import http.client
import json
import pathlib
import subprocess
import tempfile
import threading
import time

from outside_case import ROOT, free_port, parse, request

REQUESTS_WHILE_ROLLING = 8  # clients


def nginx_conf(front, replicas):
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{front}")
    for port, replica in zip(("8081", "8082"), replicas):
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{replica}")
    return text


def ask(port, session, prompt, **fields):
    body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **fields}
    return request(port, "POST", "/v1/completions", body, {"X-Session-Id": session})


def prompts_of(server):
    return sum(server.metric("gateskip_prompts_total", prefix=p) for p in ("cached", "none"))


def check_affinity(front, servers):
    text = "A session's turns share their beginning. " * 40
    cached = []
    for session in range(12):
        first = ask(front, f"s{session}", f"{session} {text}")
        second = ask(front, f"s{session}", f"{session} {text}")
        assert (first.status, second.status) == (200, 200), (first, second)
        cached.append(second.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert all(c > 0 for c in cached), f"expected every second turn to find its prefix, found {cached}"
    shares = [prompts_of(server) for server in servers]
    assert sum(shares) == 24 and all(shares), f"expected both replicas to have sessions, found {shares}"
    print(f"affinity: 12 sessions of two turns, all second turns from the cache; prompts by replica {shares}")


def check_stream(front):
    """The first pieces are there while the rest is still to be made."""
    first_at, events = None, 0
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", front, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 300, "stream": True,
                                                              "ignore_eos": True}), {"X-Session-Id": "stream"})
    response = connection.getresponse()
    while line := response.readline():
        if line.startswith(b"data: "):
            events += 1
            first_at = first_at or time.monotonic() - began
    took = time.monotonic() - began
    connection.close()
    assert line == b"" and events > 100, f"expected a stream of events, found {events}"
    assert first_at < took / 2, f"expected pieces as they are made, found the first after {first_at:.2f} of {took:.2f} s"
    print(f"stream: first piece after {1000 * first_at:.0f} of {1000 * took:.0f} ms")


def check_rolling_restart(front, start, servers, ports):
    """Both replicas restarted one after the other under load."""
    statuses = collections.Counter()
    stop = threading.Event()

    def one_client(number):
        while not stop.is_set():
            statuses[ask(front, f"r{number}", f"{number} tell me more", max_tokens=32).status] += 1

    clients = [threading.Thread(target=one_client, args=(n,)) for n in range(REQUESTS_WHILE_ROLLING)]
    for thread in clients:
        thread.start()
    time.sleep(1)
    for index, port in enumerate(ports):
        status = servers[index].stop()
        assert status == 0, f"expected a drained replica to exit with 0, found {status}"
        servers[index] = start(port)
        time.sleep(6)  # longer than nginx keeps a failed replica aside
    stop.set()
    for thread in clients:
        thread.join()
    assert set(statuses) == {200}, f"expected every request answered, found {dict(statuses)}"
    print(f"rolling restart: {statuses[200]} requests, all answered")


def main():
    args, server_case = parse(__doc__)
    front, *ports = free_port(), free_port(), free_port()

    def start(port):
        return server_case.Server(args.model, "--adapter", args.adapter, port=port)

    servers = [start(port) for port in ports]
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "nginx.conf").write_text(nginx_conf(front, ports))
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", "nginx.conf", "-g", "daemon off;"])
        try:
            server_case.wait_until(lambda: nginx.poll() is None and request(front, "GET", "/health").status == 200, 20)
            check_affinity(front, servers)
            check_stream(front)
            check_rolling_restart(front, start, servers, ports)
        finally:
            nginx.terminate()
            nginx.wait()
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main()
