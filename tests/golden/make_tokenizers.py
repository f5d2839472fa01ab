#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/hub_tokenizers.json: small tokenizer.json files of every kind, and the ids `tokenizers` gives.

usage: make_tokenizers.py [--check]     needs the package tokenizers; --check compares with the file instead
"""
import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PATH = pathlib.Path(__file__).resolve().parent.parent / "data" / "hub_tokenizers.json"
MARK = "\u2581"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
CORPUS = [
    "The gate decides whether a token skips the branch, and the token that skips it costs nothing.",
    "A branch that isn't executed doesn't read its weights; we've measured it, they'll see it, I'm sure, he'd say.",
    "In 2025 there were 1234567 tokens, 42 layers and 3.14 reasons; 100% of 12 + 30 = 42.",
    "def skip(gate, tau):\n    if gate <= tau:\n        return True\n\n\treturn False\n",
    "Die Stra\u00dfe ist nicht \u00fcbermorgen fertig; na\u00efve caf\u00e9, \u010ce\u0161tina, "
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u044f\u0437\u044b\u043a.",
    "\u95e8\u63a7\u51b3\u5b9a\u8df3\u8fc7\u54ea\u4e00\u5c42\u3002 \u30b2\u30fc\u30c8\u304c\u6c7a\u3081\u308b\u3002 "
    "\u0928\u092e\u0938\u094d\u0924\u0947",
]
TEXTS = CORPUS + [
    "", " ", "  ", "a", " a", "  a", "a ", "a  b   c", "\n", "\n\n", " \n \n a", "\t\ttabs\t", "a\r\nb\r\n\r\nc",
    "12345678901", " 1 22 333 4444", "x1y22z333", "\u0663\u0664\u0665 \u00bd \u2167",
    "it's IT'S we'LL 'tis o'clock '''", "...!?!  ,,, -- ==> $$$ #@!\n\n!", "don't\n'd",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f", "e\u0301 a\u00a0b\u3000c\u2003d\u200be",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "the the  the   the", "\u2581marked \u2581 text", "\x00\x01\x7f",
    "<s>hello</s>", "<s> hello </s> world<s><s>", "a<keep>b <keep> c", "<s", "<s><", "tail <eat> space  <eat>",
    "<|x|><|x|>y<|x|>", "<|x|>>", "<|xx|>",
]
ADDED = [AddedToken("<s>", special=True, normalized=False), AddedToken("</s>", special=True, normalized=False),
         AddedToken("<|x|>", special=True, normalized=False), AddedToken("<keep>", special=False, normalized=False),
         AddedToken("<eat>", special=True, normalized=False, lstrip=True, rstrip=True)]


def byte_level(steps, normalizer=None, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=380, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_tokens(ADDED)
    return tokenizer


def characters(normalizer, pre_tokenizer, fuse_unk=True):
    """BPE over characters with byte fall-back: trained without, then rebuilt with the 256 bytes in front."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", MARK)
    trained.pre_tokenizer = pre_tokenizers.Split(MARK, "merged_with_next")
    trained.train_from_iterator(CORPUS[:4], trainers.BpeTrainer(vocab_size=160, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    for text in sorted(model["vocab"], key=model["vocab"].get):
        vocab[text] = len(vocab)
    # Merges across spaces, as Gemma has them for runs of spaces.
    merges = [tuple(pair) for pair in model["merges"]] + [(MARK, MARK), (MARK * 2, MARK * 2)]
    vocab.setdefault(MARK * 2, len(vocab))
    vocab.setdefault(MARK * 4, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_tokens([AddedToken("<unk>", special=True, normalized=False)] + ADDED)
    return tokenizer


def build():
    plain = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = lambda pattern: [pre_tokenizers.Split(Regex(pattern), "isolated"),
                             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    legacy = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    made = {
        "gpt2": byte_level([plain()]),
        "smollm": byte_level([pre_tokenizers.Digits(individual_digits=True), plain()]),
        "llama3": byte_level(split(LLAMA3), ignore_merges=True),
        "qwen2": byte_level(split(QWEN2), normalizer=normalizers.NFC()),
        "gemma": characters(normalizers.Replace(" ", MARK), pre_tokenizers.Split(" ", "merged_with_previous")),
        "llama2": characters(legacy, None),
        "metaspace_first": characters(None, pre_tokenizers.Metaspace(MARK, prepend_scheme="first", split=False)),
        "metaspace_split": characters(None, pre_tokenizers.Metaspace(MARK, prepend_scheme="always", split=True)),
    }
    for name in ("gemma", "llama3"):
        made[name].post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", made[name].token_to_id("<s>"))])
    return made


def main():
    lines = []
    for name, tokenizer in build().items():
        cases = []
        for text in TEXTS:
            if name == "qwen2" and "\u0301" in text:
                continue  # not in NFC
            row = [text]
            for as_text in (False, True):
                tokenizer.encode_special_tokens = as_text
                row.append(tokenizer.encode(text, add_special_tokens=False).ids)
            cases.append(row)
        tokenizer.encode_special_tokens = False
        lines.append(json.dumps(name) + ": " + json.dumps(
            {"tokenizer": json.loads(tokenizer.to_str()), "adds_bos": name in ("gemma", "llama3"), "cases": cases},
            separators=(",", ":")))
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PATH.read_text() == text else f"{PATH}: other ids than those of this package")
    PATH.write_text(text)


if __name__ == "__main__":
    main()
