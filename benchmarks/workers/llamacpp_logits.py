"""Scores token windows with llama.cpp in its own environment; run by benchmarks/candidates.py.

A line in is JSON, a line out answers it:

    {"tokens": [...], "out": FILE}   writes (n, V) float32 logits, one row after each token, as .npy
    {"text": "..."}                  token ids of a text, no start token, special tokens as plain text
"""

import json
import sys

import llama_cpp
import numpy as np


def main() -> None:
    path, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    model = llama_cpp.Llama(
        path,
        n_ctx=context,
        n_batch=context,
        n_ubatch=context,
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=True,
        verbose=False,
    )
    print(json.dumps({"ready": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "text" in request:
            ids = model.tokenize(request["text"].encode(), add_bos=False, special=False)
            print(json.dumps({"tokens": ids}), flush=True)
            continue
        tokens = request["tokens"]
        model.reset()
        model.eval(tokens)
        np.save(request["out"], model.scores[: len(tokens)])
        print(json.dumps({"rows": len(tokens)}), flush=True)


main()
