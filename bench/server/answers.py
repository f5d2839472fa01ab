# SPDX-License-Identifier: Apache-2.0
"""What must hold whatever others do: texts, slots and pages after disconnects, statuses of mutated requests, and the
same bits alone and among others."""
import asyncio
import collections
import itertools
import json
import random
import time

import client

PHASES = ("queued", "prefill", "decode", "stream")


async def wait_for_phase(watcher, phase, writer_reader):
    """Until the request is where it is to be cut, by the server's own metrics or, for a stream, its first piece."""
    if phase == "stream":
        await writer_reader[0].readuntil(b"data: ")
        return
    while True:
        text = (await watcher.ask("/metrics", method="GET")).body.decode()
        values = {line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines() if not line.startswith("#")}
        in_flight = values["gateskip_sequences_in_flight"]
        running = values['gateskip_engine_requests{state="running"}']
        waiting = values['gateskip_engine_requests{state="waiting"}']
        queued_tokens = values["gateskip_queued_tokens"]
        if phase == "queued" and waiting > 0:
            return
        if phase == "prefill" and running > 0 and queued_tokens > 0:
            return
        if phase == "decode" and running > 0 and in_flight > 0 and queued_tokens == 0:
            return
        await asyncio.sleep(0.001)


async def cut_one(port, watcher, phase, draw, release_times):
    """One request, cut in a phase; for all but queued ones, how long until the engine has nothing left of it."""
    blockers = []
    if phase == "queued":
        blockers = [client.Client(port) for _ in range(2)]
        blocking = [asyncio.create_task(b.ask("/v1/completions", {"prompt": client.token_prompt(draw, 8), "max_tokens": 60,
                                                                  "ignore_eos": True})) for b in blockers]
    body = {"prompt": client.token_prompt(draw, 4000 if phase == "prefill" else 8), "max_tokens": 1000,
            "ignore_eos": True, "stream": phase == "stream"}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(client.request_bytes("/v1/completions", body))
    await writer.drain()
    await asyncio.wait_for(wait_for_phase(watcher, phase, (reader, writer)), 30)
    writer.transport.abort()
    began = time.perf_counter()
    if phase == "queued":
        while await queue_length(watcher) > 0:
            await asyncio.sleep(0.002)
        release_times[phase].append(time.perf_counter() - began)
        await asyncio.gather(*blocking)
        for blocker in blockers:
            blocker.close()
        return
    while await client.metric(watcher, "gateskip_sequences_in_flight") > 0 or await engine_busy(watcher):
        await asyncio.sleep(0.002)
    release_times[phase].append(time.perf_counter() - began)


async def labelled(watcher, name):
    text = (await watcher.ask("/metrics", method="GET")).body.decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


async def queue_length(watcher):
    return await labelled(watcher, 'gateskip_engine_requests{state="waiting"}')


async def engine_busy(watcher):
    return await labelled(watcher, 'gateskip_engine_requests{state="running"}') > 0


async def pages_held(watcher):
    return (await labelled(watcher, 'gateskip_kv_pages{state="in_use"}') -
            await labelled(watcher, 'gateskip_kv_pages{state="prefix_cache_idle"}'))


async def crowd_of_cuts(port, count, draw, texts):
    """Many at once, cut at random times, while others check that their text stays what it is."""
    fixed = {"prompt": client.token_prompt(random.Random(9), 40), "max_tokens": 40, "ignore_eos": True, "temperature": 1,
             "seed": 5, "logprobs": 1}
    alone = (await one_answer(port, fixed))["choices"]
    stop = asyncio.Event()

    async def faithful():
        connection = client.Client(port)
        while not stop.is_set():
            outcome = await connection.ask("/v1/completions", fixed)
            texts["same" if outcome.status == 200 and outcome.json()["choices"] == alone else "other"] += 1
        connection.close()

    async def cut():
        body = {"prompt": client.token_prompt(draw, draw.choice([8, 200, 1500])), "max_tokens": 300, "ignore_eos": True,
                "stream": draw.random() < 0.5, "n": draw.choice([1, 1, 2])}
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(client.request_bytes("/v1/completions", body))
        await asyncio.sleep(draw.random() * 2)
        if draw.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()

    faithful_ones = [asyncio.create_task(faithful()) for _ in range(3)]
    pending = set()
    for _ in range(count):
        pending.add(asyncio.create_task(cut()))
        if len(pending) >= 24:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*pending)
    stop.set()
    await asyncio.gather(*faithful_ones)


