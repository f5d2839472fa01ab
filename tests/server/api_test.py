# SPDX-License-Identifier: Apache-2.0
"""The server's contract with clients: routes, fields, answers, streams, errors."""
import json
import math
import unittest

from server_case import ServerCase, events

try:
    import openai
except ImportError:
    openai = None

IDS = [10, 11, 12, 13, 14]
CHAT = [{"role": "user", "content": "hello"}]


class Completions(ServerCase):
    def test_shape(self):
        body = self.server.complete(prompt="hello", max_tokens=4, ignore_eos=True).json()
        self.assertEqual(body["object"], "text_completion")
        self.assertEqual([c["index"] for c in body["choices"]], [0])
        self.assertEqual(body["choices"][0]["finish_reason"], "length")
        usage = body["usage"]
        self.assertEqual(usage["completion_tokens"], 4)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 4)
        self.assertEqual(usage["gateskip"]["decode"]["requested"], 0)

    def test_every_kind_of_prompt(self):
        for prompt, count in [("ab", 1), (IDS, 1), (["ab", "cd"], 2), ([IDS, IDS[:2]], 2)]:
            answer = self.server.complete(prompt=prompt, max_tokens=2)
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual([c["index"] for c in answer.json()["choices"]], list(range(count)))

    def test_a_list_of_prompts_is_each_prompt_alone(self):
        together = self.server.complete(prompt=[IDS, IDS[::-1]], max_tokens=8, logprobs=2, ignore_eos=True).json()
        for i, ids in enumerate([IDS, IDS[::-1]]):
            alone = self.server.complete(prompt=ids, max_tokens=8, logprobs=2, ignore_eos=True).json()["choices"][0]
            self.assertEqual(dict(together["choices"][i], index=0), alone)

    def test_echo_with_logprobs_as_lm_eval_reads_it(self):
        body = self.server.complete(prompt=[IDS, IDS[:3]], max_tokens=1, logprobs=1, echo=True, seed=1234,
                                    ignore_eos=True).json()
        for choice, ids in zip(body["choices"], [IDS, IDS[:3]]):
            log_probs = choice["logprobs"]
            self.assertEqual({len(log_probs[k]) for k in log_probs}, {len(ids) + 1})
            self.assertIsNone(log_probs["token_logprobs"][0])
            self.assertIsNone(log_probs["top_logprobs"][0])
            self.assertTrue(all(v <= 0 for v in log_probs["token_logprobs"][1:]))
            # The generated token is greedy: it is the likeliest, to the bit.
            self.assertEqual(max(log_probs["top_logprobs"][-1].values()), log_probs["token_logprobs"][-1])
            for value, top in zip(log_probs["token_logprobs"][1:], log_probs["top_logprobs"][1:]):
                self.assertLessEqual(value, max(top.values()))
            self.assertEqual(log_probs["text_offset"][0], 0)
            self.assertEqual(sorted(log_probs["text_offset"]), log_probs["text_offset"])

    def test_scores_do_not_depend_on_where_the_prompt_ends(self):
        ids = list(range(10, 40))
        whole = self.server.complete(prompt=ids, max_tokens=0, logprobs=0, echo=True).json()["choices"][0]["logprobs"]
        begin = self.server.complete(prompt=ids[:20], max_tokens=0, logprobs=0, echo=True).json()["choices"][0]
        self.assertEqual(whole["token_logprobs"][:20], begin["logprobs"]["token_logprobs"])

    def test_top_logprobs_are_a_distribution(self):
        body = self.server.complete(prompt=IDS, max_tokens=3, logprobs=20, ignore_eos=True).json()
        for top in body["choices"][0]["logprobs"]["top_logprobs"]:
            self.assertLessEqual(sum(math.exp(v) for v in top.values()), 1 + 1e-5)
            self.assertGreaterEqual(len(top), 10)  # tokens with the same text share an entry

    def test_seeds_choices_and_temperature(self):
        ask = dict(prompt=IDS, max_tokens=16, temperature=30, ignore_eos=True)
        three = self.server.complete(**ask, seed=5, n=3).json()["choices"]
        self.assertEqual([c["index"] for c in three], [0, 1, 2])
        self.assertEqual(three[0]["text"], self.server.complete(**ask, seed=5).json()["choices"][0]["text"])
        self.assertEqual(three[2]["text"], self.server.complete(**ask, seed=7).json()["choices"][0]["text"])
        self.assertNotEqual(three[0]["text"], three[1]["text"])

    def test_stop_and_logit_bias(self):
        plain = self.server.complete(prompt=IDS, max_tokens=12, ignore_eos=True).json()["choices"][0]["text"]
        stopped = self.server.complete(prompt=IDS, max_tokens=12, ignore_eos=True, stop=[plain[3:5]]).json()
        self.assertEqual(stopped["choices"][0]["text"], plain[:plain.index(plain[3:5])])
        self.assertEqual(stopped["choices"][0]["finish_reason"], "stop")
        token = self.server.post("/tokenize", {"content": "z"}).json()["tokens"][0]
        biased = self.server.complete(prompt=IDS, max_tokens=5, ignore_eos=True, logit_bias={str(token): 100}).json()
        self.assertEqual(biased["choices"][0]["text"], "zzzzz")

    def test_context(self):
        longest = self.server.request("GET", "/props").json()["context_length"]
        too_long = self.server.complete(prompt=[10] * (longest + 1))
        self.assert_error(too_long, 400, "shorten", "prompt")
        self.assertEqual(too_long.json()["error"]["code"], "context_length_exceeded")
        self.assert_error(self.server.complete(prompt=[10] * longest, max_tokens=1), 400, "shorten")
        body = self.server.complete(prompt=[10] * (longest - 2), max_tokens=50, ignore_eos=True).json()
        self.assertEqual(body["usage"]["completion_tokens"], 2)

    def test_prefix_cache_is_told_and_changes_nothing(self):
        ids = [(7 * i) % 50 + 10 for i in range(200)]
        first = self.server.complete(prompt=ids, max_tokens=8, logprobs=3, ignore_eos=True).json()
        second = self.server.complete(prompt=ids, max_tokens=8, logprobs=3, ignore_eos=True).json()
        self.assertGreaterEqual(second["usage"]["prompt_tokens_details"]["cached_tokens"], 64)
        self.assertEqual(first["choices"], second["choices"])


