"""Speed over minutes of load without a pause: what a device gives once it is hot.

One sequence answers the same prompt again and again. Time is cut into slices; a slice's figure is the tokens
that were decoded in it over the time that decoding took, so prompts cost time and are no part of it. Machines
without fans may get slower within minutes, which a benchmark of seconds does not see.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Int, TokenSequence
from edgesdk.devices.power_readings import read_power
from edgesdk.errors import UnsupportedOption
from edgesdk.evaluation.bench import bench_prompt
from edgesdk.model import Model

_SLICES = 20
_EDGE = 0.1
"""Share of the time at the beginning, and at the end, that is compared."""


@dataclass(frozen=True)
class SustainedReport:
    """One load.

    Attributes:
        seconds: how long it took, at least what was asked for: the last answer is finished.
        answers: answers in that time.
        decode_tokens_per_s: over all of it.
        first_tokens_per_s: in the first tenth of the time.
        last_tokens_per_s: in the last tenth.
        lowest_tokens_per_s: in the slowest of twenty slices.
        kept_share: the last tenth's speed over the first's: 1 where nothing was lost.
        slices_tokens_per_s: of each slice in which a token was decoded.
        hottest_c: highest temperature of the processor, in degrees Celsius; None where the system hides it.
    """

    seconds: float
    answers: int
    decode_tokens_per_s: float
    first_tokens_per_s: float
    last_tokens_per_s: float
    lowest_tokens_per_s: float
    kept_share: float
    slices_tokens_per_s: tuple[float, ...]
    hottest_c: float | None


def measure_sustained(
    model: Model,
    seconds: float,
    prompt_tokens: int = 128,
    new_tokens: int = 128,
    report: Callable[[str], None] | None = None,
) -> SustainedReport:
    """Loads a model for so long.

    Args:
        model: loaded.
        seconds: how long.
        prompt_tokens: length of the prompt, in tokens.
        new_tokens: tokens of each answer.
        report: told after each twentieth of the time.

    Returns:
        The report.

    Raises:
        UnsupportedOption: a number is too small, or the time has no end.
        CapacityError: prompt and answer do not fit the context.
        DeviceError: the backend fails.
    """
    if not 0 < seconds < math.inf or prompt_tokens < 1 or new_tokens < 1:
        raise UnsupportedOption("seconds, prompt tokens and new tokens must be above 0, and not endless")
    prompt = bench_prompt(model, prompt_tokens, new_tokens)
    times, spent, hottest = [], [], None
    told = 0
    sequence = model.new_sequence()
    try:
        _answer(sequence, prompt, 1)  # what backends build on first use is built
        started = time.perf_counter()
        answers = 0
        while time.perf_counter() - started < seconds:
            for ended, took in _answer(sequence, prompt, new_tokens):
                times.append(ended - started)
                spent.append(took)
            answers += 1
            celsius = read_power().temperature_c
            hottest = celsius if hottest is None else max(hottest, celsius or hottest)
            done = min(_SLICES, int(_SLICES * times[-1] / seconds))
            if report is not None and done > told:
                told = done
                rate = new_tokens / sum(spent[-new_tokens:])
                report(f"{times[-1]:.0f} of {seconds:.0f} s: {rate:.1f} tokens/s")
        whole = time.perf_counter() - started
    finally:
        sequence.close()
    return _sum_up(np.array(times), np.array(spent), whole, answers, hottest)


def _answer(sequence: TokenSequence, prompt: Int, new_tokens: int) -> list[tuple[float, float]]:
    """When each token came, and the seconds that it took."""
    sequence.truncate(0)
    newest = np.empty(1, np.int32)
    newest[0] = sequence.extend(prompt).argmax()
    came, before = [], time.perf_counter()
    for _ in range(new_tokens):
        newest[0] = sequence.extend(newest).argmax()
        now = time.perf_counter()
        came.append((now, now - before))
        before = now
    return came


def _sum_up(
    times: np.ndarray[tuple[int], np.dtype[np.float64]],
    spent: np.ndarray[tuple[int], np.dtype[np.float64]],
    seconds: float,
    answers: int,
    hottest: float | None,
) -> SustainedReport:
    """Figures from the moment (n,) at which each token came and the seconds (n,) that it took."""
    places = np.minimum((times / seconds * _SLICES).astype(np.int64), _SLICES - 1)
    counts = np.bincount(places, minlength=_SLICES)
    busy = np.bincount(places, weights=spent, minlength=_SLICES)
    slices = tuple(float(n / s) for n, s in zip(counts, busy, strict=True) if n)
    # A short load may have no token in a tenth of it: then its first and last slices that have some count.
    first, last = (
        float(kept.sum() / spent[kept].sum()) if kept.any() else rate
        for kept, rate in (
            (times <= seconds * _EDGE, slices[0]),
            (times >= seconds * (1 - _EDGE), slices[-1]),
        )
    )
    return SustainedReport(
        seconds=seconds,
        answers=answers,
        decode_tokens_per_s=float(len(times) / spent.sum()),
        first_tokens_per_s=first,
        last_tokens_per_s=last,
        lowest_tokens_per_s=min(slices),
        kept_share=last / first,
        slices_tokens_per_s=slices,
        hottest_c=hottest,
    )
