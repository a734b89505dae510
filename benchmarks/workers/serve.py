"""What all workers of benchmarks/peers.py share: settings in, one JSON line out for every line in.

The settings are one JSON argument. A worker loads its model, answers a prompt of 32 tokens, and says how
long both took, imports left out. Then every line `{"prompt": P, "new": N}` is measured: P tokens of prompt on
an empty cache, and N more one by one. Needs nothing but Python, because every peer has an environment of its
own.
"""

import json
import sys
import time
from collections.abc import Callable

FIRST_PROMPT_TOKENS = 32

Measure = Callable[[list[int], int], tuple[float, float]]
"""Runs prompt tokens and then some more one by one; returns the seconds of both."""


def prompt_of(count: int, vocab_size: int) -> list[int]:
    """The same tokens for every contender, spread over the vocabulary."""
    spread = min(40000, vocab_size - 100)
    return [100 + 37 * i % spread for i in range(count)]


def serve(version: str, load: Callable[[dict], Measure]) -> None:
    """Loads, says so, and measures until the input ends.

    Args:
        version: of the library, for the report.
        load: makes the measuring function from the settings.
    """
    settings = json.loads(sys.argv[1])
    vocab_size = settings["vocab_size"]
    started = time.perf_counter()
    measure = load(settings)
    loaded = time.perf_counter()
    measure(prompt_of(min(FIRST_PROMPT_TOKENS, settings["context"] - 1), vocab_size), 0)
    answered = time.perf_counter()
    ready = {
        "ready": version,
        "load_ms": (loaded - started) * 1e3,
        "load_to_first_token_ms": (answered - started) * 1e3,
    }
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        prompt, new = request["prompt"], request["new"]
        prefill_s, decode_s = measure(prompt_of(prompt, vocab_size), new)
        figures = {"prefill_tokens_per_s": prompt / prefill_s, "ttft_ms": prefill_s * 1e3}
        if new:
            figures["decode_tokens_per_s"] = new / decode_s
        print(json.dumps(figures), flush=True)
