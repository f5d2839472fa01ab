#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/performance.md from docs/results/performance/figures.json, which bench/measure_performance.py
measured. A table stands between <!-- figures: NAME --> and <!-- end -->; README.md may have such places, too.

usage: gen_performance_docs.py [--check]     --check: only say whether the tables are current
"""
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "results" / "performance" / "figures.json"
PAGES = (ROOT / "docs" / "performance.md", ROOT / "README.md")
MODEL_NAMES = {"SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct Q4_1", "gemma-3-270m-q4_k_m.gguf": "Gemma 3 270M Q4_K_M"}
BEGIN, END = "<!-- figures: {} -->\n", "<!-- end -->\n"


def rate(spread):
    digits = 0 if spread["median"] >= 100 else 1
    return f"{spread['median']:.{digits}f} ({spread['min']:.{digits}f}-{spread['max']:.{digits}f})"


def table(head, rows):
    """The first column holds words, the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def label(row):
    return {"ungated": "ungated", "gates": "every gate evaluated, nothing skipped",
            "gated": f"{100 * row['budget']:g} %"}[row["config"]]


def conditions(section):
    return f"{section['machine']}, {section['threads']} threads, medians (smallest and largest) of {section['repetitions']} rounds in turn.\n\n"


def by(rows, **wanted):
    """The one row with these fields."""
    found = [r for r in rows if all(r[name] == value for name, value in wanted.items())]
    if len(found) != 1:
        sys.exit(f"gen_performance_docs.py: [{FIGURES.name}] rows: expected one with {wanted}, found {len(found)}")
    return found[0]


def peers(section):
    rows = []
    for found in section["found"]:
        ours = found["rates"]["gateskip"]
        for engine, rates in found["rates"].items():
            name = MODEL_NAMES.get(found["model"], found["model"]) if engine == "gateskip" else ""
            engine = engine.replace("llama.cpp Q4_0", "llama.cpp on Q4_0, its fastest format")
            faster = "" if rates is ours else ", ".join(
                f"{ours[phase]['median'] / rates[phase]['median']:.1f} x" for phase in ("prefill", "decode"))
            rows.append([name, engine, rate(rates["prefill"]), rate(rates["decode"]), faster])
    text = conditions(section) + table(["model", "engine", f"prefill {section['found'][0]['prompt']}",
                                        f"decode {section['found'][0]['decode']}", "gateskip is faster by"], rows)
    scores = [f"{MODEL_NAMES.get(f['model'], f['model'])}: {f['nll']['f32']:.4f} in f32, {f['nll']['gateskip']:.4f} gateskip, "
              f"{f['nll']['llama.cpp']:.4f} llama.cpp" for f in section["found"]]
    return text + f"\nMean NLL of the same {section['found'][0]['nll']['tokens']} tokens; " + "; ".join(scores) + ".\n"


def gates(section):
    found = section["found"]
    rows = [[label(r), rate(r["prefill_tokens_per_second"]), rate(r["decode_tokens_per_second"]),
             f"{r['prefill_speedup']:.2f}", f"{r['decode_speedup']:.2f}",
             f"{100 * r['saving']['decode']['nominal']:.1f} %", f"{100 * r['saving']['decode']['net']:.1f} %"]
            for r in found["rows"]]
    head = ["budget", f"prefill {found['prompt_tokens']}", f"decode {found['decode_tokens']}", "prefill x", "decode x",
            "nominal", "net"]
    return conditions(section) + table(head, rows)


def random(section):
    found = section["found"]
    rows = []
    for r in found["rows"]:
        if r["config"] == "ungated":
            continue
        # A prompt's products and the head's single row: what is saved of the layers is saved of the whole.
        ideal = 1 / (1 - r["saving"]["prefill"]["net"])
        rows.append([label(r), f"{r['prefill_speedup']:.2f}", f"{100 * r['prefill_speedup'] / ideal:.0f} %",
                     f"{r['decode_speedup']:.2f}", f"{100 * r['share_of_ideal']:.0f} %"])
    return conditions(section) + table(["random decisions", "prefill x", "of the ideal", "decode x", "of the ideal"], rows)


def ceilings(section):
    """What the machine gives at most, and what the ungated model takes of it."""
    rows = []
    for r in (r for r in section["found"]["rows"] if r["config"] == "ungated"):
        rows.append([str(r["threads"]), f"{r['dot_product_giga_operations_per_second']:.0f}",
                     f"{r['prefill_giga_operations_per_second']:.0f}", f"{100 * r['share_of_dot_product_peak']:.0f} %",
                     f"{r['read_gigabytes_per_second']:.1f}", f"{r['decode_weight_gigabytes_per_second']:.1f}",
                     f"{100 * r['share_of_read_bandwidth']:.0f} %"])
    return conditions(section) + table(
        ["threads", "dot products, GOP/s", "prefill, GOP/s", "of the peak", "plain reads, GB/s", "weights in decode, GB/s",
         "of the reads"], rows)


