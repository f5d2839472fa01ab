#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of llama.cpp when every batch has a row of each of N sequences: what parallel slots of its server
can reach at most. Greedy, the likeliest token picked from each row's logits, as a server would.

needs: pip install llama-cpp-python==0.3.36
"""
import argparse
import json
import random
import time

import numpy
from compare_llama_cpp import quiet_peer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=16)
    parser.add_argument("-n", "--decode", type=int, default=128)
    parser.add_argument("--sequences", type=int, default=16)
    args = parser.parse_args()

    lib, _keep = quiet_peer()
    model = lib.llama_model_load_from_file(args.model.encode(), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx = args.sequences * (args.prompt + args.decode + 8)
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = args.sequences
    params.n_threads = params.n_threads_batch = args.threads
    context = lib.llama_init_from_model(model, params)
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    batch = lib.llama_batch_init(512, 0, 1)

    def run(rows):
        """Rows of (token, position, sequence, wants logits)."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = wanted
        if lib.llama_decode(context, batch) != 0:
            raise SystemExit("llama_parallel.py: [peer] decode: expected success, found an error")
        return [int(numpy.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), shape=(vocabulary,)).argmax())
                for i, row in enumerate(rows) if row[3]]

    draw = random.Random(0)
    for attempt in range(2):  # the first warms up
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        start = time.perf_counter()
        last = []
        for sequence in range(args.sequences):
            rows = [(draw.randrange(1000, 40000), p, sequence, p + 1 == args.prompt) for p in range(args.prompt)]
            last += run(rows)
        for step in range(args.decode - 1):
            last = run([(last[s], args.prompt + step, s, True) for s in range(args.sequences)])
        seconds = time.perf_counter() - start
    print(json.dumps({"tokens_per_second": args.sequences * args.decode / seconds}))


if __name__ == "__main__":
    main()
