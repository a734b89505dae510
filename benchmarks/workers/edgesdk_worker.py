"""Measures one variant of a bundle: one JSON line out for every line in.

Run by benchmarks/side_by_side.py and benchmarks/vocabulary_speed.py.
"""

import json
import sys
import time

import numpy as np

import edgesdk


def main() -> None:
    bundle, backend, variant = sys.argv[1:4]
    threads, prompt, new = map(int, sys.argv[4:7])
    model = edgesdk.load(bundle, backend=backend, variant=variant, threads=threads, strict=True)
    # A pruned vocabulary may be smaller.
    spread = min(40000, model.bundle.manifest.decoder.vocab_size - 100)
    tokens = np.array([100 + 37 * i % spread for i in range(prompt)], np.int32)
    sequence = model.new_sequence()
    print(json.dumps({"ready": f"edgesdk {backend}"}), flush=True)
    for _ in sys.stdin:
        sequence.truncate(0)
        started = time.perf_counter()
        sequence.extend(tokens)
        prefilled = time.perf_counter()
        for i in range(new):
            sequence.extend(np.array([100 + i], np.int32))
        done = time.perf_counter()
        figures = {
            "prefill_tokens_per_s": prompt / (prefilled - started),
            "decode_tokens_per_s": new / (done - prefilled),
        }
        print(json.dumps(figures), flush=True)


main()
