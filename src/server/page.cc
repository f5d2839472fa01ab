// SPDX-License-Identifier: Apache-2.0
#include "server/page.h"

namespace gateskip::server {

// Text of the model and of the user goes in as text, never as HTML.
std::string_view ChatPage() {
  return R"page(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>gateskip</title>
<style>
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1a1d21; --muted: #5c656e; --hair: #e4e6e8; --ground: #f1f2f3;
  --blue: #1f66ad; --alarm: #b3261e; --shade: 31 102 173; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e8eaec; --muted: #9aa3ac; --hair: #2c3136;
  --ground: #1c2024; --blue: #6cb0f0; --alarm: #ff8a80; --shade: 77 136 191; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 820px; height: 100dvh; display: flex; flex-direction: column; padding: 16px;
  background: var(--paper); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", Roboto, Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
header, footer { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: baseline; }
h1 { font-size: 18px; margin: 0; overflow-wrap: anywhere; }
#turns { flex: 1; overflow-y: auto; margin: 12px 0; padding: 4px 0; border: solid var(--hair); border-width: 1px 0; }
.turn { margin: 12px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.user { margin-left: 12%; padding: 8px 12px; border-radius: 10px; background: var(--ground); }
.turn span { border-radius: 3px; }
.facts, label, .key { color: var(--muted); font-size: 13px; }
.error { color: var(--alarm); }
.ramp { display: inline-block; width: 72px; height: 9px; vertical-align: middle;
  background: linear-gradient(to right, transparent, rgb(var(--shade) / .6)); border: 1px solid var(--hair); }
form { display: flex; gap: 8px; margin-top: 8px; }
textarea { flex: 1; min-height: 58px; resize: vertical; }
textarea, input, button { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--hair);
  border-radius: 8px; padding: 8px 10px; }
button { cursor: pointer; } button.go { background: var(--blue); color: var(--paper); border-color: transparent; }
input[type=range] { width: 180px; padding: 0; vertical-align: middle; accent-color: var(--blue); }
</style></head><body>
<header><h1 id="model">gateskip</h1>
<span class="key">fewer <span class="ramp"></span> more branches skipped</span></header>
<main id="turns" aria-live="polite"></main>
<footer>
<label>budget <input id="budget" type="range" min="0" max="0" step="0.01" value="0"> <output id="shown">0 %</output></label>
<label id="keybox" hidden>API key <input id="key" type="password" autocomplete="off"></label>
<span class="facts" id="facts"></span></footer>
<form id="form"><textarea id="text" placeholder="Ask something" autofocus></textarea>
<button class="go" id="send">Send</button><button type="button" id="reset">New</button></form>
<script>
(() => {
  const $ = id => document.getElementById(id);
  const turns = [];
  let running = null;
  const percent = x => (100 * x).toFixed(1) + " %";
  const headers = () => $("key").value ? {Authorization: "Bearer " + $("key").value} : {};
  const add = (tag, name, text) => {
    const element = Object.assign(document.createElement(tag), {className: name, textContent: text});
    $("turns").append(element);
    element.scrollIntoView({block: "end"});
    return element;
  };
  const shown = () => $("shown").textContent = Math.round(100 * $("budget").value) + " %";
  $("budget").oninput = shown;
  const load = async () => {
    const answer = await fetch("props", {headers: headers()});
    if (answer.status === 401) { $("keybox").hidden = false; return; }
    if (!answer.ok) { setTimeout(load, 1000); return; }
    const props = await answer.json();
    $("model").textContent = props.model;
    $("budget").max = props.max_budget;
    $("budget").value = props.default_budget.decode;
    shown();
  };
  $("key").onchange = load;
  load();
  const stream = async (body, onChunk) => {
    running = new AbortController();
    const answer = await fetch("v1/chat/completions", {method: "POST", body: JSON.stringify(body), headers: headers(),
      signal: running.signal});
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        if (!part.startsWith("data: ")) continue;  // a comment that keeps the stream alive
        const data = part.slice(6);
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        onChunk(chunk);
      }
    }
  };
  const ask = async content => {
    turns.push({role: "user", content});
    add("div", "turn user", content);
    const line = add("div", "turn", "");
    let whole = "", tokens = 0, first = 0;
    $("send").textContent = "Stop";
    const body = {messages: turns, stream: true, stream_options: {include_usage: true}, skip_details: true,
      budget: +$("budget").value, temperature: 0.5, repeat_penalty: 1.1};
    try {
      await stream(body, chunk => {
        if (chunk.usage) {
          const saved = chunk.usage.gateskip;
          $("facts").textContent = `${tokens} tokens, net saving: prompt ${percent(saved.prefill.net)}, ` +
            `answer ${percent(saved.decode.net)}, ${(tokens / saved.decode_seconds).toFixed(1)} tokens/s`;
          return;
        }
        const choice = chunk.choices[0];
        if (!choice.delta.content) return;
        const now = performance.now();
        first = first || now;
        ++tokens;
        whole += choice.delta.content;
        const token = Object.assign(document.createElement("span"), {textContent: choice.delta.content});
        const share = choice.gateskip ? choice.gateskip.skipped_share : 0;
        token.style.background = `rgb(var(--shade) / ${(0.6 * share).toFixed(3)})`;
        token.title = percent(share) + " of the branches skipped";
        line.append(token);
        line.scrollIntoView({block: "end"});
        if (tokens > 1) $("facts").textContent = `${((tokens - 1) * 1000 / (now - first)).toFixed(1)} tokens/s`;
      });
    } catch (error) {
      if (error.name !== "AbortError") add("div", "turn error", error.message);
    }
    if (whole) turns.push({role: "assistant", content: whole}); else turns.pop();
    running = null;
    $("send").textContent = "Send";
  };
  $("form").onsubmit = event => {
    event.preventDefault();
    if (running) return running.abort();
    const content = $("text").value.trim();
    if (!content) return;
    $("text").value = "";
    ask(content);
  };
  $("text").onkeydown = event => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("form").requestSubmit(); }
  };
  $("reset").onclick = () => { if (running) running.abort(); turns.length = 0; $("turns").textContent = ""; };
})();
</script></body></html>
)page";
}

}  // namespace gateskip::server
