"""Speed of a loaded model: prefill, decode, time to first token, load time, memory.

It drives one sequence directly, so tokenizing and sampling are no part of the figures. One round
before the counted ones touches memory and builds what backends build on first use; its time to
first token is kept, because that is what the first request after a load waits for.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Int, TokenSequence
from edgesdk.devices.process_memory import peak_rss_bytes
from edgesdk.devices.receipt import Receipt
from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.model import Model


@dataclass(frozen=True)
class SpeedReport:
    """Medians over the counted rounds, and the rounds.

    Attributes:
        prefill_tokens_per_s: prompt tokens over the time they took.
        decode_tokens_per_s: new tokens over the time that running and choosing them took.
        ttft_ms: time to first token: the prompt, and choosing the token after it.
        first_ttft_ms: the same in the first round after the load, which is not counted.
        load_ms: what `load` took.
        peak_rss_bytes: of this process so far; None where the system does not say.
        prompt_tokens: tokens of the prompt.
        new_tokens: tokens after it.
        repeat: counted rounds.
        prefill_rounds: `prefill_tokens_per_s` of each.
        decode_rounds: `decode_tokens_per_s` of each.
        ttft_rounds_ms: `ttft_ms` of each.
        receipt: what ran it.
    """

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    ttft_ms: float
    first_ttft_ms: float
    load_ms: float
    peak_rss_bytes: int | None
    prompt_tokens: int
    new_tokens: int
    repeat: int
    prefill_rounds: tuple[float, ...]
    decode_rounds: tuple[float, ...]
    ttft_rounds_ms: tuple[float, ...]
    receipt: Receipt


def measure_speed(model: Model, prompt_tokens: int, new_tokens: int, repeat: int) -> SpeedReport:
    """Measures a model; the tokens it chooses are greedy and end tokens do not end it.

    Args:
        model: loaded.
        prompt_tokens: length of the prompt, in tokens.
        new_tokens: tokens to decode after it.
        repeat: counted rounds.

    Returns:
        The report.

    Raises:
        UnsupportedOption: a count is below 1.
        CapacityError: prompt and new tokens do not fit the context.
        DeviceError: the backend fails.
    """
    for name, count in (("prompt tokens", prompt_tokens), ("new tokens", new_tokens), ("repeat", repeat)):
        if count < 1:
            raise UnsupportedOption(f"{name} is {count}, expected at least 1")
    prompt = bench_prompt(model, prompt_tokens, new_tokens)
    sequence = model.new_sequence()
    try:
        rounds = [_round(sequence, prompt, new_tokens) for _ in range(repeat + 1)]
    finally:
        sequence.close()
    first_s, _ = rounds.pop(0)
    prefill = tuple(prompt_tokens / prefill_s for prefill_s, _ in rounds)
    decode = tuple(new_tokens / decode_s for _, decode_s in rounds)
    ttft = tuple(prefill_s * 1e3 for prefill_s, _ in rounds)
    return SpeedReport(
        prefill_tokens_per_s=statistics.median(prefill),
        decode_tokens_per_s=statistics.median(decode),
        ttft_ms=statistics.median(ttft),
        first_ttft_ms=first_s * 1e3,
        load_ms=model.receipt.load_ms,
        peak_rss_bytes=peak_rss_bytes(),
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        repeat=repeat,
        prefill_rounds=prefill,
        decode_rounds=decode,
        ttft_rounds_ms=ttft,
        receipt=model.receipt,
    )


def bench_prompt(model: Model, prompt_tokens: int, new_tokens: int) -> Int:
    """A prompt whose answer fits the context.

    Args:
        model: loaded.
        prompt_tokens: its length.
        new_tokens: of the answer.

    Returns:
        (prompt_tokens,) int32.

    Raises:
        CapacityError: both do not fit the context.
    """
    if prompt_tokens + new_tokens > model.context:
        raise CapacityError(
            f"{prompt_tokens} prompt tokens and {new_tokens} new ones do not fit the context of "
            f"{model.context} tokens; measure fewer or convert with a larger --context"
        )
    # Spread over the vocabulary, so that embedding rows are not all in the processor's cache.
    return (37 * np.arange(prompt_tokens, dtype=np.int64) % model.decoder.vocab_size).astype(np.int32)


def _round(sequence: TokenSequence, prompt: Int, new_tokens: int) -> tuple[float, float]:
    """Seconds until the first token was chosen, and seconds for `new_tokens` more."""
    sequence.truncate(0)
    newest = np.empty(1, np.int32)
    started = time.perf_counter()
    newest[0] = sequence.extend(prompt).argmax()
    prefilled = time.perf_counter()
    for _ in range(new_tokens):
        newest[0] = sequence.extend(newest).argmax()
    return prefilled - started, time.perf_counter() - prefilled
