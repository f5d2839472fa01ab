#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/dequantize.json: blocks of every format and the f32 bits that the `gguf` package makes of them.

usage: make_dequant.py [--check]     needs the packages numpy and gguf; --check compares with the file instead
"""
import json
import pathlib
import sys
import warnings

import numpy
from gguf import GGMLQuantizationType, GGML_QUANT_SIZES
from gguf.quants import dequantize

PATH = pathlib.Path(__file__).resolve().parent.parent / "data" / "dequantize.json"
# Format: (number of blocks, byte offsets of the f16 scales in a block).
FORMATS = {
    "F32": (64, []), "F16": (64, [0]), "BF16": (64, []),
    "Q4_0": (20, [0]), "Q4_1": (20, [0, 2]), "Q5_0": (20, [0]), "Q5_1": (20, [0, 2]), "Q8_0": (20, [0]),
    "Q4_K": (8, [0, 2]), "Q5_K": (8, [0, 2]), "Q6_K": (8, [208]),
}
# 1, largest, smallest subnormal, largest subnormal, smallest normal, zero, each with both signs.
EXTREMES = [0x3C00, 0xFBFF, 0x0001, 0x8001, 0x03FF, 0x8400, 0x8000, 0x7BFF, 0xBC00, 0x0000, 0x83FF, 0x0400]


def make_blocks(name, rng):
    count, scale_offsets = FORMATS[name]
    _, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, size=(count, block_bytes), dtype=numpy.uint8)
    for b in range(count):
        for place, at in enumerate(scale_offsets):
            half = int(rng.integers(0, 0x10000))
            while half & 0x7C00 == 0x7C00:  # infinities and NaN have cases of their own in the test
                half = int(rng.integers(0, 0x10000))
            # The last blocks keep random scales; in the earlier ones the two of a block are extreme in turn.
            if b < len(EXTREMES) and (b + place) % max(1, len(scale_offsets)) == 0:
                half = EXTREMES[b]
            blocks[b, at:at + 2] = [half & 0xFF, half >> 8]
        if name in ("F32", "BF16") and blocks[b, -1] & 0x7F == 0x7F:
            blocks[b, -1] ^= 0x40  # no NaN: its bits are no promise
    return blocks


def main():
    rng = numpy.random.default_rng(20240607)
    warnings.simplefilter("ignore")
    lines = []
    for name in FORMATS:
        blocks = make_blocks(name, rng)
        values = dequantize(blocks, GGMLQuantizationType[name]).astype("<f4").reshape(-1)
        assert not numpy.isnan(values).any(), name
        lines.append(json.dumps(name) + ": " + json.dumps({"blocks": blocks.tobytes().hex(),
                                                         "values": values.tobytes().hex()}))
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PATH.read_text() == text else f"{PATH}: other bits than those of this gguf package")
    PATH.write_text(text)


main()
