"""Speed under load: streams that decode together, and what a long prompt in their midst does to them.

The figure that matters to whoever reads a stream is the time between tokens. It is measured with the
streams alone ("idle"), and from the moment at which a long prompt arrives until its first token. With
`chunked` and `hybrid` off the engine runs prompts whole, as the baseline of Sarathi-Serve's paper does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgesdk.engine.engine import Engine
from edgesdk.engine.generation import Generation
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption
from edgesdk.model import Model

_STREAM_PROMPT = 32
_WARM_TOKENS = 8
"""Tokens that every stream decodes before anything is counted."""
_POLL_S = 0.02
"""Seldom: looking takes the interpreter from the engine's thread."""


@dataclass(frozen=True)
class StreamsReport:
    """One mixed load.

    Attributes:
        streams: answers that decode together.
        inject_prompt: tokens of the prompt that arrives among them; 0 for none.
        chunked: prompts ran in pieces.
        hybrid: prompts and decodes shared steps.
        token_budget: most tokens of a step in which something decodes.
        aggregate_tokens_per_s: of all streams together, before the prompt arrives.
        tbt_p50_ms: median time between tokens while the prompt runs; without one, of the streams alone.
        tbt_p99_ms: its 99th percentile.
        tbt_p50_idle_ms: median time between tokens of the streams alone.
        tbt_p99_idle_ms: its 99th percentile.
        inject_ttft_ms: from the prompt's arrival to its first token; None without one.
        gaps: (n, 3) when each token came in ms from the prompt's arrival, the time between it and the one
            before in ms, and whose it is; for plots.
    """

    streams: int
    inject_prompt: int
    chunked: bool
    hybrid: bool
    token_budget: int
    aggregate_tokens_per_s: float
    tbt_p50_ms: float
    tbt_p99_ms: float
    tbt_p50_idle_ms: float
    tbt_p99_idle_ms: float
    inject_ttft_ms: float | None
    gaps: tuple[tuple[float, float, int], ...]


def measure_streams(
    model: Model,
    streams: int,
    *,
    inject_prompt: int = 0,
    idle_tokens: int = 64,
    token_budget: int | None = None,
    chunked: bool = True,
    hybrid: bool = True,
) -> StreamsReport:
    """Runs a mixed load; tokens are greedy and end tokens do not end a stream.

    Args:
        model: loaded, on a backend that the engine supports.
        streams: answers that decode together.
        inject_prompt: tokens of a prompt that arrives among them; 0 for none.
        idle_tokens: tokens of each stream that are counted before it arrives.
        token_budget: see `Engine`; None finds one.
        chunked: see `Engine`.
        hybrid: see `Engine`.

    Raises:
        UnsupportedOption: a count has no meaning, or the backend keeps its cache to itself.
        CapacityError: streams and prompt do not fit the cells.
    """
    for name, count, least in (
        ("streams", streams, 1),
        ("inject-prompt", inject_prompt, 0),
        ("idle tokens", idle_tokens, 2),
    ):
        if count < least:
            raise UnsupportedOption(f"{name} is {count}, expected at least {least}")
    vocabulary = model.bundle.manifest.decoder.vocab_size
    with Engine(
        model, prefix_cache_mb=0, token_budget=token_budget, chunked=chunked, hybrid=hybrid
    ) as engine:
        if streams > engine.policy.seats:
            raise CapacityError(
                f"{streams} streams do not run at once here: one step gives logits of {engine.policy.seats}"
            )
        before = _WARM_TOKENS + idle_tokens
        room = engine.metrics.cells_free - inject_prompt - streams * (_STREAM_PROMPT + before)
        most = min(model.context - _STREAM_PROMPT, before + room // streams)
        if inject_prompt >= model.context or most <= before:
            raise CapacityError(
                f"{streams} streams and a prompt of {inject_prompt} tokens do not fit {model.context} cells; "
                "measure fewer or convert with a larger --context"
            )
        running = [
            engine.submit(_prompt(stream, _STREAM_PROMPT, vocabulary), max_tokens=most, ignore_eos=True)
            for stream in range(streams)
        ]
        _wait(running, _WARM_TOKENS)
        start = time.perf_counter()
        _wait(running, before)
        arrival = time.perf_counter()
        end = arrival
        if inject_prompt:
            injected = engine.submit(_prompt(streams, inject_prompt, vocabulary), max_tokens=1)
            injected.result()
            end = injected.metrics.token_times_s[0]
            # The tokens that waited for the same step as the prompt's end come just after it.
            seen = max(r.metrics.new_tokens for r in running)
            _wait(running, min(seen + 2, most))
        for request in running:
            request.cancel()
        times = [np.asarray(request.metrics.token_times_s) for request in running]
        policy = engine.policy
    idle = np.concatenate([_gaps(t, start, arrival) for t in times])
    loaded = np.concatenate([_gaps(t, arrival, end) for t in times]) if inject_prompt else idle
    chosen = sum(int(((t > start) & (t <= arrival)).sum()) for t in times)
    return StreamsReport(
        streams=streams,
        inject_prompt=inject_prompt,
        chunked=chunked,
        hybrid=hybrid,
        token_budget=policy.budget,
        aggregate_tokens_per_s=chosen / (arrival - start),
        tbt_p50_ms=float(np.percentile(loaded, 50)),
        tbt_p99_ms=float(np.percentile(loaded, 99)),
        tbt_p50_idle_ms=float(np.percentile(idle, 50)),
        tbt_p99_idle_ms=float(np.percentile(idle, 99)),
        inject_ttft_ms=(end - arrival) * 1e3 if inject_prompt else None,
        gaps=tuple(
            (float((b - arrival) * 1e3), float((b - a) * 1e3), stream)
            for stream, t in enumerate(times)
            for a, b in pairwise(t)
        ),
    )


def _prompt(seed: int, tokens: int, vocabulary: int) -> list[int]:
    """Token ids spread over the vocabulary, others for every stream."""
    return [(37 * i + 101 * seed) % vocabulary for i in range(1, tokens + 1)]


def _wait(running: list[Generation], tokens: int) -> None:
    """Until each has so many tokens."""
    while min(request.metrics.new_tokens for request in running) < tokens:
        for request in running:
            if request.done:
                request.result()  # raises what ended it
                raise DeviceError("a stream ended before its time; please report this")
        time.sleep(_POLL_S)


def _gaps(times: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    """Times between tokens in ms, of all gaps that overlap [start, end]."""
    inside = (times[1:] > start) & (times[:-1] < end)
    return np.diff(times)[inside] * 1e3
