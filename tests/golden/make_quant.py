#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/quantize.json: f32 values and the blocks that ggml's reference quantisers make of them.

usage: make_quant.py LIBGGML_BASE [--check]     needs numpy and the library libggml-base.so of a llama.cpp build;
                                                --check compares with the file instead
"""
import ctypes
import json
import pathlib
import sys

import numpy

PATH = pathlib.Path(__file__).resolve().parent.parent / "data" / "quantize.json"
FORMATS = {"Q8_0": ("quantize_row_q8_0_ref", 34), "Q4_0": ("quantize_row_q4_0_ref", 18),
           "Q4_1": ("quantize_row_q4_1_ref", 20), "Q5_0": ("quantize_row_q5_0_ref", 22),
           "Q5_1": ("quantize_row_q5_1_ref", 24)}


def make_values():
    rng = numpy.random.default_rng(20251013)
    rows = [rng.normal(size=32) * scale for scale in (1, 1, 1, 0.02, 0.02, 30, 1e-3, 1e4, 1e-6, 1e-8, 1e-37)]
    rows.append(numpy.zeros(32))
    rows.append(-numpy.zeros(32))
    rows.append(numpy.full(32, 0.75))
    rows.append(numpy.full(32, -3.0))
    rows.append(numpy.where(numpy.arange(32) == 5, -7.0, 0.01))       # one outlier
    rows.append(numpy.where(numpy.arange(32) % 2 == 0, 2.0, -2.0))    # the largest magnitude with both signs
    rows.append((numpy.arange(32) - 16) / 8)                          # ties of Q4_0
    rows.append((numpy.arange(32) % 31 - 15) * 0.5 * 15 / 30)         # ties of Q4_1
    rows.append(numpy.where(numpy.arange(32) == 0, 127.0, numpy.arange(32) + 0.5))  # ties of Q8_0
    rows.append(-rows[-1])
    return numpy.concatenate(rows).astype("<f4")


def main():
    library = ctypes.CDLL(sys.argv[1])
    values = make_values()
    out = {"values": values.tobytes().hex()}
    for name, (function, block_bytes) in FORMATS.items():
        blocks = numpy.zeros(values.size // 32 * block_bytes, dtype=numpy.uint8)
        call = getattr(library, function)
        call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        call.restype = None
        call(values.ctypes.data, blocks.ctypes.data, values.size)
        out[name] = blocks.tobytes().hex()
    text = "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n"
    if sys.argv[2:] == ["--check"]:
        sys.exit(0 if PATH.read_text() == text else f"{PATH}: other bits than those of this library")
    PATH.write_text(text)


main()
