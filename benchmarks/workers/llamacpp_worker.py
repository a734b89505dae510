"""Measures llama.cpp in its own environment; needs only llama-cpp-python.

Run by benchmarks/peers.py; `quantise SOURCE TARGET KIND` makes models for benchmarks/peer.py.
"""

import sys
import time

import llama_cpp
from serve import Measure, serve

MICRO_BATCH = 512


def quantise(source: str, target: str, kind: str) -> None:
    """Requantises a GGUF file as llama.cpp does."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), parameters):
        raise SystemExit(f"llama.cpp could not quantise {source} to {kind}")


def load(settings: dict) -> Measure:
    model = llama_cpp.Llama(
        settings["model"],
        n_ctx=settings["context"],
        n_batch=settings["context"],
        n_ubatch=min(MICRO_BATCH, settings["context"]),
        n_threads=settings["threads"],
        n_threads_batch=settings["threads"],
        verbose=False,
    )

    def measure(prompt: list[int], new: int) -> tuple[float, float]:
        model.reset()
        started = time.perf_counter()
        model.eval(prompt)
        prefilled = time.perf_counter()
        for i in range(new):
            model.eval([prompt[i % len(prompt)]])
        return prefilled - started, time.perf_counter() - prefilled

    return measure


if sys.argv[1] == "quantise":
    quantise(*sys.argv[2:5])
else:
    serve(f"llama-cpp-python {llama_cpp.__version__}", load)