async def one_answer(port, body, path="/v1/completions"):
    connection = client.Client(port)
    outcome = await connection.ask(path, body)
    connection.close()
    if outcome.status != 200:
        raise SystemExit(f"reliability.py: [{path}] answer: expected 200, found {outcome.status} {outcome.body[:300]}")
    return outcome.json()


async def disconnect_run(port, args):
    draw = random.Random(3)
    watcher = client.Client(port)
    release_times = {phase: [] for phase in PHASES}
    for phase in PHASES:
        for _ in range(args.cuts // 10):
            await cut_one(port, watcher, phase, draw, release_times)
    texts = collections.Counter()
    await crowd_of_cuts(port, args.cuts - len(PHASES) * (args.cuts // 10), draw, texts)
    watcher.close()  # idle for so long, the server has closed it
    watcher = client.Client(port)
    end = time.perf_counter() + 30
    while (await engine_busy(watcher) or await pages_held(watcher)) and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    left = {"sequences": await client.metric(watcher, "gateskip_sequences_in_flight"), "pages": await pages_held(watcher),
            "requests": await client.metric(watcher, "gateskip_requests_processing"),
            "queued_tokens": await client.metric(watcher, "gateskip_queued_tokens")}
    watcher.close()
    return release_times, texts, left


def disconnects(args, start):
    """Clients that go away in every phase: what they held is free again, and nobody else notices."""
    server = start("--parallel", "2", "--budget", "0.15")
    release_times, texts, left = asyncio.run(disconnect_run(server.port, args))
    server.stop()
    return {"cuts": args.cuts, "release_ms": {
        phase: {"p50": 1000 * client.quantile(times, 0.5), "p99": 1000 * client.quantile(times, 0.99),
                "max": 1000 * max(times)} for phase, times in release_times.items()},
            "texts_of_others": dict(texts), "left": left}


HOSTILE = [None, True, False, 0, -1, 1, 2, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -2**63, 2**64, 1e308, -1e308, 1e-320, 0.1,
           -0.0, "", "x", "0", "null", "a" * 300, "\u0000", "\ud7ff", "😀" * 50, "<|im_start|>system", "../../etc", [], [[]],
           [None], [0], [-1], [2**31], ["a"] * 20, ["a"] * 200, [[1000]] * 65, {}, {"a": 1}, {"1": 100}, {"-1": 1},
           {"type": "json_object"}, {"include_usage": True}, [{"role": "user", "content": "a"}], [{"type": "text"}]]
FIELDS = {
    "/v1/completions": ["model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "stream", "stop",
                        "seed", "logprobs", "echo", "logit_bias", "presence_penalty", "frequency_penalty",
                        "repeat_penalty", "repetition_penalty", "budget", "budget_prefill", "budget_decode", "user",
                        "best_of", "ignore_eos", "stream_options", "skip_details", "response_format", "suffix", "tools"],
    "/v1/chat/completions": ["model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n",
                             "stream", "stop", "seed", "logprobs", "top_logprobs", "logit_bias", "response_format",
                             "tools", "modalities", "budget", "skip_details", "stream_options"],
    "/tokenize": ["content", "prompt", "add_special", "parse_special", "with_pieces"],
    "/detokenize": ["tokens"],
    "/apply-template": ["messages"],
}
GOOD = {"/v1/completions": {"prompt": [1000, 1001], "max_tokens": 1},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
        "/tokenize": {"content": "a"}, "/detokenize": {"tokens": [1000]},
        "/apply-template": {"messages": [{"role": "user", "content": "a"}]}}


def mutated_bytes(draw, data):
    """A few bytes changed, dropped, doubled, or the rest cut off."""
    data = bytearray(data)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(data))
        kind = draw.randrange(4)
        if kind == 0:
            data[at] = draw.randrange(256)
        elif kind == 1:
            del data[at:at + draw.randrange(1, 8)]
        elif kind == 2:
            data[at:at] = data[at:at + draw.randrange(1, 8)]
        else:
            data[at:at] = draw.choice([b"\r\n", b"\0", b"-", b"[", b'"', b"{", b"1e999"])
        if not data:
            return b"\r\n\r\n"
    return bytes(data)


def mutated_requests(seed, count):
    """Every field with every hostile value once, then pairs and broken bytes at random."""
    for path, fields in FIELDS.items():
        for field, value in itertools.product(fields, HOSTILE):
            yield client.request_bytes(path, {**GOOD[path], field: value})
            count -= 1
    draw = random.Random(seed)
    paths = list(FIELDS)
    for _ in range(count):
        path = draw.choice(paths)
        body = dict(GOOD[path])
        for field in draw.sample(FIELDS[path], min(2, len(FIELDS[path]))):
            body[field] = draw.choice(HOSTILE)
        if body.get("max_tokens") in (2**31 - 1,) or body.get("max_tokens") is None and "max_tokens" in body:
            body["max_tokens"] = 1
        data = client.request_bytes(path, body)
        if draw.random() < 0.2:
            data = client.request_bytes(path, mutated_bytes(draw, json.dumps(body).encode()))
        elif draw.random() < 0.1:
            data = mutated_bytes(draw, data)
        yield data


async def mutate_run(port, count):
    statuses, bad = collections.Counter(), []
    requests = mutated_requests(4, count)

    async def one_client():
        connection = client.Client(port)
        for data in requests:
            outcome = await connection.send(data, timeout=60)
            statuses[outcome.status] += 1
            if outcome.status >= 500 and outcome.status != 503:
                bad.append((outcome.status, data[:500].decode("latin-1")))
            if outcome.seconds >= 59:
                bad.append(("no answer in a minute", data[:500].decode("latin-1")))
        connection.close()

    await asyncio.gather(*(one_client() for _ in range(8)))
    return statuses, bad


def mutate(args, start):
    """Hostile values in every field, pairs of them, and broken bytes; the server answers a known prompt afterwards."""
    server = start("--parallel", "8", "--budget", "0.15", "--header-timeout", "2", "--body-timeout", "2",
                   "--default-max-tokens", "2", "--context", "256")
    known = {"prompt": client.token_prompt(random.Random(8), 20), "max_tokens": 20, "logprobs": 2, "temperature": 0}
    before = asyncio.run(one_answer(server.port, known))["choices"]
    began = time.perf_counter()
    statuses, bad = asyncio.run(mutate_run(server.port, args.requests))
    seconds = time.perf_counter() - began
    same = asyncio.run(one_answer(server.port, known))["choices"] == before
    alive = server.process.poll() is None
    server.stop()
    return {"requests": sum(statuses.values()), "seconds": seconds, "statuses": dict(statuses), "bad": bad[:10],
            "answers_as_before": same, "alive": alive}


def invariance_requests(count):
    """Prompts of many lengths; greedy or drawn, each with a budget of its own; scores of prompt and answer asked for."""
    draw = random.Random(5)
    for number in range(count):
        yield {"prompt": client.token_prompt(draw, draw.choice([1, 3, 17, 64, 65, 150, 400])),
               "max_tokens": draw.choice([1, 8, 24]), "temperature": draw.choice([0, 0.8]), "seed": number,
               "budget": draw.choice([0, 0.15, 0.25, 0.5]), "logprobs": 3, "echo": number % 2 == 0, "ignore_eos": True}


def essence(outcome):
    """What must not depend on others: texts, numbers to the last bit (JSON holds all of a float's digits), and what was
    run and skipped, unless the prefix cache took a part of it."""
    body = outcome.json()
    gateskip = body["usage"]["gateskip"]
    masks = {phase: {k: v for k, v in gateskip[phase].items() if k.startswith("branches")} for phase in ("prefill", "decode")}
    return json.dumps([body["choices"], masks["decode"], masks["prefill"]])


async def invariance_run(port, args):
    bodies = list(invariance_requests(args.prompts))
    alone = [essence(o) for o in await client.closed_loop(port, bodies, 1)]
    draw = random.Random(6)
    differing = compared = 0
    for _ in range(args.rounds):
        order = list(range(len(bodies)))
        draw.shuffle(order)
        outcomes = await client.closed_loop(port, [bodies[i] for i in order], draw.randrange(2, 33))
        for index, outcome in zip(order, outcomes):
            compared += 1
            differing += essence(outcome) != alone[index]
    return {"prompts": args.prompts, "rounds": args.rounds, "compared": compared, "differing": differing}


def invariance(args, start):
    """Texts, log-probabilities and counts of executed branches, alone and in random company."""
    server = start("--parallel", "32", "--no-prefix-cache")
    without = asyncio.run(invariance_run(server.port, args))
    server.stop()
    return without
