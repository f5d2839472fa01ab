#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The curl and openai examples of docs/server.md, run as they stand but for the port; and what else the real client does:
streams, retries, errors, disconnects.

usage: VENV/bin/python readme_examples.py -m MODEL --adapter DIR        needs curl, pip install openai
"""
import json
import re
import subprocess
import sys
import threading

import openai
from outside_case import ROOT, parse

CHAT = [{"role": "user", "content": "Why is the sky blue?"}]


def blocks(language):
    text = (ROOT / "docs" / "server.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_example(words, text, port):
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    return subprocess.run([*words, text], check=True, capture_output=True, text=True, timeout=300).stdout


def check_examples(port):
    curl = next(block for block in blocks("sh") if block.startswith("curl"))
    answer = json.loads(run_example(["bash", "-c"], curl, port))
    assert answer["choices"][0]["message"]["content"], answer
    assert answer["usage"]["gateskip"]["decode"]["requested"] == 0.25, answer["usage"]
    output = run_example([sys.executable, "-c"], blocks("python")[0], port)
    assert len(output) > 80 and "CompletionUsage" in output, output
    print("the examples of docs/server.md: as they stand")


def check_client(server):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0, timeout=60)
    whole = client.chat.completions.create(model="any", messages=CHAT, max_tokens=30, temperature=0)
    stream = list(client.chat.completions.create(model="any", messages=CHAT, max_tokens=30, temperature=0, stream=True,
                                                 stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == whole.choices[0].message.content, (text, whole)
    assert stream[-1].usage.completion_tokens == whole.usage.completion_tokens
    scored = client.chat.completions.create(model="any", messages=CHAT, max_tokens=3, logprobs=True, top_logprobs=2)
    assert len(scored.choices[0].logprobs.content[0].top_logprobs) == 2
    several = client.completions.create(model="any", prompt=["a", "b"], n=2, max_tokens=3, seed=1)
    assert [c.index for c in several.choices] == [0, 1, 2, 3]
    assert client.models.list().data[0].id == server.request("GET", "/props").json()["model"]
    for bad, error in (({"temperature": -1}, openai.BadRequestError), ({"tools": [{"type": "function", "function": {
            "name": "f"}}]}, openai.BadRequestError)):
        try:
            client.chat.completions.create(model="any", messages=CHAT, **bad)
            raise AssertionError(f"{bad}: expected an error")
        except error as found:
            assert found.param == next(iter(bad)), found
    # Closing a stream ends its request.
    with client.chat.completions.create(model="any", messages=CHAT, max_tokens=2000, stream=True,
                                        extra_body={"ignore_eos": True}) as open_stream:
        next(iter(open_stream))
    from server_case import wait_until
    wait_until(server.idle, 20, "nothing left of a closed stream")
    print("openai", openai.__version__, "against the server: as expected")


def main():
    args, server_case = parse(__doc__)
    server = server_case.Server(args.model, "--adapter", args.adapter)
    try:
        check_examples(server.port)
        check_client(server)
    finally:
        server.stop()
    # A full queue is retried by the client as Retry-After says, and answered.
    server = server_case.Server(args.model, "--adapter", args.adapter, "--parallel", "1", "--max-queue", "0")
    try:
        busy = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=5, timeout=60)
        held = threading.Thread(target=lambda: busy.completions.create(model="any", prompt="a", max_tokens=300,
                                                                       extra_body={"ignore_eos": True}))
        held.start()
        server_case.wait_until(lambda: server.running() == 1, 20)
        assert busy.completions.create(model="any", prompt="b", max_tokens=2).choices
        held.join()
        assert server.metric("gateskip_refused_total", reason="queue_sequences") >= 1
        print("a refused request: retried by the client, answered")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
