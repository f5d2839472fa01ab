# SPDX-License-Identifier: Apache-2.0
"""report: the HTML page of a training run, from its log alone, and that of a sweep, from its results."""
import html.parser
import json
import pathlib
import unittest

import cli_case

VOID = {"meta"}
SAMPLE = pathlib.Path(__file__).resolve().parent.parent / "data" / "sweep_made_up.json"


class Page(html.parser.HTMLParser):
    """Text and tags of a page; what is not balanced is a failure of the test that reads it."""

    def __init__(self, test, text):
        super().__init__()
        self.test, self.open, self.text, self.attributes = test, [], [], []
        self.feed(text)
        self.close()
        test.assertEqual(self.open, [])

    def handle_starttag(self, tag, attributes):
        self.attributes += [name for name, _ in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += [name for name, _ in attributes]

    def handle_endtag(self, tag):
        self.test.assertTrue(self.open and self.open[-1] == tag, f"</{tag}> closes {self.open}")
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def short_log():
    events = [{"event": "start", "model": "<b>tiny", "gated": [True] * 4, "options": {"steps": 8, "seed": 1},
               "changed": ["steps"]},
              {"event": "eval", "step": 0, "base_nll": 3.0, "budgets": [0.0, 0.25], "nll": [3.0, 4.5],
               "net_saving": [-0.01, 0.26]}]
    for step in range(1, 9):
        events.append({"event": "step", "step": step, "loss": None if step == 3 else 1 / step, "rate": 1.0,
                       "gradient_norm": None if step == 3 else 0.5, "requested_saving": 0.25, "realised_saving": 0.24,
                       "tokens_per_second": 512.0, "tokens": 64 * step, "seconds": 0.125 * step})
    events.append({"event": "eval", "step": 8, "base_nll": 3.0, "budgets": [0.0, 0.25], "nll": [2.875, 3.75],
                   "net_saving": [-0.01, 0.251]})
    return "".join(json.dumps(event) + "\n" for event in events)


class ReportTest(cli_case.CliCase):
    def test_training_writes_it(self):
        text = self.folder / "text.txt"
        text.write_text("\n\n".join(f"A boat went out, and boat {i} came back. " * 4 for i in range(200)))
        run = self.folder / "run"
        result = self.run_cli("train", "-m", self.llama, "-f", f"{text}@1@0-0.8", "--heldout", f"{text}@1@0.8-1", "--run",
                              run, "--steps", 3, "--sequence-length", 16, "--batch", 1, "--fit-sequences", 1,
                              "--prior-sequences", 1, "--prior-saving", 0, "--essential-rise", 100, "--eval-sequences", 1,
                              timeout=120)
        if result.returncode == cli_case.UNSUPPORTED:  # a build without LibTorch
            return
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"report: {run}/report.html\n", result.stderr.decode())
        page = " ".join(" ".join(Page(self, (run / "report.html").read_text()).text).split())
        self.assertIn("tiny-llama", page)
        self.assertIn("3 of 3", page)
        last = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()][-1]
        self.assertEqual((last["event"], last["step"]), ("eval", 3))
        for nll in last["nll"]:
            self.assertIn(f"{nll:.4f}", page)
        for name in ("prior_saving", "essential_rise", "sequence_length"):
            self.assertIn(name, page.split("All options")[0])  # among those that differ from the defaults

    def write_log(self, text):
        run = self.folder / "run"
        run.mkdir(exist_ok=True)
        (run / "log.jsonl").write_text(text)
        return run

    def test_holds_the_numbers_of_the_log(self):
        run = self.write_log(short_log() + '{"event":"step","st')
        result = self.run_ok("report", "--run", run)
        self.assertEqual(result.stdout.decode(), f"{run}/report.html\n")
        text = (run / "report.html").read_text()
        page = Page(self, text)
        words = " ".join(page.text)
        for number in ("<b>tiny", "8 of 8", "2.8750", "3.7500", "25.1 %", "+25.0", "42.52", "512", "1 damaged lines"):
            self.assertIn(number, " ".join(words.split()))
        for outside in ("src", "href"):
            self.assertNotIn(outside, page.attributes)
        self.assertNotIn("http", text)

    def test_out_and_again(self):
        run = self.write_log(short_log())
        self.run_ok("report", "--run", run, "-o", self.folder / "page.html")
        first = (self.folder / "page.html").read_bytes()
        self.run_ok("report", "--run", run, "-o", self.folder / "page.html")
        self.assertEqual((self.folder / "page.html").read_bytes(), first)
        self.assertEqual(sorted(p.name for p in run.iterdir()), ["log.jsonl"])

    def test_refusals(self):
        self.assert_refused(cli_case.USAGE, "report", says="--run")
        self.assert_refused(cli_case.USAGE, "report", "--run", "x", "--no-such-option", says="--no-such-option")
        self.assert_refused(cli_case.NOT_FOUND, "report", "--run", "/no/such/run", says="--run")
        log = self.fixtures / "log.jsonl"
        self.addCleanup(log.unlink)
        for text in ("", "\n\n", '{"event":"novel"}\n', "\x00" * 100):
            log.write_text(text)
            self.assert_refused(cli_case.CORRUPT, "report", "--run", self.fixtures, says="events of a training run")
        log.write_text(short_log())
        self.assert_refused(cli_case.IO, "report", "--run", self.fixtures, "-o", "/no/such/folder/page.html")

    def test_sweep(self):
        results = self.folder / "sweep.json"
        results.write_text(SAMPLE.read_text())
        result = self.run_ok("report", "--results", results)
        self.assertEqual(result.stdout.decode(), f"{self.folder}/sweep.html\n")
        text = (self.folder / "sweep.html").read_text()
        page = Page(self, text)
        words = " ".join(page.text)
        for point in json.loads(SAMPLE.read_text())["results"]:
            value = point["metrics"][0]["value"]
            self.assertIn(f"{100 * value:.1f}" if point["task"] == "piqa" else f"{value:.2f}", words)
        for outside in ("src", "href"):
            self.assertNotIn(outside, page.attributes)
        self.assertNotIn("http", text)
        self.run_ok("report", "--results", results, "-o", self.folder / "again.html")
        self.assertEqual((self.folder / "again.html").read_text(), text)

    def test_sweep_as_markdown(self):
        result = self.run_ok("report", "--results", SAMPLE, "--markdown")
        self.assertIn("| arm ", result.stdout.decode())
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertFalse(SAMPLE.with_suffix(".html").exists())

    def test_sweeps_are_merged(self):
        whole = json.loads(SAMPLE.read_text())
        for arm in ("gates", "random"):
            part = dict(whole, results=[r for r in whole["results"] if r["arm"] in (arm, "original")])
            (self.folder / f"{arm}.json").write_text(json.dumps(part))
        merged = self.run_ok("report", "--results", "gates.json", "--results", "random.json", "--markdown").stdout
        for arm in ("gates", "random"):
            self.assertIn(f"| {arm} ".encode(), merged)

    def test_sweep_refusals(self):
        self.assert_refused(cli_case.USAGE, "report", "--run", "x", "--results", SAMPLE, says="both")
        self.assert_refused(cli_case.USAGE, "report", "--run", "x", "--markdown", says="--markdown")
        self.assert_refused(cli_case.NOT_FOUND, "report", "--results", "/no/such.json")
        self.assert_refused(cli_case.USAGE, "report", "--results", self.fixtures, says="file")
        self.assert_refused(cli_case.CORRUPT, "report", "--results", self.llama)
        self.assert_refused(cli_case.IO, "report", "--results", SAMPLE, "-o", "/no/such/folder/page.html")


if __name__ == "__main__":
    unittest.main()
