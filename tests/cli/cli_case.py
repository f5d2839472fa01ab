# SPDX-License-Identifier: Apache-2.0
"""What the command-line tests share: running the binary in an empty folder, and the shape of its errors."""
import hashlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

BINARY = os.environ["GATESKIP_BINARY"]
FIXTURE_WRITER = os.environ.get("GATESKIP_FIXTURES", "")

# The exit statuses of docs/errors.md.
USAGE, NOT_FOUND, CORRUPT, UNSUPPORTED, MISMATCH, LIMIT, IO, CANCELLED = 2, 3, 4, 5, 6, 7, 8, 130
ERROR_SHAPE = re.compile(r"^gateskip: error: \[[^\]]+\] [^:]+(: .*)?: expected .+, found:? .+$")


def clean_environment(**extra):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GATESKIP_")}
    environment.update(extra)
    return environment


def tree_digest(folder):
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(folder).rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


class CliCase(unittest.TestCase):
    """self.fixtures: a folder with the tiny models, shared by the class; self.folder: an empty one per test."""

    needs_models = True

    @classmethod
    def setUpClass(cls):
        cls._shared = tempfile.TemporaryDirectory()
        cls.fixtures = pathlib.Path(cls._shared.name)
        if cls.needs_models:
            subprocess.run([FIXTURE_WRITER, str(cls.fixtures)], check=True)
        cls.llama = str(cls.fixtures / "llama.gguf")
        cls.gemma3 = str(cls.fixtures / "gemma3.gguf")
        cls.adapter = str(cls.fixtures / "llama-adapter")
        cls.gemma3_adapter = str(cls.fixtures / "gemma3-adapter")

    @classmethod
    def tearDownClass(cls):
        cls._shared.cleanup()

    def setUp(self):
        self._own = tempfile.TemporaryDirectory()
        self.addCleanup(self._own.cleanup)
        self.folder = pathlib.Path(self._own.name)

    def run_cli(self, *words, stdin="", env=None, timeout=60):
        return subprocess.run([BINARY, *map(str, words)], input=stdin.encode() if isinstance(stdin, str) else stdin,
                              capture_output=True, cwd=self.folder, env=env or clean_environment(), timeout=timeout)

    def run_ok(self, *words, **options):
        result = self.run_cli(*words, **options)
        self.assertEqual(result.returncode, 0, result.stderr.decode(errors="replace"))
        return result

    def run_json(self, *words, **options):
        result = self.run_ok(*words, "--json", **options)
        text = result.stdout.decode()
        self.assertEqual(text.count("\n"), 1, text)
        return json.loads(text)

    def assert_refused(self, status, *words, says=None, **options):
        """The run ends with `status` and one well-shaped error line; stdout is empty and nothing is written."""
        before = tree_digest(self.fixtures)
        result = self.run_cli(*words, **options)
        error = result.stderr.decode(errors="replace").strip()
        self.assertEqual(result.returncode, status, f"{words}: {error}")
        self.assertRegex(error, ERROR_SHAPE)
        self.assertEqual(error.count("\n"), 0, error)
        if says:
            self.assertIn(says, error)
        if "--json" in words:
            self.assertIn("message", json.loads(result.stdout)["error"])
        else:
            self.assertEqual(result.stdout, b"")
        self.assertEqual(list(self.folder.iterdir()), [], "something was written")
        self.assertEqual(tree_digest(self.fixtures), before, "a fixture was changed")
        return error
