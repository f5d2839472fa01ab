# SPDX-License-Identifier: Apache-2.0
"""export on the tiny models: merged files run without an adapter, are what they were when exported again, and nothing
is left of an export that fails."""
import json
import os
import pathlib
import resource
import shutil
import subprocess
import unittest

import cli_case
from cli_case import IO, MISMATCH, NOT_FOUND, UNSUPPORTED, USAGE

PROMPT = ["-p", "The sea was calm", "-n", "12", "--f32", "-t", "1"]
TEXT = "The sea was calm. A boat went out, and the boat came back. " * 12


class ExportCase(cli_case.CliCase):
    def setUp(self):
        super().setUp()
        self.deltas = str(self.fixtures / "llama-delta-adapter")
        self.gemma3_deltas = str(self.fixtures / "gemma3-delta-adapter")

    def export(self, out, *words, model=None, adapter=None):
        with_adapter = ["--adapter", adapter] if adapter else []
        self.run_ok("export", "-m", model or self.llama, *with_adapter, "-o", out, *words)
        return self.folder / out

    def names(self):
        return sorted(p.name for p in self.folder.iterdir())


class ExportTest(ExportCase):
    def test_merged_gguf_runs_without_an_adapter(self):
        for model, adapter in ((self.llama, self.deltas), (self.gemma3, self.gemma3_deltas)):
            self.export("m.gguf", "--type", "f32", "--force", model=model, adapter=adapter)
            for budget in ("0", "0.2"):
                expected = self.run_json("generate", "-m", model, "--adapter", adapter, "--budget", budget, *PROMPT)
                found = self.run_json("generate", "-m", "m.gguf", "--budget", budget, *PROMPT)
                self.assertEqual(found["text"], expected["text"])
                self.assertEqual(found["saving"]["prefill"]["nominal"], expected["saving"]["prefill"]["nominal"])
                self.assertEqual(found["saving"]["prefill"]["branches_skipped"] > 0, budget != "0")
            # What reads a budget list, and what checks an adapter before it loads.
            self.run_ok("perplexity", "-m", "m.gguf", "--budget", "0,0.2", "-p", TEXT, "-c", "64")
            self.run_ok("bench", "-m", "m.gguf", "--budgets", "0,0.2", "-p", "4", "-n", "2", "-r", "1")
            off = self.run_cli("generate", "-m", "m.gguf", "--no-adapter", "--budget", "0.2", *PROMPT)
            self.assertEqual(off.returncode, USAGE)

    def test_report(self):
        answer = self.run_json("export", "-m", self.llama, "--adapter", self.deltas, "-o", "m.gguf", "--type", "q8_0")
        self.assertEqual((answer["out"], answer["format"], answer["type"]), ("m.gguf", "gguf", "q8_0"))
        self.assertTrue(answer["deltas_merged"] and answer["gates"] and answer["requantized"])
        self.assertLess(answer["bytes"], (self.folder / "m.gguf").stat().st_size)

    def test_info_shows_the_gates_inside(self):
        self.export("m.gguf", adapter=self.deltas)
        answer = self.run_json("info", "-m", "m.gguf", "--metadata", "--tensors")
        self.assertTrue(answer["adapter"]["inside_the_model"] and answer["adapter"]["fits_this_model"])
        self.assertEqual(answer["adapter"]["lora_rank"], 0)
        self.assertEqual(answer["adapter"]["skip_rank"], 2)
        self.assertIn("rank 4", answer["metadata"]["gateskip.merged_deltas"])
        self.assertIn("gateskip.blk.0.attn.gate.weight", [t["name"] for t in answer["tensors"]])
        self.run_ok("info", "-m", "m.gguf")
        base = self.run_json("info", "-m", self.llama)
        self.assertEqual(answer["adapter"]["base_fingerprint"], base["model"]["fingerprint"])

    def test_without_gates_it_is_an_ordinary_file(self):
        self.export("m.gguf", "--no-gates", "--type", "q8_0", adapter=self.deltas)
        answer = self.run_json("info", "-m", "m.gguf", "--metadata", "--tensors")
        self.assertNotIn("adapter", answer)
        for name in [*answer["metadata"], *(t["name"] for t in answer["tensors"])]:
            self.assertFalse(name.startswith("gateskip"), name)
        refused = self.run_cli("generate", "-m", "m.gguf", "--budget", "0.2", *PROMPT)
        self.assertEqual(refused.returncode, USAGE)

    def test_exported_again_it_stays_as_it_is(self):
        for kind in ("q8_0", "source", "f32"):
            one = self.export("one.gguf", "--type", kind, "--force", adapter=self.deltas)
            two = self.export("two.gguf", "--force", model="one.gguf")
            self.assertEqual(one.read_bytes(), two.read_bytes(), kind)
        plain = self.export("plain.gguf", "--no-gates", "--type", "f32", adapter=self.deltas)
        self.assertEqual(self.export("bare.gguf", "--no-gates", model="one.gguf").read_bytes(), plain.read_bytes())

    def test_a_plain_model_changes_its_type(self):
        self.export("q.gguf", "--type", "q4_0")
        tensors = self.run_json("info", "-m", "q.gguf", "--tensors")["tensors"]
        self.assertEqual({t["type"] for t in tensors if len(t["shape"]) == 2}, {"Q4_0"})
        self.run_ok("generate", "-m", "q.gguf", *PROMPT)

    def test_safetensors(self):
        for model, adapter in ((self.llama, self.deltas), (self.gemma3, self.gemma3_deltas)):
            self.export("hub", "--format", "safetensors", "--type", "f32", "--force", model=model, adapter=adapter)
            config = json.loads((self.folder / "hub" / "config.json").read_text())
            self.assertEqual(config["torch_dtype"], "float32")
            expected = self.run_json("generate", "-m", model, "--adapter", adapter, "--budget", "0.2", *PROMPT)
            found = self.run_json("generate", "-m", "hub", "--adapter", "hub/gateskip", "--budget", "0.2", *PROMPT)
            self.assertEqual(found["text"], expected["text"])
            self.run_ok("export", "-m", "hub", "--adapter", "hub/gateskip", "-o", "hub2", "--format", "safetensors",
                        "--type", "bf16", "--force")
            self.run_ok("generate", "-m", "hub2", "--adapter", "hub2/gateskip", "--budget", "0.2", *PROMPT)
        self.export("bare", "--format", "safetensors", "--no-gates", adapter=self.deltas)
        self.assertFalse((self.folder / "bare" / "gateskip").exists())

    def test_peft(self):
        self.export("lora", "--format", "peft", "--base-name", "org/model", adapter=self.deltas)
        self.assertEqual(sorted(os.listdir(self.folder / "lora")),
                         ["adapter_config.json", "adapter_model.safetensors", "gateskip_gates.safetensors"])
        config = json.loads((self.folder / "lora" / "adapter_config.json").read_text())
        self.assertEqual((config["peft_type"], config["base_model_name_or_path"]), ("LORA", "org/model"))

    def test_force_replaces(self):
        self.export("m.gguf", adapter=self.deltas)
        before = (self.folder / "m.gguf").read_bytes()
        refused = self.run_cli("export", "-m", self.llama, "-o", "m.gguf")
        self.assertEqual(refused.returncode, USAGE)
        self.assertIn(b"--force", refused.stderr)
        self.assertEqual((self.folder / "m.gguf").read_bytes(), before)
        self.export("m.gguf", "--force")
        self.assertNotEqual((self.folder / "m.gguf").read_bytes(), before)
        self.assertEqual(self.names(), ["m.gguf"])


