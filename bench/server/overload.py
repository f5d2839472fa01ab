# SPDX-License-Identifier: Apache-2.0
"""More than the server can do: slow clients, floods of requests, hours of everything at once."""
import asyncio
import collections
import itertools
import random
import resource
import time

import client

REQUEST = {"prompt_tokens": 32, "max_tokens": 64}  # the ordinary request of these runs


def allow_descriptors(count):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(f"reliability.py: [limits] descriptors: expected {count} to be allowed, found {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def said_something(reader, seconds):
    """Whether an answer or the end of the connection comes within so long."""
    try:
        await asyncio.wait_for(reader.read(1), seconds)
        return True
    except asyncio.TimeoutError:
        return False


async def drip(port, kind, until, counts):
    """A client that sends a byte every two seconds; it comes back as often as it is cut."""
    while time.perf_counter() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            counts["not connected"] += 1
            await asyncio.sleep(2)
            continue
        began = time.perf_counter()
        try:
            if kind == "body":
                writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
            else:
                writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
            while time.perf_counter() < until:
                if await said_something(reader, 2):
                    break
                writer.write(b"a" if kind == "body" else b"X")
                await writer.drain()
        except OSError:
            pass
        finally:
            if time.perf_counter() < until:
                counts["cut"] += 1
                counts["longest life"] = max(counts["longest life"], time.perf_counter() - began)
            writer.transport.abort()
        await asyncio.sleep(2)  # slow, not a flood of connections


async def watch_health(port, until, times):
    """/health ten times a second, each on a connection of its own as probes do."""
    while time.perf_counter() < until:
        connection = client.Client(port)
        outcome = await connection.ask("/health", method="GET", timeout=10)
        connection.close()
        times.append(outcome.seconds if outcome.status == 200 else float("inf"))
        await asyncio.sleep(0.1)


async def slow_run(port, drippers, seconds):
    until = time.perf_counter() + seconds
    counts, health, good = collections.Counter(), [], []

    async def good_client(seed):
        # A new connection for each request: the harder case, since places are what drippers take.
        for body in client.completions(seed, **REQUEST):
            if time.perf_counter() >= until:
                return
            connection = client.Client(port)
            good.append(await connection.ask("/v1/completions", body))
            connection.close()

    kinds = itertools.cycle(["header", "body"])
    tasks = [asyncio.create_task(drip(port, next(kinds), until, counts)) for _ in range(drippers)]
    tasks += [asyncio.create_task(good_client(seed)) for seed in range(2)]
    tasks.append(asyncio.create_task(watch_health(port, until, health)))
    await asyncio.gather(*tasks)
    return {"good": dict(collections.Counter(o.status for o in good)),
            "good_p50_seconds": client.quantile([o.seconds for o in good], 0.5),
            "good_p99_seconds": client.quantile([o.seconds for o in good], 0.99),
            "health": len(health), "health_p50_ms": 1000 * client.quantile(health, 0.5),
            "health_p99_ms": 1000 * client.quantile(health, 0.99), "drippers": dict(counts)}


def slow(args, start):
    """Good clients while thousands of others take all the time they are given."""
    allow_descriptors(args.drippers + 1000)
    server = start("--budget", "0", "--max-connections", str(args.drippers + 200))
    idle = asyncio.run(slow_run(server.port, 0, 10))
    before = client.process_state(server.process.pid)
    result = asyncio.run(slow_run(server.port, args.drippers, args.seconds))
    after = client.process_state(server.process.pid)
    server.stop()
    return {"idle": idle, "among drippers": result, "memory_growth_mb": (after["memory"] - before["memory"]) / 2**20}


async def peak_rate(port, seconds):
    """Requests per second, answered, of clients that wait for their answers."""
    start = time.perf_counter()
    outcomes = await client.closed_loop(port, client.completions(1, **REQUEST), 24, until=start + seconds)
    return sum(o.status == 200 for o in outcomes) / (time.perf_counter() - start)


async def flood(server, rate, seconds, seed):
    """What became of an open loop of requests; answers that came within its time count for the goodput."""
    memory = []

    async def watch():
        while True:
            memory.append(client.process_state(server.process.pid)["memory"])
            await asyncio.sleep(1)

    watcher = asyncio.create_task(watch())
    answers, sent = await client.open_loop(server.port, client.completions(seed, **REQUEST), rate, seconds)
    watcher.cancel()
    outcomes = [outcome for _, outcome in answers]
    served = [o for o in outcomes if o.status == 200]
    refused = [o for o in outcomes if o.status in (429, 503)]
    budgets = [o.json()["usage"]["gateskip"]["decode"]["requested"] for o in served]
    quarter = len(memory) // 4
    return {"sent_per_second": len(outcomes) / sent, "statuses": dict(collections.Counter(o.status for o in outcomes)),
            "goodput": sum(at <= sent and o.status == 200 for at, o in answers) / sent,
            "served_p50_seconds": client.quantile([o.seconds for o in served], 0.5),
            "served_p99_seconds": client.quantile([o.seconds for o in served], 0.99),
            "refused_p50_ms": 1000 * client.quantile([o.seconds for o in refused], 0.5),
            "refused_p99_ms": 1000 * client.quantile([o.seconds for o in refused], 0.99),
            "without_retry_after": sum("retry-after" not in o.headers for o in refused),
            "mean_budget": sum(budgets) / max(1, len(budgets)),
            "memory_growth_mb": (max(memory[-quarter:]) - max(memory[quarter:2 * quarter])) / 2**20 if quarter else 0}


def overload(args, start):
    """An open loop far beyond the peak: who has a place is served as fast as ever, the others hear so at once."""
    server = start("--budget", "0", "--max-queue", "64")
    peak = asyncio.run(peak_rate(server.port, 15))
    result = asyncio.run(flood(server, args.factor * peak, args.seconds, seed=2))
    after = asyncio.run(peak_rate(server.port, 15))
    server.stop()
    return {"peak": peak, "peak_after": after, "flood": result,
            "goodput_of_peak": result["goodput"] / ((peak + after) / 2)}


def goodput(args, start):
    """Three times the peak, with the budget fixed and with one that follows the queue."""
    rows = {}
    probe = start("--budget", "0", "--max-queue", "64")
    peak = asyncio.run(peak_rate(probe.port, 15))
    probe.stop()
    for name, words in (("fixed, 0", ["--budget", "0"]), ("adaptive, 0 to 0.25", ["--adaptive-budget", "0:0.25"]),
                        ("adaptive, 0 to 0.5", ["--adaptive-budget", "0:0.5"])):
        server = start(*words, "--max-queue", "64")
        rows[name] = asyncio.run(flood(server, 3 * peak, args.seconds, seed=3))
        server.stop()
    return {"peak_at_budget_0": peak, "rows": rows}


async def soak_run(server, seconds):
    until = time.perf_counter() + seconds
    started = time.perf_counter()
    states, latencies, statuses = [], [], collections.Counter()

    async def mixed_client(seed):
        draw = random.Random(seed)
        connection = client.Client(server.port)
        while time.perf_counter() < until:
            kind = draw.random()
            body = {"prompt": client.token_prompt(draw, draw.choice([8, 64, 300])), "max_tokens": draw.choice([1, 16, 48]),
                    "budget": draw.choice([0, 0.15, 0.25]), "stream": draw.random() < 0.5, "seed": draw.randrange(100)}
            if kind < 0.05:  # hostile: broken, or gone before its answer
                data = draw.choice([b"nonsense\r\n\r\n", client.request_bytes("/v1/completions", b"{\"prompt\": [[["),
                                    client.request_bytes("/v1/completions", {**body, "max_tokens": -1})])
                if draw.random() < 0.5:
                    data = client.request_bytes("/v1/completions", {**body, "max_tokens": 400})
                    outcome = await connection.send(data, timeout=draw.random() * 0.2)
                else:
                    outcome = await connection.send(data)
                statuses[f"hostile {outcome.status}"] += 1
                continue
            began = time.perf_counter()
            if kind < 0.3:
                outcome = await connection.ask("/v1/chat/completions", {
                    "messages": [{"role": "user", "content": f"Count to {draw.randrange(100)}."}], "max_tokens": 32,
                    "stream": body["stream"], "logprobs": draw.random() < 0.3})
            else:
                outcome = await connection.ask("/v1/completions", body)
            statuses[outcome.status] += 1
            latencies.append((began - started, outcome.seconds))
        connection.close()

    async def watch():
        while time.perf_counter() < until:
            states.append({"at": time.perf_counter() - started, "requests": sum(statuses.values()),
                           **client.process_state(server.process.pid)})
            await asyncio.sleep(2)

    await asyncio.gather(*(mixed_client(seed) for seed in range(8)), watch())
    return states, latencies, statuses


def soak(args, start):
    """Everything at once for a long time; growth is the slope of the memory over the last quarter."""
    server = start("--parallel", "8", "--kv-tokens", "16384")
    states, latencies, statuses = asyncio.run(soak_run(server, args.seconds))
    server.stop()
    last = states[3 * len(states) // 4:]
    middle = states[len(states) // 4:]
    by_half = [[s for at, s in latencies if low <= at < low + args.seconds / 2] for low in (0, args.seconds / 2)]
    return {"seconds": args.seconds, "statuses": dict(statuses),
            "memory_slope_kb_per_minute": client.slope([(s["at"] / 60, s["memory"] / 1024) for s in last]),
            "memory_slope_bytes_per_request": client.slope([(s["requests"], s["memory"]) for s in last]),
            "memory_mb": client.spread([s["memory"] / 2**20 for s in middle]),
            "descriptors": client.spread([s["descriptors"] for s in middle]),
            "threads": client.spread([s["threads"] for s in middle]),
            "p99_seconds_of_halves": [client.quantile(times, 0.99) for times in by_half]}
