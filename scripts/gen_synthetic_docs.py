#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the results of scripts/synthetic_table.sh in docs/results/synthetic/, and writes their tables into docs/synthetic.md.

usage: gen_synthetic_docs.py [--check]                      --check: only say whether the tables are current
       gen_synthetic_docs.py --collect DIRECTORY TASK SEED  takes what was measured in there into TASK_SEED.json; rows
                                                            that are in the file already stay unless measured again
"""
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "synthetic"
TARGET = ROOT / "docs" / "synthetic.md"
BEGIN, END = "<!-- tables: scripts/gen_synthetic_docs.py -->\n", "<!-- end of tables -->\n"
COLUMNS = (0, 0.15, 0.25, 0.35, 0.5)
ROWS = {
    "gated": "**gates, one model for every budget**",
    "static": "static pruning healed, one model for every budget",
    "static15": "static pruning healed for 15 % alone",
    "static25": "static pruning healed for 25 % alone",
    "static35": "static pruning healed for 35 % alone",
    "static50": "static pruning healed for 50 % alone",
    "exit": "early exit",
    "mod": "`mod`",
    "skiplayer": "`skiplayer`",
}
TITLES = {"addition": "Addition of three digits", "mixed": "Mixed", "sorting": "Sorting", "lookup": "Look-up"}


def cell(result):
    """What the table needs of one result of `gateskip eval`."""
    if "unreachable" in result:
        return {"unreachable": True}
    score = next(m for m in result["metrics"] if m["name"] == "exact_match")
    return {"exact_match": score["value"], "count": score["count"], "net": result["saving"]["net"]}


def collect(directory, task, seed):
    if task not in TITLES or not seed.isdigit():
        sys.exit(f"gen_synthetic_docs.py: [command line] TASK SEED: expected one of {', '.join(TITLES)} and a number, "
                 f"found '{task} {seed}'")
    path = RESULTS / f"{task}_{int(seed)}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    for name in ROWS:
        measured = pathlib.Path(directory) / name / "eval" / "results.json"
        if not measured.exists():
            continue
        results = json.loads(measured.read_text(encoding="utf-8"))["results"]
        cells = {}
        for result in results:
            if result["arm"] != "original":
                cells[str(result["requested"])] = cell(result)
        if name.startswith("static") and name != "static":  # the set it was healed without: the one that does best
            best = max(cells.values(), key=lambda c: c.get("exact_match", -1))
            cells = {str(int(name.removeprefix("static")) / 100): best}
        rows[name] = cells
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"task": task, "seed": int(seed), "rows": rows}
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def percent(value):
    return f"{100 * value:.1f}".removesuffix(".0")


def entry(cells):
    """One field of the table: mean over seeds, (smallest to largest) if there are several, [net saving]."""
    cells = [c for c in cells if c]
    if not cells:
        return ""
    if any("unreachable" in c for c in cells):
        return "out of reach"
    scores = [c["exact_match"] for c in cells]
    spread = f" ({percent(min(scores))} to {percent(max(scores))})" if len(set(scores)) > 1 else ""
    nets = [c["net"] for c in cells if "net" in c]
    net = f" [{percent(statistics.mean(nets))}]" if nets else ""
    return f"{percent(statistics.mean(scores))}{spread}{net}"


def tables():
    text = ""
    for task, title in TITLES.items():
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(f"{task}_*.json"))]
        if not runs:
            continue
        text += f"**{title}**\n\n"
        text += "| second training | seeds | 0 | 15 % | 25 % | 35 % | 50 % |\n"
        text += "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        for name, label in ROWS.items():
            having = [run["rows"][name] for run in runs if name in run["rows"]]
            if not having:
                continue
            fields = [entry([cells.get(str(column)) or cells.get(str(float(column))) for cells in having])
                      for column in COLUMNS]
            text += f"| {label} | {len(having)} | " + " | ".join(fields) + " |\n"
        text += "\n"
    return text


def main():
    if sys.argv[1:2] == ["--collect"] and len(sys.argv) == 5:
        collect(*sys.argv[2:])
        return
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    old = TARGET.read_text(encoding="utf-8")
    head, rest = old.split(BEGIN)
    tail = rest.split(END)[1]
    new = head + BEGIN + "\n" + tables() + END + tail
    if sys.argv[1:] == ["--check"]:
        if new != old:
            sys.exit("docs/synthetic.md: expected the tables of docs/results/synthetic, found others; run "
                     "scripts/gen_synthetic_docs.py")
        return
    TARGET.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
