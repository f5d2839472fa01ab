# SPDX-License-Identifier: Apache-2.0
"""quantize on the tiny models: formats as asked for and as they fit, consent, weights from a text, gates that are
calibrated anew inside the file and beside it, and nothing left of a run that fails."""
import json
import resource
import shutil
import subprocess
import unittest

import cli_case
from cli_case import IO, MISMATCH, NOT_FOUND, UNSUPPORTED, USAGE

PROMPT = ["-p", "The sea was calm", "-n", "12", "--f32", "-t", "1"]
TEXT = "The sea was calm. A boat went out, and the boat came back. " * 12
WINDOWS = ["-c", "64", "-t", "1"]


class QuantizeCase(cli_case.CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = str(cls.fixtures / "text.txt")
        (cls.fixtures / "text.txt").write_text(TEXT)
        cls.f32 = {}
        for name, model in (("llama", cls.llama), ("gemma3", cls.gemma3)):
            cls.f32[name] = str(cls.fixtures / f"{name}-f32.gguf")
            subprocess.run([cli_case.BINARY, "export", "-m", model, "-o", cls.f32[name], "--type", "f32"], check=True,
                           capture_output=True, env=cli_case.clean_environment())

    def quantize(self, *words, model=None):
        return self.run_json("quantize", "-m", model or self.f32["llama"], "-o", "q.gguf", "--force", *words)

    def types(self, path="q.gguf"):
        tensors = self.run_json("info", "-m", path, "--tensors")["tensors"]
        return {t["name"]: t["type"] for t in tensors if len(t["shape"]) == 2}

    def refused(self, status, *words, **options):
        return self.assert_refused(status, "quantize", *words, **options)


class QuantizeTest(QuantizeCase):
    def test_every_type(self):
        for name in self.f32:
            last = None
            for kind, layers in (("f32", "F32"), ("f16", "F16"), ("bf16", "BF16"), ("q8_0", "Q8_0"), ("q5_1", "Q5_1"),
                                 ("q5_0", "Q5_0"), ("q4_1", "Q4_1"), ("q4_0", "Q4_0")):
                report = self.quantize("--type", kind, model=self.f32[name])
                types = self.types()
                self.assertEqual(types["blk.1.ffn_down.weight"], layers)
                self.assertEqual({row["name"]: row["to"] for row in report["matrices"]}, types)
                self.run_ok("generate", "-m", "q.gguf", *PROMPT)
                if last:
                    self.assertLessEqual(report["bits_per_weight"], last, kind)
                last = report["bits_per_weight"]

    def test_rows_that_do_not_fit_get_a_format_like_it(self):
        """The tiny models' rows of 64 and 128 are no whole blocks of 256."""
        for kind, instead in (("q4_k", "Q5_0"), ("q5_k", "Q5_1"), ("q6_k", "Q8_0")):
            report = self.quantize("--type", kind)
            row = next(r for r in report["matrices"] if r["name"] == "blk.0.attn_q.weight")
            self.assertEqual((row["to"], row["instead_of"]), (instead, kind.upper()))
            shown = self.run_ok("quantize", "-m", self.f32["llama"], "-o", "q.gguf", "--force", "--type", kind)
            self.assertIn(f"{instead} instead of {kind.upper()}", shown.stderr.decode())

    def test_mixtures_and_patterns(self):
        self.quantize("--type", "q4_k_m")
        types = self.types()
        more = [name for name, kind in types.items() if kind == "Q8_0"]  # for Q6_K
        self.assertIn("blk.2.ffn_down.weight", more)
        self.assertIn("token_embd.weight", more)
        self.assertNotIn("blk.0.ffn_up.weight", more)
        self.quantize("--type", "q4_0", "--head-type", "q8_0", "--tensor-type", "*ffn*=q5_1", "--tensor-type",
                      "blk.?.ffn_up.weight=f16")
        types = self.types()
        self.assertEqual(types["token_embd.weight"], "Q8_0")
        self.assertEqual(types["blk.3.attn_q.weight"], "Q4_0")
        self.assertEqual(types["blk.3.ffn_gate.weight"], "Q5_1")
        self.assertEqual(types["blk.3.ffn_up.weight"], "F16")

    def test_comparison(self):
        kls = {}
        for kind in ("f32", "q8_0", "q4_0"):
            kls[kind] = self.quantize("--type", kind, "--compare-on", self.text, *WINDOWS)["comparison"]
            self.assertGreater(kls[kind]["tokens"], 100)
        self.assertEqual((kls["f32"]["kl"], kls["f32"]["same_top_token"]), (0.0, 1.0))
        self.assertEqual(kls["f32"]["nll"], kls["f32"]["source_nll"])
        self.assertLess(0.0, kls["q8_0"]["kl"])
        self.assertLess(kls["q8_0"]["kl"] * 10, kls["q4_0"]["kl"])
        table = self.run_ok("quantize", "-m", self.f32["llama"], "-o", "q.gguf", "--force", "--type", "q8_0",
                            "--compare-on", self.text, *WINDOWS).stdout.decode()
        self.assertIn("perplexity before", table)
        scored = self.run_json("perplexity", "-m", "q.gguf", "-f", self.text, "--f32", "-c", "64", "-t", "1")
        self.assertLess(abs(scored["results"][0]["nll"] - kls["q8_0"]["nll"]), 0.5)

    def test_rounding(self):
        """A search leaves less than plain rounding, and weights from the text itself less of what counts there."""
        plain = self.quantize("--type", "q4_0", "--rounding", "plain", "--compare-on", self.text, *WINDOWS)
        searched = self.quantize("--type", "q4_0", "--compare-on", self.text, *WINDOWS)
        weighted = self.quantize("--type", "q4_0", "--importance-from", self.text, "--compare-on", self.text, *WINDOWS)
        self.assertGreater(weighted["importance_tokens"], 100)
        self.assertLess(searched["comparison"]["kl"], plain["comparison"]["kl"])
        self.assertLess(weighted["comparison"]["kl"], plain["comparison"]["kl"])

    def test_what_is_written_does_not_depend_on_threads(self):
        words = ["quantize", "-m", self.f32["llama"], "--type", "q4_1", "--importance-from", self.text, "-c", "64"]
        for threads in ("1", "3"):
            self.run_ok(*words, "-o", f"t{threads}.gguf", "-t", threads)
        self.assertEqual((self.folder / "t1.gguf").read_bytes(), (self.folder / "t3.gguf").read_bytes())

    def test_a_quantised_model_needs_consent(self):
        self.refused(USAGE, "-m", self.llama, "-o", "q.gguf", "--type", "q4_0", says="--allow-requantize")
        self.refused(USAGE, "-m", self.llama, "-o", "q.gguf", "--type", "f16", says="Q8_0")
        self.quantize("--type", "q4_0", "--allow-requantize", model=self.llama)
        # What stays as it is needs none, and is copied.
        self.quantize("--type", "q4_1", "--head-type", "q8_0", model=self.llama)
        words = ["-p", "The sea", "-n", "4", "--json"]
        self.assertEqual(self.run_json("generate", "-m", "q.gguf", *words)["text"],
                         self.run_json("generate", "-m", self.llama, *words)["text"])


class GatesTest(QuantizeCase):
    def setUp(self):
        super().setUp()
        self.deltas = str(self.fixtures / "llama-delta-adapter")
        self.run_ok("export", "-m", self.llama, "--adapter", self.deltas, "-o", "merged.gguf", "--type", "f32")

    def budgets(self, report):
        return [row["requested"] for row in report["budgets"]]

    def test_gates_inside_are_calibrated_for_the_new_weights(self):
        for gate_type, stored in (("f32", "F32"), ("f16", "F16"), ("q8_0", "Q8_0")):
            report = self.quantize("--type", "q4_0", "--calibrate-from", self.text, "--gate-type", gate_type, *WINDOWS,
                                   model="merged.gguf")
            self.assertEqual(self.budgets(report), [0.2, 0.4])
            for row in report["budgets"]:
                self.assertLess(abs(row["net"] - row["requested"]), 0.02)
            info = self.run_json("info", "-m", "q.gguf", "--tensors")
            self.assertTrue(info["adapter"]["inside_the_model"])
            gates = {t["name"]: t["type"] for t in info["tensors"] if t["name"].startswith("gateskip.")}
            self.assertEqual(gates["gateskip.blk.1.mlp.gate.weight"], stored)
            self.assertEqual(gates["gateskip.blk.1.mlp.gate.bias"], "F32")
            # The self-test inside is that of the new weights: it holds in f32 and on the fast path.
            for extra in (PROMPT, PROMPT[:-3]):
                found = self.run_json("generate", "-m", "q.gguf", "--budget", "0.2", *extra)
                self.assertGreater(found["saving"]["prefill"]["branches_skipped"], 0)

    def test_gates_inside_need_a_text_or_go(self):
        result = self.run_cli("quantize", "-m", "merged.gguf", "-o", "q.gguf", "--type", "q4_0")
        self.assertEqual(result.returncode, USAGE)
        self.assertIn(b"--calibrate-from", result.stderr)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["merged.gguf"])
        self.quantize("--type", "q4_0", "--no-gates", model="merged.gguf")
        self.assertNotIn("adapter", self.run_json("info", "-m", "q.gguf"))

    def test_an_adapter_for_the_source_becomes_one_for_the_result(self):
        words = ["--adapter", self.deltas, "--allow-requantize", "--type", "q4_0", "--calibrate-from", self.text, *WINDOWS]
        report = self.quantize("--adapter-out", "adapter", *words, model=self.llama)
        self.assertEqual(self.budgets(report), [0.2, 0.4])
        for budget in ("0", "0.2", "0.4"):
            self.run_ok("generate", "-m", "q.gguf", "--adapter", "adapter", "--budget", budget, *PROMPT)
        other = self.run_cli("generate", "-m", self.llama, "--adapter", "adapter", *PROMPT)
        self.assertEqual(other.returncode, MISMATCH)
        config = json.loads((self.folder / "adapter" / "adapter_config.json").read_text())
        self.assertEqual(config["training"]["quantized"]["type"], "q4_0")
        self.assertEqual(config["training"]["quantized"]["from_fingerprint"],
                         self.run_json("info", "-m", self.llama)["model"]["fingerprint"])
        names = sorted(p.name for p in self.folder.iterdir())
        self.assertEqual(names, ["adapter", "merged.gguf", "q.gguf"], "no scratch directory is left")


