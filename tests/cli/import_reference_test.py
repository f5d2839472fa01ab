# SPDX-License-Identifier: Apache-2.0
"""scripts/import_reference.py on state dicts made here with the reference's keys. Skipped without torch."""
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import unittest

import cli_case

try:
    import torch
    from safetensors.torch import load_file
except ImportError:
    torch = None

if torch:  # in this process: importing torch takes seconds
    SPEC = importlib.util.spec_from_file_location(
        "import_reference", pathlib.Path(__file__).resolve().parents[2] / "scripts" / "import_reference.py")
    SCRIPT = importlib.util.module_from_spec(SPEC)
    SPEC.loader.exec_module(SCRIPT)


@unittest.skipUnless(torch, "torch and safetensors are not installed")
class ImportReferenceTest(cli_case.CliCase):
    def setUp(self):
        super().setUp()
        self.run_ok("export", "-m", self.llama, "-o", "base", "--format", "safetensors", "--type", "f32")
        self.weights = load_file(self.folder / "base" / "model.safetensors")
        self.config = json.loads((self.folder / "base" / "config.json").read_text())
        self.generator = torch.Generator().manual_seed(7)

    def gates(self, kind, branches=("self_attn", "mlp")):
        d = self.config["hidden_size"]
        rows = d if kind == "vector" else 1
        state = {}
        for layer in range(self.config["num_hidden_layers"]):
            for branch in branches:
                gate = f"model.model.layers.{layer}.{branch}.gate.gate."
                state[gate + "weight"] = torch.randn(rows, d, generator=self.generator) * 0.2
                state[gate + "bias"] = torch.randn(rows, generator=self.generator)
        return state

    def checkpoint(self, gates, scale=1.0):
        """A Lightning state dict: modules behind the gates' wrappers, everything under `model.`."""
        state = dict(gates)
        for name, tensor in self.weights.items():
            for branch in ("self_attn", "mlp"):
                name = name.replace(f".{branch}.", f".{branch}.module.")
            state["model." + name] = tensor * scale
        state["model.lm_head.weight"] = self.weights["model.embed_tokens.weight"] * scale
        path = self.folder / "run.pt"
        torch.save(state, path)
        return path

    def convert(self, checkpoint, *words, status=0):
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr):
            found = SCRIPT.main([str(self.folder / checkpoint), "--base", str(self.folder / "base"),
                                 "-o", str(self.folder / "adapter"), "--gateskip", cli_case.BINARY, *words])
        self.assertEqual(found, status, stderr.getvalue())
        return stderr.getvalue()

    def test_vector_gates_and_a_tuned_backbone(self):
        gates = self.gates("vector")
        self.convert(self.checkpoint(gates, scale=1.5), "--tuned-model", str(self.folder / "tuned"))
        tuned = load_file(self.folder / "tuned" / "model.safetensors")
        self.assertEqual(set(tuned), set(self.weights), "tied: no head of its own")
        for name, tensor in self.weights.items():
            self.assertTrue(torch.equal(tuned[name], tensor * 1.5), name)
        adapter = load_file(self.folder / "adapter" / "adapter_model.safetensors")
        weight = gates["model.model.layers.2.mlp.gate.gate.weight"]
        bias = gates["model.model.layers.2.mlp.gate.gate.bias"]
        self.assertTrue(torch.equal(adapter["blk.2.mlp.gate.weight"], weight))
        self.assertTrue(torch.equal(adapter["blk.2.mlp.gate.bias"], bias))
        # The head has the value and the slope of the gates' mean at h = 0.
        head, constant = adapter["blk.2.mlp.decision.weight"].double(), adapter["blk.2.mlp.decision.bias"].double()
        mean = lambda h: torch.sigmoid(weight.double() @ h + bias.double()).mean()
        decide = lambda h: torch.sigmoid(head @ h + constant[0])
        zero = torch.zeros(weight.shape[1], dtype=torch.float64, requires_grad=True)
        self.assertAlmostEqual(mean(zero).item(), decide(zero).item(), delta=1e-6)
        slopes = [torch.autograd.grad(f(zero), zero)[0] for f in (mean, decide)]
        self.assertLess((slopes[0] - slopes[1]).abs().max().item(), 1e-6)
        self.assertGreater(slopes[0].abs().max().item(), 1e-3)

        config = json.loads((self.folder / "adapter" / "adapter_config.json").read_text())
        self.assertTrue(config["multiply_output"] and all(config["gated"]))
        self.run_ok("generate", "-m", "tuned", "--adapter", "adapter", "-p", "the sea", "-n", "4")
        (self.folder / "text.txt").write_text("The sea was calm. A boat went out. " * 20)
        self.run_ok("calibrate", "-m", "tuned", "--adapter", "adapter", "-f", "text.txt", "--tokens", "128", "-c", "64",
                    "--budgets", "0.05,0.1")
        answer = self.run_json("perplexity", "-m", "tuned", "--adapter", "adapter", "-f", "text.txt", "-c", "64",
                               "--budget", "0.05")
        self.assertGreater(answer["results"][0]["saving"]["branches_skipped"], 0)

    def test_scalar_gates_on_a_frozen_backbone(self):
        gates = self.gates("scalar", branches=("self_attn",))
        self.convert(self.checkpoint(gates), "--frozen-backbone", "--decision-only")
        config = json.loads((self.folder / "adapter" / "adapter_config.json").read_text())
        self.assertEqual((config["gate_kind"], config["multiply_output"]), ("scalar", False))
        self.assertEqual(config["gated"], [True, False] * self.config["num_hidden_layers"])
        adapter = load_file(self.folder / "adapter" / "adapter_model.safetensors")
        self.assertEqual(len(adapter), 2 * self.config["num_hidden_layers"])
        self.assertTrue(torch.equal(adapter["blk.1.attn.gate.weight"],
                                    gates["model.model.layers.1.self_attn.gate.gate.weight"][0]))
        self.run_ok("generate", "-m", "base", "--adapter", "adapter", "-p", "the sea", "-n", "4")

    def test_refused(self):
        plain = self.gates("scalar")
        d = self.config["hidden_size"]
        gate = "model.model.layers.0.mlp.gate.gate."
        for gates, words in (
                ({k.replace("gate.gate.", "gate.gate.0."): v for k, v in plain.items()}, "use_mlp_gate"),
                ({}, "use_gating"),
                ({**plain, "model.model.layers.0.mlp.lora_A.default.weight": torch.ones(1)}, "LoRA"),
                ({**plain, gate.replace("0", "9") + "weight": torch.ones(1, d),
                  gate.replace("0", "9") + "bias": torch.ones(1)}, "layers: expected at most 4"),
                ({**plain, gate + "weight": torch.ones(3, 3)}, "blk.0.mlp.gate"),
                ({**plain, gate + "weight": torch.full((1, d), float("nan"))}, "finite"),
                ({k: v for k, v in plain.items() if k != gate + "bias"}, "a weight and a bias"),
                ({**plain, gate + "weight": torch.ones(d, d), gate + "bias": torch.ones(d)}, "both"),
                ({**plain, "layers.0.mlp.gate.gate.bias": torch.ones(1)}, "twice"),
                ({**plain, "model.transformer.wte.weight": torch.ones(1)}, "architecture")):
            self.assertIn(words, self.convert(self.checkpoint(gates), "--frozen-backbone", status=1))
            self.assertFalse((self.folder / "adapter").exists())
        (self.folder / "adapter").mkdir()
        self.assertIn("new name", self.convert(self.checkpoint(plain), "--frozen-backbone", status=1))

    def test_gemma_multiplies_elsewhere(self):
        self.run_ok("export", "-m", self.gemma3, "-o", "base", "--format", "safetensors", "--force")
        self.config = json.loads((self.folder / "base" / "config.json").read_text())
        self.weights = load_file(self.folder / "base" / "model.safetensors")
        checkpoint = self.checkpoint(self.gates("scalar"))
        self.assertIn("--decision-only", self.convert(checkpoint, "--frozen-backbone", status=1))
        self.convert(checkpoint, "--frozen-backbone", "--decision-only")
        self.run_ok("generate", "-m", "base", "--adapter", "adapter", "-p", "the sea", "-n", "4")

    def test_code_in_a_checkpoint_does_not_run(self):
        folder = self.folder
        class Mine:
            def __reduce__(self):
                return os.system, (f"touch {folder}/ran",)
        torch.save({"state_dict": Mine()}, self.folder / "run.pt")
        self.convert("run.pt", "--frozen-backbone", status=1)
        self.assertFalse((self.folder / "ran").exists())
        self.assertFalse((self.folder / "adapter").exists())


if __name__ == "__main__":
    unittest.main()
