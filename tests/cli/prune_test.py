# SPDX-License-Identifier: Apache-2.0
"""prune on the tiny models: what is left has the shapes it says, runs, and can be trained; what cannot be is refused."""
import resource
import subprocess
import unittest

import cli_case
from cli_case import IO, NOT_FOUND, UNSUPPORTED, USAGE

PROMPT = ["-p", "The sea was calm", "-n", "12", "--f32", "-t", "1"]
TEXT = "The sea was calm. A boat went out, and the boat came back. " * 12
WINDOWS = ["-c", "64", "-t", "1"]


class PruneCase(cli_case.CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = str(cls.fixtures / "text.txt")
        (cls.fixtures / "text.txt").write_text(TEXT)

    def prune(self, *words, model=None):
        return self.run_json("prune", "-m", model or self.llama, "-o", "p.gguf", "--force", "-f", self.text, *WINDOWS,
                             *words)

    def info(self):
        return self.run_json("info", "-m", "p.gguf", "--tensors", "--metadata")

    def refused(self, status, *words, **options):
        return self.assert_refused(status, "prune", *words, **options)


class PruneTest(PruneCase):
    def test_layers(self):
        for amount, left in (("1", 3), ("50%", 2), ("list:0,2:", 1)):
            for by in ("block-influence", "leave-one-out"):
                report = self.prune("--layers", amount, "--by", by)
                self.assertEqual(len(report["kept"]["layers"]), left)
                self.assertEqual(self.info()["metadata"]["llama.block_count"], str(left))
                self.run_ok("generate", "-m", "p.gguf", *PROMPT)
                if amount == "list:0,2:":
                    self.assertEqual(report["kept"]["layers"], [1])
                else:
                    scores = report["layer_scores"]
                    worst_kept = min(scores[l] for l in report["kept"]["layers"])
                    self.assertTrue(all(s <= worst_kept for l, s in enumerate(scores)
                                        if l not in report["kept"]["layers"]))

    def test_heads_groups_and_neurons(self):
        report = self.prune("--heads", "1", "--neurons", "50%", "--compare-on", self.text)
        shapes = {t["name"]: t["shape"] for t in self.info()["tensors"]}
        self.assertEqual(shapes["blk.0.attn_q.weight"], [32, 64])
        self.assertEqual(shapes["blk.0.attn_k.weight"], [32, 64])
        self.assertEqual(shapes["blk.0.attn_output.weight"], [64, 32])
        self.assertEqual(shapes["blk.0.ffn_up.weight"], [64, 64])
        self.assertEqual(shapes["blk.0.ffn_down.weight"], [64, 64])
        for heads in report["kept"]["heads"]:  # one of each group of two
            self.assertEqual([h // 2 for h in heads], [0, 1])
        self.assertGreater(report["comparison"]["kl"], 0)
        self.assertLess(report["bytes"], report["source_bytes"])
        self.run_ok("generate", "-m", "p.gguf", *PROMPT)
        self.prune("--kv-groups", "1", "--neurons", "7")
        shapes = {t["name"]: t["shape"] for t in self.info()["tensors"]}
        self.assertEqual(shapes["blk.0.attn_q.weight"], [32, 64])
        self.assertEqual(shapes["blk.0.attn_v.weight"], [16, 64])
        self.assertEqual(shapes["blk.0.ffn_down.weight"], [64, 121])
        self.run_ok("generate", "-m", "p.gguf", *PROMPT)
        self.prune("--heads", "list:0", "--neurons", "list:32:", model=self.gemma3)
        self.run_ok("generate", "-m", "p.gguf", *PROMPT)

    def test_gates_inside_go_with_consent(self):
        self.run_ok("export", "-m", self.llama, "--adapter", self.adapter, "-o", "merged.gguf")
        result = self.run_cli("prune", "-m", "merged.gguf", "-o", "p.gguf", "--layers", "list:1")
        self.assertEqual(result.returncode, USAGE)
        self.assertIn(b"--no-gates", result.stderr)
        self.prune("--layers", "list:1", "--no-gates", model="merged.gguf")
        self.assertNotIn("adapter", self.run_json("info", "-m", "p.gguf"))


class BadPruneTest(PruneCase):
    def test_options(self):
        model = ["-m", self.llama, "-o", "p.gguf"]
        self.refused(USAGE, *model, says="--layers")
        self.refused(USAGE, "-m", self.llama, "--layers", "1", says="--out")
        self.refused(USAGE, *model, "--layers", "1", says="--file")
        self.refused(NOT_FOUND, *model, "--layers", "1", "-f", "/no/text")
        for bad in ("x", "1.5", "-1", "101%", "%", "list:9", "list:x"):
            self.refused(USAGE, *model, "-f", self.text, "--layers", bad)

    def test_nothing_left(self):
        model = ["-m", self.llama, "-o", "p.gguf", "-f", self.text]
        for words in (["--layers", "4"], ["--layers", "100%"], ["--layers", "list::"], ["--heads", "2"],
                      ["--kv-groups", "2"], ["--neurons", "128"], ["--neurons", "99.9%"], ["--layers", "5"]):
            self.refused(USAGE, *model, *words, says="remove fewer")

    def test_layers_whose_attention_would_change(self):
        self.refused(UNSUPPORTED, "-m", self.gemma3, "-o", "p.gguf", "--layers", "list:0", says="sliding")
        self.prune("--layers", "list:6", model=self.gemma3)

    def test_onto_itself(self):
        self.refused(USAGE, "-m", self.llama, "-o", self.llama, "--layers", "list:0", "--force", says="found the same")

    def test_a_full_disk_leaves_nothing(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        result = subprocess.run([cli_case.BINARY, "prune", "-m", self.llama, "-o", "p.gguf", "--layers", "list:0"],
                                capture_output=True, cwd=self.folder, preexec_fn=limit,
                                env=cli_case.clean_environment(), timeout=60)
        self.assertEqual(result.returncode, IO, result.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