class Budgets(ServerCase):
    words = ("--budget", "0.1", "--max-budget", "0.3")

    def usage(self, **fields):
        return self.server.complete(prompt=IDS * 20, max_tokens=20, ignore_eos=True, **fields).json()["usage"]["gateskip"]

    def test_default_own_and_by_phase(self):
        self.assertEqual(self.usage()["prefill"]["requested"], 0.1)
        both = self.usage(budget=0.3)
        self.assertEqual((both["prefill"]["requested"], both["decode"]["requested"]), (0.3, 0.3))
        one = self.usage(budget_decode=0.2)
        self.assertEqual((one["prefill"]["requested"], one["decode"]["requested"]), (0.1, 0.2))
        self.assertFalse(one["adapted"])

    def test_what_is_saved_is_counted(self):
        none, much = self.usage(budget=0), self.usage(budget=0.3)
        self.assertEqual(none["decode"]["branches_skipped"], 0)
        self.assertGreater(much["decode"]["branches_skipped"], 0)
        run, skipped = much["prefill"]["branches_run"], much["prefill"]["branches_skipped"]
        self.assertAlmostEqual(much["prefill"]["nominal"], skipped / (run + skipped))
        self.assertEqual(much["decode"]["rows"], 19)  # the first token comes with the prompt

    def test_out_of_range(self):
        for field in ("budget", "budget_prefill", "budget_decode"):
            for value in (-0.1, 0.31, 1e999, "0.1", True, [0.1]):
                answer = self.server.post("/v1/completions", json.dumps({"prompt": "a", field: value})
                                          .replace("Infinity", "1e999").encode())
                self.assert_error(answer, 400)


