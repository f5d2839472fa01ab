# SPDX-License-Identifier: Apache-2.0
"""Files that are not what they should be. Each is refused with its exit status, and nothing is written."""
import json
import os
import pathlib
import shutil
import struct
import unittest

import cli_case
from cli_case import CORRUPT, IO, LIMIT, MISMATCH, NOT_FOUND, UNSUPPORTED, USAGE

MODEL_COMMANDS = (["generate", "-p", "x"], ["perplexity", "-p", "x y z"], ["tokenize", "-p", "x"], ["info"],
                  ["bench", "-p", "4", "-n", "1", "-r", "1"])


class BadModelTest(cli_case.CliCase):
    def refused_by_all(self, statuses, path):
        for words in MODEL_COMMANDS:
            result = self.run_cli(*words, "-m", path)
            self.assertIn(result.returncode, statuses, f"{words}: {result.stderr}")
            self.assert_refused(result.returncode, *words, "-m", path)

    def write_shared(self, name, data):
        path = self.fixtures / name
        path.write_bytes(data)
        self.addCleanup(path.unlink)
        return path

    def test_missing(self):
        self.refused_by_all((NOT_FOUND,), "/no/such/model.gguf")

    def test_truncated(self):
        whole = pathlib.Path(self.llama).read_bytes()
        for size in (0, 1, 4, 23, len(whole) // 4, len(whole) // 2, len(whole) - 1):
            self.refused_by_all((CORRUPT,), self.write_shared(f"truncated-{size}.gguf", whole[:size]))

    def test_not_a_gguf(self):
        for name, data in (("text.gguf", b"hello world" * 100), ("zeros.gguf", bytes(4096)),
                           ("version.gguf", b"GGUF" + struct.pack("<I", 99) + bytes(64)),
                           ("counts.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63) + bytes(64))):
            self.refused_by_all((CORRUPT, UNSUPPORTED, LIMIT), self.write_shared(name, data))

    def test_a_file_of_another_kind(self):
        self.refused_by_all((USAGE, CORRUPT, IO), "/dev/null")

    def test_a_folder_that_is_no_model(self):
        folder = self.fixtures / "empty-folder"
        folder.mkdir()
        self.addCleanup(folder.rmdir)
        self.refused_by_all((NOT_FOUND, UNSUPPORTED, CORRUPT, IO), folder)

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_unreadable(self):
        path = self.write_shared("secret.gguf", b"GGUF")
        path.chmod(0)
        self.assert_refused(IO, "info", "-m", path)

    def test_unknown_architecture(self):
        data = pathlib.Path(self.llama).read_bytes()
        at = data.index(b"llama")
        path = self.write_shared("alien.gguf", data.replace(b"llama", b"alien"))
        self.assertGreater(at, 0)
        self.assert_refused(UNSUPPORTED, "info", "-m", path, says="alien")
        self.assert_refused(UNSUPPORTED, "generate", "-p", "x", "-m", path, says="alien")


class BadAdapterTest(cli_case.CliCase):
    def damaged(self, name, change):
        """A copy of the adapter, changed; removed at the end of the test."""
        copy = self.fixtures / name
        shutil.copytree(self.adapter, copy)
        self.addCleanup(shutil.rmtree, copy)
        change(copy)
        return copy

    def edit_config(self, name, change):
        def edit(folder):
            path = folder / "adapter_config.json"
            config = json.loads(path.read_text())
            change(config)
            path.write_text(json.dumps(config))
        return self.damaged(name, edit)

    def generate(self, status, adapter, **options):
        return self.assert_refused(status, "generate", "-m", self.llama, "-p", "hello", "--adapter", adapter, **options)

    def test_the_adapter_itself_is_fine(self):
        self.run_ok("generate", "-m", self.llama, "-p", "hello", "-n", 2, "--adapter", self.adapter, "--budget", "0.2")

    def test_missing(self):
        self.generate(NOT_FOUND, "/no/such/adapter")

    def test_of_another_model(self):
        self.generate(MISMATCH, self.gemma3_adapter)

    def test_nan_and_infinity(self):
        for name, pattern in (("nan", 0x7FC00000), ("inf", 0x7F800000)):
            def poison(folder):
                path = folder / "adapter_model.safetensors"
                data = bytearray(path.read_bytes())
                data[-4:] = struct.pack("<I", pattern)
                path.write_bytes(data)
            self.generate(CORRUPT, self.damaged(f"{name}-adapter", poison))

    def test_truncated_weights(self):
        def cut(folder):
            path = folder / "adapter_model.safetensors"
            path.write_bytes(path.read_bytes()[:-1])
        self.generate(CORRUPT, self.damaged("cut-adapter", cut))

    def test_no_config(self):
        self.generate(NOT_FOUND, self.damaged("bare-adapter", lambda f: (f / "adapter_config.json").unlink()))

    def test_config_that_is_no_json(self):
        self.generate(CORRUPT, self.damaged("garbled", lambda f: (f / "adapter_config.json").write_text("{")))

    def test_config_nested_a_million_deep(self):
        path = self.damaged("deep", lambda f: (f / "adapter_config.json").write_text("[" * 1000000))
        result = self.run_cli("generate", "-m", self.llama, "-p", "x", "--adapter", path)
        self.assertIn(result.returncode, (CORRUPT, LIMIT))
        self.generate(result.returncode, path)

    def test_unknown_gate_kind(self):
        def rename(config):
            self.assertIn("gate_kind", config)
            config["gate_kind"] = "telepathic"
        self.generate(UNSUPPORTED, self.edit_config("alien-adapter", rename), says="telepathic")

    def test_shape_of_another_model(self):
        def grow(config):
            config["num_layers"] += 1
        adapter = self.edit_config("grown-adapter", grow)
        result = self.run_cli("generate", "-m", self.llama, "-p", "x", "--adapter", adapter)
        self.assertIn(result.returncode, (MISMATCH, CORRUPT))
        self.generate(result.returncode, adapter)

    def test_budget_beyond_the_calibrated_grid(self):
        self.assert_refused(USAGE, "generate", "-m", self.llama, "-p", "x", "--adapter", self.adapter,
                            "--budget", "0.9")


if __name__ == "__main__":
    unittest.main()
