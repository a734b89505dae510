"""Measures llama.cpp in its own environment: one JSON line out for every line in.

Run by benchmarks/side_by_side.py; needs only llama-cpp-python.
"""

import json
import sys
import time

import llama_cpp


def quantise(source: str, target: str, kind: str) -> None:
    """Requantises a GGUF file as llama.cpp does."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), parameters):
        raise SystemExit(f"llama.cpp could not quantise {source} to {kind}")


def main() -> None:
    if sys.argv[1] == "quantise":
        quantise(*sys.argv[2:5])
        return
    path, threads, prompt, new = sys.argv[1], *map(int, sys.argv[2:5])
    model = llama_cpp.Llama(
        path,
        n_ctx=prompt + new,
        n_batch=prompt,
        n_ubatch=min(512, prompt),
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    tokens = [100 + 37 * i % 40000 for i in range(prompt)]
    print(json.dumps({"ready": f"llama-cpp-python {llama_cpp.__version__}"}), flush=True)
    for _ in sys.stdin:
        model.reset()
        started = time.perf_counter()
        model.eval(tokens)
        prefilled = time.perf_counter()
        for i in range(new):
            model.eval([100 + i])
        done = time.perf_counter()
        figures = {
            "prefill_tokens_per_s": prompt / (prefilled - started),
            "decode_tokens_per_s": new / (done - prefilled),
        }
        print(json.dumps(figures), flush=True)


main()