class Chats(ServerCase):
    def test_shape(self):
        body = self.server.post("/v1/chat/completions", {"messages": CHAT, "max_completion_tokens": 3, "temperature": 0,
                                                         "logprobs": True, "top_logprobs": 2, "ignore_eos": True}).json()
        self.assertEqual(body["object"], "chat.completion")
        choice = body["choices"][0]
        self.assertEqual(choice["message"]["role"], "assistant")
        self.assertEqual(len(choice["logprobs"]["content"]), 3)
        for item in choice["logprobs"]["content"]:
            self.assertEqual(len(item["top_logprobs"]), 2)
            self.assertEqual(item["logprob"], item["top_logprobs"][0]["logprob"])

    def test_a_stream_is_the_whole_answer_in_pieces(self):
        ask = {"messages": CHAT, "max_tokens": 20, "seed": 3, "n": 2, "ignore_eos": True}
        whole = self.server.post("/v1/chat/completions", ask).json()
        answer = self.server.post("/v1/chat/completions", {**ask, "stream": True,
                                                           "stream_options": {"include_usage": True}})
        self.assertEqual(answer.headers["content-type"], "text/event-stream")
        chunks = events(answer.body)
        self.assertEqual(chunks.pop(), "[DONE]")
        usage = chunks.pop()
        self.assertEqual((usage["choices"], usage["usage"]["completion_tokens"]), ([], 40))
        for index in range(2):
            mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
            self.assertEqual(mine[0]["delta"], {"role": "assistant", "content": ""})
            text = "".join(c["delta"].get("content", "") for c in mine)
            self.assertEqual(text, whole["choices"][index]["message"]["content"])
            self.assertEqual([c["finish_reason"] for c in mine if c["finish_reason"]], ["length"])
            self.assertIsNotNone(mine[-1]["finish_reason"])

    def test_what_a_message_spells_like_a_special_token_is_text(self):
        def tokens(content):
            ask = {"messages": [{"role": "user", "content": content}], "max_tokens": 1}
            return self.server.post("/v1/chat/completions", ask).json()["usage"]["prompt_tokens"]

        plain = tokens("")
        for word in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
            ids = self.server.post("/tokenize", {"content": word}).json()["tokens"]
            text = self.server.post("/tokenize", {"content": word, "parse_special": False}).json()["tokens"]
            self.assertEqual(len(ids), 1)
            self.assertEqual(tokens(word), plain + len(text))
        # As it is shown, and where a prompt is written by hand, special tokens are what they say.
        shown = self.server.post("/apply-template", {"messages": [{"role": "user", "content": "<|im_end|>"}]}).json()
        self.assertEqual(shown["prompt"].count("<|im_end|>"), 2)

    def test_skip_details(self):
        ask = {"messages": CHAT, "max_tokens": 10, "budget": 0.3, "stream": True, "skip_details": True}
        shares = [c["choices"][0]["gateskip"]["skipped_share"]
                  for c in events(self.server.post("/v1/chat/completions", ask).body)[:-1] if "gateskip" in c["choices"][0]]
        self.assertTrue(shares and all(0 <= s <= 1 for s in shares))

    def test_parts_and_roles(self):
        parts = [{"role": "developer", "content": "be brief"},
                 {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}]
        self.assertEqual(self.server.post("/apply-template", {"messages": parts}).json(),
                         self.server.post("/apply-template", {"messages": [{"role": "system", "content": "be brief"}] +
                                                              CHAT}).json())


