"""Measures LiteRT-LM in its own environment; reads .litertlm files. Run by benchmarks/peers.py.

It has a benchmark of its own, which takes the numbers of tokens, not the tokens: as many of its own choice
run. Every measurement loads the model anew, outside the times. Of a folder of files named by the tokens that
their caches hold, the smallest that fits is taken.
"""

from importlib.metadata import version
from pathlib import Path

import litert_lm
from litertlm_files import fitting
from serve import Measure, serve


def load(settings: dict) -> Measure:
    def measure(prompt: list[int], new: int) -> tuple[float, float]:
        tokens = len(prompt) + max(new, 1)
        benchmark = litert_lm.Benchmark(
            str(fitting(Path(settings["model"]), tokens)),
            litert_lm.Backend.CPU(thread_count=settings["threads"]),
            prefill_tokens=len(prompt),
            decode_tokens=max(new, 1),
            max_num_tokens=tokens + 1,
        )
        found = benchmark.run()
        return len(prompt) / found.last_prefill_tokens_per_second, new / found.last_decode_tokens_per_second

    return measure


serve(f"litert-lm-api {version('litert-lm-api')}", load)
