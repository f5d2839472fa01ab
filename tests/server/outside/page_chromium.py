#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page at / in headless Chromium: a conversation of two turns with the slider moved, tokens coloured by what was
skipped, no message in the console, nothing fetched from elsewhere, and text that looks like HTML shown as text.

usage: page_chromium.py -m MODEL --adapter DIR [--screenshot FILE.png]        needs chromium
"""
import base64
import json
import os
import pathlib
import subprocess
import tempfile
import time

from outside_case import parse

# The page's own elements do the work: what a person would do, through the same handlers.
SEND = """(text => { document.getElementById("text").value = text; document.getElementById("form").requestSubmit(); })"""
STATE = """(() => ({
  model: document.getElementById("model").textContent, max: +document.getElementById("budget").max,
  busy: document.getElementById("send").textContent === "Stop",
  turns: [...document.querySelectorAll(".turn")].map(t => ({name: t.className, text: t.textContent, tokens: t.children.length,
    images: t.querySelectorAll("img").length,
    shades: [...t.children].map(s => s.style.background)})),
  facts: document.getElementById("facts").textContent}))()"""


class Browser:
    """Chromium over its debugging pipe: JSON messages that end in a zero byte, on descriptors 3 and 4."""

    def __init__(self, folder):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def child():
            os.dup2(to_browser, 13)
            os.dup2(from_browser, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             f"--user-data-dir={folder}", "--window-size=900,760", "about:blank"],
            preexec_fn=child, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer, self._session = 0, b"", None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        while b"\0" not in self._buffer:
            block = os.read(self._in, 1 << 16)
            if not block:
                raise AssertionError("the browser ended")
            self._buffer += block
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wait(browser, condition, what, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = browser.evaluate(STATE)
        if condition(state):
            return state
        time.sleep(0.1)
    raise AssertionError(f"{what}: not so after {seconds} s: {state}")


def talk(browser, port, screenshot):
    browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
    state = wait(browser, lambda s: s["max"] > 0, "the page knows the model")
    assert state["model"] != "gateskip", state
    browser.evaluate("(() => { const b = document.getElementById('budget'); b.value = 0.5;"
                     "b.dispatchEvent(new Event('input')); })()")
    browser.evaluate(SEND + '("Why is the sky blue? <img src=x onerror=alert(1)>")')
    state = wait(browser, lambda s: not s["busy"] and len(s["turns"]) == 2, "the first answer")
    answer = state["turns"][1]
    assert answer["tokens"] > 10, answer
    assert len(set(answer["shades"])) > 3, f"expected tokens in several shades, found {set(answer['shades'])}"
    assert state["turns"][0]["text"].endswith("onerror=alert(1)>") and state["turns"][0]["images"] == 0, state["turns"][0]
    assert "net saving" in state["facts"] and "tokens/s" in state["facts"], state["facts"]
    browser.evaluate(SEND + '("Say it in one sentence.")')
    state = wait(browser, lambda s: not s["busy"] and len(s["turns"]) == 4, "the second answer")
    if screenshot:
        image = browser.call("Page.captureScreenshot")["data"]
        pathlib.Path(screenshot).write_bytes(base64.b64decode(image))
    # Stop in the middle: what is there stays, no error is shown.
    browser.evaluate(SEND + '("Tell a very long story.")')
    wait(browser, lambda s: len(s["turns"]) == 6 and s["turns"][5]["tokens"] > 5, "a third answer has begun")
    browser.evaluate("document.getElementById('form').requestSubmit()")
    state = wait(browser, lambda s: not s["busy"], "it has stopped", 20)
    assert not [t for t in state["turns"] if "error" in t["name"]], state["turns"]
    return state


def main():
    args, server_case = parse(__doc__, screenshot="")
    server = server_case.Server(args.model, "--adapter", args.adapter, "--default-max-tokens", "120")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(folder)
        try:
            state = talk(browser, server.port, args.screenshot)
        finally:
            browser.stop()
            server.stop()
    urls = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    own = f"http://127.0.0.1:{server.port}/"
    assert urls and all(url.startswith(own) for url in urls), f"expected requests to the server only, found {urls}"
    messages = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")]
    assert not messages, messages
    # A favicon nobody serves is the one thing a browser asks for by itself.
    logged = [e["params"]["entry"] for e in browser.events if e.get("method") == "Log.entryAdded"]
    assert not [entry for entry in logged if "favicon" not in entry.get("url", "")], logged
    print(f"page: {len(state['turns'])} turns, {sum(t['tokens'] for t in state['turns'])} tokens; {state['facts']}")


if __name__ == "__main__":
    main()
