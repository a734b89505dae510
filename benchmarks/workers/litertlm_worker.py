"""Measures LiteRT-LM in its own environment; reads a .litertlm file. Run by benchmarks/peers.py.

It has a benchmark of its own, which takes the numbers of tokens, not the tokens: as many of its own choice
run. Every measurement loads the model anew, outside the times, with a cache that just fits.
"""

from importlib.metadata import version

import litert_lm
from serve import Measure, serve


def load(settings: dict) -> Measure:
    def measure(prompt: list[int], new: int) -> tuple[float, float]:
        benchmark = litert_lm.Benchmark(
            settings["model"],
            litert_lm.Backend.CPU(thread_count=settings["threads"]),
            prefill_tokens=len(prompt),
            decode_tokens=max(new, 1),
            max_num_tokens=len(prompt) + max(new, 1) + 1,
        )
        found = benchmark.run()
        return len(prompt) / found.last_prefill_tokens_per_second, new / found.last_decode_tokens_per_second

    return measure


serve(f"litert-lm-api {version('litert-lm-api')}", load)
