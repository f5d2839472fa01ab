# SPDX-License-Identifier: Apache-2.0
"""How fast the server is: beside llama.cpp's, with gates, beside the bare engine, and with a long prompt among others."""
import asyncio
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import time

import client

CONCURRENCY = 16


async def aggregate_rate(port, requests, max_tokens, seed):
    """Generated tokens per second of all requests, CONCURRENCY at a time, after one to warm up."""
    bodies = client.completions(seed, 16, max_tokens, model="any")
    await client.closed_loop(port, itertools.islice(bodies, 1), 1)
    start = time.perf_counter()
    outcomes = await client.closed_loop(port, itertools.islice(bodies, requests), CONCURRENCY)
    seconds = time.perf_counter() - start
    failed = [o.status for o in outcomes if o.status != 200]
    if failed:
        raise SystemExit(f"throughput: expected answers, found statuses {failed}")
    return sum(o.tokens for o in outcomes) / seconds


class PeerServer:
    """`python -m llama_cpp.server` on a free port."""

    def __init__(self, python, model, threads):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [python, "-m", "llama_cpp.server", "--model", model, "--host", "127.0.0.1", "--port", str(self.port),
             "--n_threads", str(threads), "--n_threads_batch", str(threads), "--n_ctx", "2048", "--verbose", "false"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("llama_cpp.server: expected it to listen, found that it does not") from None
                time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def peer_parallel_rate(args):
    """llama.cpp's engine with as many sequences in each batch, no server around it: the bound of parallel slots."""
    script = pathlib.Path(__file__).parent.parent / "peers" / "llama_parallel.py"
    command = [args.peer_python, "-B", str(script), "-m", args.model, "-t", str(args.threads), "-n", str(args.max_tokens),
               "--sequences", str(CONCURRENCY)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["tokens_per_second"]


def throughput(args, start):
    """Generated tokens per second of 16 concurrent requests: ungated, at budget 0 and 25 %, and llama.cpp's."""
    def ours(*words):
        server = start(*words, "--parallel", CONCURRENCY)
        try:
            return asyncio.run(aggregate_rate(server.port, args.requests, args.max_tokens, seed=1))
        finally:
            server.stop()

    def peer():
        server = PeerServer(args.peer_python, args.model, args.threads)
        try:
            return asyncio.run(aggregate_rate(server.port, CONCURRENCY, args.max_tokens, seed=1))
        finally:
            server.stop()

    runs = {"ungated": lambda: ours("--no-adapter"), "budget 0": lambda: ours("--budget", "0"),
            "budget 0.25": lambda: ours("--budget", "0.25")}
    if args.peer_python:
        runs["llama_cpp.server"] = peer
        runs["llama.cpp, 16 sequences in a batch, no server"] = lambda: peer_parallel_rate(args)
    rates = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            rates[name].append(run())
    result = {"tokens_per_second": {name: client.spread(values) for name, values in rates.items()}}

    def ratio(above, below):
        return client.spread([a / b for a, b in zip(rates[above], rates[below])])

    result["budget 0.25 / budget 0"] = ratio("budget 0.25", "budget 0")
    for name in list(rates)[3:]:
        result[f"ungated / {name}"] = ratio("ungated", name)
    return result


def first_token(args, start):
    """A prompt of 512 new tokens at an idle server, beside the engine's prefill of as many, in turn."""
    server = start("--no-adapter")
    draw = random.Random(2)
    ratios, server_times, engine_times = [], [], []

    async def ask():
        connection = client.Client(server.port)
        outcome = await connection.ask("/v1/completions", {"prompt": client.token_prompt(draw, 512), "max_tokens": 2,
                                                           "ignore_eos": True, "stream": True})
        connection.close()
        return outcome.event_times[0]

    for _ in range(args.rounds):
        command = [args.gateskip, "bench", "-m", args.model, "-t", str(args.threads), "-p", "512", "-n", "1", "-r", "5",
                   "--budgets", "0", "--json"]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"][0]
        engine_times.append(512 / row["prefill_tokens_per_second"]["median"])
        asyncio.run(ask())
        server_times.append(statistics.median(asyncio.run(ask()) for _ in range(5)))
        ratios.append(server_times[-1] / engine_times[-1])
    server.stop()
    return {"server_seconds": client.spread(server_times), "engine_seconds": client.spread(engine_times),
            "ratio": client.spread(ratios)}


async def decode_gaps(port, streams, prompt_tokens, seed):
    """Times between tokens of streams that decode, and of those while a long prompt is read beside them."""
    draw = random.Random(seed)
    clients = [client.Client(port) for _ in range(streams)]
    start = time.perf_counter()
    tasks = [asyncio.create_task(c.ask("/v1/completions", {"prompt": client.token_prompt(draw, 16), "max_tokens": 600,
                                                           "ignore_eos": True, "stream": True, "logprobs": 0}))
             for c in clients]
    await asyncio.sleep(1.0)
    began = time.perf_counter() - start
    long_client = client.Client(port)
    long = await long_client.ask("/v1/completions", {"prompt": client.token_prompt(draw, prompt_tokens), "max_tokens": 1})
    ended = time.perf_counter() - start
    outcomes = await asyncio.gather(*tasks)
    for c in [*clients, long_client]:
        c.close()
    alone, beside = [], []
    for outcome in outcomes:
        times = outcome.event_times[:-2]  # not the end and [DONE]
        for before, after in zip(times[1:], times[2:]):
            if began < before and after < ended:
                beside.append(after - before)
            elif (before > 0.2 and after < began) or before > ended:
                alone.append(after - before)
    return alone, beside, long.seconds


def long_prompt(args, start):
    """What a long prompt adds to the time between the tokens of others."""
    rows = []
    for streams in (1, 4, 15):
        server = start("--parallel", CONCURRENCY, "--budget", "0")
        ratios, seconds = [], []
        for round_number in range(args.rounds):
            alone, beside, took = asyncio.run(decode_gaps(server.port, streams, args.prompt_tokens, round_number))
            if not alone or not beside:
                raise SystemExit("long-prompt: expected tokens alone and beside, found none; take a shorter prompt")
            ratios.append(statistics.fmean(beside) / statistics.fmean(alone))
            seconds.append(took)
        server.stop()
        rows.append({"streams": streams, "ratio_of_mean_gaps": client.spread(ratios),
                     "long_prompt_seconds": client.spread(seconds),
                     "p99_gap_beside_ms": 1000 * client.quantile(beside, 0.99),
                     "median_gap_alone_ms": 1000 * statistics.median(alone)})
    return {"prompt_tokens": args.prompt_tokens, "rows": rows}
