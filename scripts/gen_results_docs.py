#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/results.md from the results in docs/results/*.json, which `gateskip eval` wrote.

usage: gen_results_docs.py path/to/gateskip [--check]     --check: only say whether the file is current
"""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "results.md"
HEAD = """# Results
SmolLM2-135M-Instruct (Q4_1) and its default adapter, the first 400 documents of each task, 0-shot, one seed. Standard errors
are over documents; neither training nor calibration is repeated. Made by `scripts/gen_results_docs.py` from
[results/](results/); [eval_tasks.md](eval_tasks.md) says what the tasks and arms are.

How to read it:
- `gates`, `healed-static` are trained, the others are not. The gates saw 1.0 M tokens and serve every budget;
  `healed-static` saw 0.4 M of the same and serves 25 % only: not an equal race, and no claim is made from it
  ([training.md](training.md) compares them at equal tokens).
- The targets of the project (95 % of the score above guessing kept at 15 %, 90 % at 25 %) are not reached.
- Early exits (`early-exit`, `calm-state`) are run on the model as it came, which was never trained for them. The policies
  that read the head at inner layers (`calm-confidence`, `free`, `deebert`, `pabee`) run, and are not in these tables yet.

"""


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--check"]):
        sys.exit(__doc__)
    files = sorted((ROOT / "docs" / "results").glob("*.json"))
    words = [sys.argv[1], "report", "--markdown"]
    for file in files:
        words += ["--results", str(file)]
    tables = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    text = HEAD + tables
    if sys.argv[2:]:
        if TARGET.read_text(encoding="utf-8") != text:
            sys.exit("docs/results.md: expected what docs/results/*.json say, found something else; run "
                     "scripts/gen_results_docs.py")
        return
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