class ExportSelfTestTest(ExportCase):
    """An adapter that was calibrated brings a self-test along."""

    def setUp(self):
        super().setUp()
        (self.folder / "text.txt").write_text(TEXT)
        shutil.copytree(self.deltas, self.folder / "a")
        self.run_ok("calibrate", "-m", self.llama, "--adapter", "a", "-f", "text.txt", "--tokens", "128", "-c", "64",
                    "--budgets", "0.1,0.2", "-t", "1")

    def test_it_is_run_on_what_was_written(self):
        self.export("m.gguf", "--type", "f32", adapter="a")
        self.run_ok("generate", "-m", "m.gguf", "--budget", "0.1", *PROMPT)
        # The self-test is tight in f32: it holds of merged weights because they are right.
        data = (self.folder / "m.gguf").read_bytes()
        config = (self.folder / "a" / "adapter_config.json").read_text()
        logit = str(json.loads(config)["self_test"]["top_logits"][0])
        self.assertEqual(data.count(logit.encode()), 1)
        (self.folder / "m.gguf").write_bytes(data.replace(logit.encode(), ("0." + "1" * (len(logit) - 2)).encode()))
        refused = self.run_cli("generate", "-m", "m.gguf", "--budget", "0.1", *PROMPT)
        self.assertEqual(refused.returncode, MISMATCH)
        self.assertIn(b"m.gguf] self-test", refused.stderr)

    def test_weights_too_coarse_for_the_gates_are_not_written(self):
        refused = self.run_cli("export", "-m", self.llama, "--adapter", "a", "-o", "m.gguf", "--type", "q4_0")
        self.assertEqual(refused.returncode, MISMATCH, refused.stderr)
        self.assertRegex(refused.stderr.decode().strip(), cli_case.ERROR_SHAPE)
        self.assertIn(b"wider --type", refused.stderr)
        self.assertEqual(self.names(), ["a", "text.txt"])
        self.export("m.gguf", "--type", "q4_0", "--no-gates", adapter="a")
        self.export("m.gguf", "--type", "f16", "--force", adapter="a")
        self.run_ok("generate", "-m", "m.gguf", "--budget", "0.1", *PROMPT)


