# SPDX-License-Identifier: Apache-2.0
"""Load for a server: HTTP/1.1 over asyncio with little work per request, since it shares the machine with the server,
and figures over many answers."""
import asyncio
import dataclasses
import json
import math
import os
import random
import statistics
import time


@dataclasses.dataclass
class Outcome:
    status: int  # 0: no answer at all
    seconds: float
    body: bytes = b""
    headers: dict = dataclasses.field(default_factory=dict)
    event_times: list = dataclasses.field(default_factory=list)  # of a stream's pieces, from the request on

    def json(self):
        return json.loads(self.body)

    @property
    def tokens(self):
        return self.json()["usage"]["completion_tokens"] if self.status == 200 else 0


def request_bytes(path, body=None, method="POST"):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"\r\n" + data


class Client:
    """One connection, opened when it is needed and kept."""

    def __init__(self, port):
        self._port = port
        self._reader = self._writer = None

    async def open(self):
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)

    def close(self):
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def ask(self, path, body=None, method="POST", timeout=300):
        return await self.send(request_bytes(path, body, method), timeout)

    async def send(self, data, timeout=300):
        start = time.perf_counter()
        try:
            return await asyncio.wait_for(self._exchange(data, start), timeout)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            self.close()
            return Outcome(0, time.perf_counter() - start)

    async def _exchange(self, data, start):
        await self.open()
        self._writer.write(data)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:-2])}
        outcome = Outcome(int(head[0].split(" ")[1]), 0, headers=headers)
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readline(), 16):
                outcome.body += await self._reader.readexactly(size)
                outcome.event_times.append(time.perf_counter() - start)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        else:
            outcome.body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        outcome.seconds = time.perf_counter() - start
        if headers.get("connection") == "close":
            self.close()
        return outcome


async def metric(client, name):
    """The value of a metric without labels."""
    text = (await client.ask("/metrics", method="GET")).body.decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + " "))


async def closed_loop(port, bodies, concurrency, path="/v1/completions", until=math.inf):
    """Clients that each send the next body as soon as they have their answer. The outcomes, in the order of bodies."""
    queue = iter(enumerate(bodies))
    outcomes = {}

    async def one_client():
        client = Client(port)
        for index, body in queue:
            if time.perf_counter() >= until:
                break
            outcomes[index] = await client.ask(path, body)
        client.close()

    await asyncio.gather(*(one_client() for _ in range(concurrency)))
    return [outcomes[index] for index in sorted(outcomes)]


async def open_loop(port, bodies, rate, seconds, path="/v1/completions"):
    """Requests at a rate that does not wait for answers, evenly spaced, each on a connection of its own. Returns when
    each answer was there with the answer, and how long it took to send them all."""
    outcomes = []
    start = time.perf_counter()

    async def one(body):
        client = Client(port)
        outcome = await client.ask(path, body)
        client.close()
        outcomes.append((time.perf_counter() - start, outcome))

    tasks = []
    for number, body in zip(range(int(rate * seconds)), bodies):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(body)))
    sent_in = time.perf_counter() - start
    await asyncio.gather(*tasks)
    return outcomes, sent_in


def token_prompt(draw, length):
    """Ids of ordinary tokens, drawn anew each time: nothing of it is in a prefix cache."""
    return [draw.randrange(1000, 40000) for _ in range(length)]


def completions(seed, prompt_tokens, max_tokens, **fields):
    """Requests without end, each with a prompt of its own."""
    draw = random.Random(seed)
    while True:
        yield {"prompt": token_prompt(draw, prompt_tokens), "max_tokens": max_tokens, "temperature": 0,
               "ignore_eos": True, **fields}


def quantile(values, share):
    """Nearest rank; nan without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def spread(values):
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def process_state(pid):
    """Anonymous memory, swapped out or not, in bytes (a resident set alone hides leaks), descriptors and threads."""
    fields = {}
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            name, _, value = line.partition(":")
            fields[name] = value.split()
    return {"memory": 1024 * (int(fields["RssAnon"][0]) + int(fields["VmSwap"][0])),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": int(fields["Threads"][0])}


def slope(points):
    """Least squares, y per x."""
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x if spread_x else math.nan