class BadQuantizeTest(QuantizeCase):
    def test_options(self):
        model = ["-m", self.f32["llama"], "-o", "q.gguf"]
        self.refused(USAGE, *model, says="--type")
        self.refused(USAGE, "-m", self.f32["llama"], "--type", "q4_0", says="--out")
        self.refused(USAGE, "-o", "q.gguf", "--type", "q4_0", says="-m")
        model += ["--type", "q4_0"]
        self.refused(USAGE, "-m", self.f32["llama"], "-o", "q.gguf", "--type", "q3_k", says="q3_k")
        self.refused(USAGE, *model, "--head-type", "iq4_nl", says="iq4_nl")
        self.refused(USAGE, *model, "--tensor-type", "ffn", says="PATTERN=TYPE")
        self.refused(USAGE, *model, "--tensor-type", "=q8_0", says="PATTERN=TYPE")
        self.refused(USAGE, *model, "--tensor-type", "*ffn*=q9", says="q9")
        self.refused(USAGE, *model, "--tensor-type", "ffn_up=q8_0", says="'ffn_up'")
        self.refused(USAGE, *model, "--tensor-type", "*norm*=q8_0", says="'*norm*'")
        self.refused(USAGE, *model, "--embedding-type", "q8_0", says="--head-type")
        self.refused(USAGE, *model, "--rounding", "plain", "--importance-from", self.text, says="--rounding search")
        self.refused(USAGE, *model, "--adapter", self.adapter, says="--adapter-out")
        self.refused(USAGE, *model, "--adapter-out", "a", says="--adapter")
        self.refused(NOT_FOUND, "-m", "/no/model.gguf", "-o", "q.gguf", "--type", "q4_0")
        self.refused(NOT_FOUND, *model, "--importance-from", "/no/text")
        self.refused(NOT_FOUND, *model, "--compare-on", "/no/text")

    def test_texts_too_short(self):
        for option in ("--importance-from", "--compare-on"):
            self.refused(USAGE, "-m", self.f32["llama"], "-o", "q.gguf", "--type", "q4_0", option, self.text, "-c",
                         "4096", says="at least")

    def test_an_adapter_of_another_base(self):
        self.refused(MISMATCH, "-m", self.f32["llama"], "-o", "q.gguf", "--type", "q4_0", "--adapter",
                     self.gemma3_adapter, "--adapter-out", "a", "--calibrate-from", self.text)

    def test_onto_itself(self):
        self.refused(USAGE, "-m", self.f32["llama"], "-o", self.f32["llama"], "--type", "q4_0", "--force",
                     says="found the same")
        (self.folder / "link.gguf").symlink_to(self.f32["llama"])
        result = self.run_cli("quantize", "-m", self.f32["llama"], "-o", "link.gguf", "--type", "q4_0", "--force")
        self.assertEqual(result.returncode, USAGE, result.stderr)

    def test_a_directory(self):
        self.run_ok("export", "-m", self.llama, "-o", "hub", "--format", "safetensors")
        result = self.run_cli("quantize", "-m", "hub", "-o", "q.gguf", "--type", "q4_0")
        self.assertEqual(result.returncode, UNSUPPORTED)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["hub"])

    def test_what_is_there_stays(self):
        (self.folder / "q.gguf").write_text("mine")
        result = self.run_cli("quantize", "-m", self.f32["llama"], "-o", "q.gguf", "--type", "q4_0")
        self.assertEqual(result.returncode, USAGE)
        self.assertIn(b"--force", result.stderr)
        self.assertEqual((self.folder / "q.gguf").read_text(), "mine")

    def test_places_that_cannot_be_written(self):
        self.refused(IO, "-m", self.f32["llama"], "-o", "/no/such/folder/q.gguf", "--type", "q4_0")

    def test_a_full_disk_leaves_nothing(self):
        """A limit on the size of files stands for the full disk: a write fails in the middle."""
        shutil.copytree(self.adapter, self.folder / "adapter")
        before = cli_case.tree_digest(self.folder)
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        plain = ["-m", self.f32["llama"]]
        gated = ["-m", self.llama, "--allow-requantize", "--adapter", "adapter", "--adapter-out", "new",
                 "--calibrate-from", self.text, *WINDOWS]
        for words in (plain, gated):
            result = subprocess.run([cli_case.BINARY, "quantize", "-o", "q.gguf", "--type", "q4_0", *words],
                                    capture_output=True, cwd=self.folder, preexec_fn=limit,
                                    env=cli_case.clean_environment(), timeout=60)
            self.assertEqual(result.returncode, IO, result.stderr)
            self.assertRegex(result.stderr.decode().strip(), cli_case.ERROR_SHAPE)
            self.assertEqual(cli_case.tree_digest(self.folder), before)


if __name__ == "__main__":
    unittest.main()