class BadExportTest(ExportCase):
    def refused(self, status, *words, **options):
        return self.assert_refused(status, "export", *words, **options)

    def test_options(self):
        with_model = ["-m", self.llama, "--adapter", self.deltas, "-o", "out"]
        self.refused(USAGE, "-m", self.llama, says="--out")
        self.refused(USAGE, "-o", "out", says="-m")
        self.refused(USAGE, *with_model, "--type", "q5_k", says="q5_k")
        self.refused(USAGE, *with_model, "--format", "onnx", says="onnx")
        self.refused(USAGE, *with_model, "--format", "safetensors", "--type", "q8_0", says="safetensors")
        self.refused(USAGE, *with_model, "--format", "peft", "--type", "f16", says="peft")
        self.refused(USAGE, *with_model, "--base-name", "x", says="peft")
        self.refused(USAGE, "-m", self.llama, "-o", "out", "--format", "peft", says="--adapter")
        self.refused(USAGE, "-m", self.llama, "--adapter", self.adapter, "-o", "out", "--format", "peft", says="deltas")
        self.refused(NOT_FOUND, "-m", "/no/model", "-o", "out")
        self.refused(NOT_FOUND, "-m", self.llama, "--adapter", "/no/adapter", "-o", "out")

    def test_an_adapter_of_another_base(self):
        for form in ("gguf", "safetensors", "peft"):
            self.refused(MISMATCH, "-m", self.llama, "--adapter", self.gemma3_deltas, "-o", "out", "--format", form)
        # Deltas that are merged already are not merged again.
        self.export("m.gguf", adapter=self.deltas)
        for words in (["export", "-o", "n.gguf"], ["generate", *PROMPT]):
            result = self.run_cli(*words, "-m", "m.gguf", "--adapter", self.deltas)
            self.assertEqual(result.returncode, MISMATCH, result.stderr)
        self.assertEqual(self.names(), ["m.gguf"])

    def test_a_directory_to_gguf(self):
        self.export("hub", "--format", "safetensors")
        result = self.run_cli("export", "-m", "hub", "-o", "m.gguf")
        self.assertEqual(result.returncode, UNSUPPORTED)
        self.assertRegex(result.stderr.decode().strip(), cli_case.ERROR_SHAPE)
        self.assertEqual(self.names(), ["hub"])

    def test_places_that_cannot_be_written(self):
        for form in ("gguf", "safetensors", "peft"):
            self.refused(IO, "-m", self.llama, "--adapter", self.deltas, "--format", form, "-o", "/no/such/folder/out")
            self.refused(IO, "-m", self.llama, "--adapter", self.deltas, "--format", form, "-o", "n" * 250)

    def test_force_takes_no_other_directory(self):
        (self.folder / "mine").mkdir()
        (self.folder / "mine" / "thesis.txt").write_text("years of work")
        (self.folder / "file").write_text("x")
        for form in ("gguf", "safetensors", "peft"):
            result = self.run_cli("export", "-m", self.llama, "--adapter", self.deltas, "--format", form, "-o", "mine",
                                  "--force")
            self.assertEqual(result.returncode, USAGE, result.stderr)
        for form in ("safetensors", "peft"):
            result = self.run_cli("export", "-m", self.llama, "--adapter", self.deltas, "--format", form, "-o", "file",
                                  "--force")
            self.assertEqual(result.returncode, USAGE, result.stderr)
        self.assertEqual((self.folder / "mine" / "thesis.txt").read_text(), "years of work")
        self.assertEqual((self.folder / "file").read_text(), "x")

    def test_a_full_disk_leaves_what_was_there(self):
        """A limit on the size of files stands for the full disk: a write fails in the middle."""
        self.export("m.gguf")
        self.export("hub", "--format", "safetensors")
        before = cli_case.tree_digest(self.folder)
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for form, out in (("gguf", "m.gguf"), ("safetensors", "hub"), ("peft", "new")):
            words = ["export", "-m", self.llama, "--adapter", self.deltas, "--format", form, "-o", out, "--force"]
            result = subprocess.run([cli_case.BINARY, *words], capture_output=True, cwd=self.folder, preexec_fn=limit,
                                    env=cli_case.clean_environment(), timeout=60)
            self.assertEqual(result.returncode, IO, result.stderr)
            self.assertRegex(result.stderr.decode().strip(), cli_case.ERROR_SHAPE)
            self.assertEqual(cli_case.tree_digest(self.folder), before, form)

    def test_damaged_gates_inside(self):
        whole = self.export("m.gguf", adapter=self.deltas).read_bytes()
        bad = self.folder / "bad.gguf"
        for old, new in ((b'"gate_kind": "scalar"', b'"gate_kind": "scolar"'), (b'"gate_rank": 0', b'"gate_rank": 9'),
                         (b"gateskip.blk.0.attn.gate.bias", b"gateskip.blk.0.attn.gate.bios")):
            self.assertEqual(whole.count(old), 1, old)
            bad.write_bytes(whole.replace(old, new))
            for words in (["generate", *PROMPT], ["info"], ["export", "-o", "n.gguf"]):
                result = self.run_cli(*words, "-m", "bad.gguf")
                self.assertIn(result.returncode, (cli_case.CORRUPT, UNSUPPORTED), result.stderr)
                self.assertIn(b"bad.gguf", result.stderr)
        self.assertFalse((self.folder / "n.gguf").exists())


if __name__ == "__main__":
    unittest.main()