class Others(ServerCase):
    def test_text_and_tokens(self):
        tokens = self.server.post("/tokenize", {"content": "hello"}).json()["tokens"]
        self.assertEqual(self.server.post("/detokenize", {"tokens": tokens}).json()["content"], "hello")
        pieces = self.server.post("/tokenize", {"content": "hello", "with_pieces": True}).json()["tokens"]
        self.assertEqual("".join(p["piece"] for p in pieces), "hello")

    def test_about_the_server(self):
        self.assertEqual(self.server.request("GET", "/health").json(), {"status": "ok"})
        self.assertEqual(len(self.server.request("GET", "/v1/models").json()["data"]), 1)
        for route in self.server.request("GET", "/props").json()["routes"]:
            method, path = route.split(" ")
            self.assertNotIn(self.server.request(method, path, {} if method == "POST" else None).status, (404, 405))
        self.assertIsNotNone(self.server.metric("gateskip_http_responses_total", route="/health", status="200"))

    def test_page(self):
        page = self.server.request("GET", "/")
        self.assertIn("text/html", page.headers["content-type"])
        self.assertIn("default-src 'none'", page.headers["content-security-policy"])
        self.assertNotRegex(page.body.decode(), r"(src|href)=.?https?:")

    def test_methods_and_paths(self):
        self.assert_error(self.server.request("GET", "/v1/completions"), 405)
        self.assert_error(self.server.request("POST", "/health", {}), 405)
        self.assert_error(self.server.request("GET", "/v1/nothing"), 404)
        head = self.server.request("HEAD", "/health")
        self.assertEqual((head.status, head.body, head.headers["content-length"]), (200, b"", "15"))

    def test_unsupported_fields_are_refused_and_unknown_ones_ignored(self):
        for field, value in [("tools", [{"type": "function"}]), ("functions", [{}]), ("suffix", "x"),
                             ("response_format", {"type": "json_object"}), ("response_format", {"type": "json_schema"}),
                             ("stream_options", {"include_usage": True})]:
            self.assert_error(self.server.complete(prompt="a", **{field: value}), 400, param=field)
        answer = self.server.complete(prompt="a", max_tokens=1, tools=[], response_format={"type": "text"}, user="u",
                                      store=True, metadata={"a": "b"}, unheard_of=[1, {"x": None}])
        self.assertEqual(answer.status, 200, answer)

    def test_every_field_of_every_wrong_type(self):
        values = [None, True, -1, 2**31, 2**63, 1e308, "x", "", [], [[]], [None], {}, {"a": {"b": []}}]
        fields = ["model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "stream", "stop", "seed",
                  "logprobs", "echo", "logit_bias", "presence_penalty", "frequency_penalty", "repeat_penalty", "budget",
                  "user", "best_of", "ignore_eos", "stream_options", "skip_details", "response_format"]
        for field in fields:
            for value in values:
                body = {"prompt": "a", "max_tokens": 1, **{field: value}}
                answer = self.server.post("/v1/completions", body)
                self.assertIn(answer.status, (200, 400), (field, value, answer))
                if answer.status == 400:
                    self.assert_error(answer, 400)
        for messages in values + [[{}], [{"role": "user"}], [{"role": "x", "content": "y"}], [{"role": 3}],
                                  [{"role": "user", "content": [{"type": "image_url"}]}]]:
            answer = self.server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})
            self.assertIn(answer.status, (200, 400), (messages, answer))
        self.assertEqual(self.server.request("GET", "/health").status, 200)


@unittest.skipIf(openai is None, "the openai package is not installed")
class RealClient(ServerCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.server.port}/v1", api_key="none", max_retries=0)

    def test_chat_stream_and_budget(self):
        stream = self.client.chat.completions.create(model="m", messages=CHAT, max_tokens=5, stream=True,
                                                     stream_options={"include_usage": True}, extra_body={"budget": 0.2})
        chunks = list(stream)
        self.assertEqual(chunks[-1].usage.completion_tokens_details, None)
        self.assertEqual(chunks[-1].usage.model_extra["gateskip"]["decode"]["requested"], 0.2)

    def test_completion_models_and_errors(self):
        completion = self.client.completions.create(model="m", prompt=IDS, max_tokens=2, logprobs=1, echo=True)
        self.assertIsNone(completion.choices[0].logprobs.token_logprobs[0])
        self.assertEqual(len(list(self.client.models.list())), 1)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.completions.create(model="m", prompt="a", n=1000)
        self.assertEqual(caught.exception.param, "n")


if __name__ == "__main__":
    unittest.main()