def threads(section):
    rows = [r for r in section["found"]["rows"] if r["config"] == "ungated"]
    base = by(rows, threads=section["threads"])
    return conditions(section) + table(
        ["threads", "prefill", "decode", "prefill x", "decode x"],
        [[str(r["threads"]), rate(r["prefill_tokens_per_second"]), rate(r["decode_tokens_per_second"])] +
         [f"{r[phase]['median'] / base[phase]['median']:.2f}"
          for phase in ("prefill_tokens_per_second", "decode_tokens_per_second")] for r in rows])


def context(section):
    rows = []
    for cache, found in section["found"].items():
        dense = [r for r in found["rows"] if r["config"] == "ungated"]
        short, long = min(dense, key=lambda r: r["depth"]), max(dense, key=lambda r: r["depth"])
        base, deep = short["decode_tokens_per_second"], long["decode_tokens_per_second"]
        rows.append([cache, f"{found['model']['kv_bytes_per_token'] / 1024:.1f} KiB", rate(base), rate(deep),
                     f"{100 * deep['median'] / base['median']:.0f} %"])
    p = next(iter(section["found"].values()))["prompt_tokens"]
    return conditions(section) + table(
        ["KV cache", "a token", f"decode from {p} on", f"decode from {long['depth'] + p} on", "of the rate kept"], rows)


def batch(section):
    rows = [r for r in section["found"]["rows"] if r["config"] == "ungated"]
    one = by(rows, sequences=1)["decode_tokens_per_second"]["median"]
    return conditions(section) + table(
        ["sequences", "decode, all together", "x", "weights, GB/s"],
        [[str(r["sequences"]), rate(r["decode_tokens_per_second"]), f"{r['decode_tokens_per_second']['median'] / one:.2f}",
          f"{r['decode_weight_gigabytes_per_second']:.1f}"] for r in rows])


def formats(section):
    rows = []
    for name, found in section["found"].items():
        ours, theirs, nll = found["rates"]["gateskip"], found["rates"]["llama.cpp"], found["nll"]
        cells = [name, f"{found['bytes'] / 2**20:.0f}"]
        for phase in ("prefill", "decode"):
            a, b = ours[phase]["median"], theirs[phase]["median"]
            cells += [f"{a:.0f}", f"{b:.0f}", f"{a / b:.1f}"]
        rows.append(cells + [f"{2.718281828459045 ** nll[who]:.3f}" for who in ("f32", "gateskip", "llama.cpp")])
    head = ["format", "MiB", "prefill", "llama.cpp", "x", "decode", "llama.cpp", "x", "perplexity in f32", "gateskip",
            "llama.cpp"]
    tokens = next(iter(section["found"].values()))["nll"]["tokens"]
    return conditions(section) + table(head, rows) + f"\nPerplexity over the same {tokens} tokens.\n"


def head(section):
    rows = []
    median = lambda name: statistics.median(r["decode_tokens_per_second"]["median"] for r in section["found"][name]["rows"])
    for name, found in section["found"].items():
        rows.append([name, f"{median(name):.0f}", f"{median(name) / median('stored'):.2f}", f"{found['nll']:.4f}"])
    tokens = section["found"]["stored"]["tokens"]
    return conditions(section) + table(["head", "decode", "x", f"NLL of {tokens} tokens"], rows)


TABLES = {f.__name__: f for f in (peers, gates, random, threads, ceilings, context, batch, formats, head)}
SECTION_OF = {"ceilings": "threads"}  # the others are their own


def render(name, figures):
    if name not in TABLES:
        sys.exit(f"gen_performance_docs.py: [page] figures: expected one of {', '.join(TABLES)}, found {name}")
    section = SECTION_OF.get(name, name)
    if section not in figures:
        return f"Not measured yet: `bench/measure_performance.py --sections {section}`.\n"
    return TABLES[name](figures[section])


def fill(text, figures):
    parts = text.split("<!-- figures: ")
    filled = parts[0]
    for part in parts[1:]:
        name = part[:part.index(" -->")]
        rest = part[part.index(END) + len(END):]
        filled += BEGIN.format(name) + render(name, figures) + END + rest
    return filled


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = fill(before, figures)
        if sys.argv[1:] and before != after:
            sys.exit(f"{page.relative_to(ROOT)}: expected what {FIGURES.relative_to(ROOT)} says, found something else; run "
                     "scripts/gen_performance_docs.py")
        if not sys.argv[1:]:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
