"""What a server counts and measures, in Prometheus' form; nothing is sent, whoever wants it asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edgesdk.engine.metrics import EngineMetrics, RequestMetrics

_TIMES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_GAUGES = {
    "running": "Answers that hold a seat.",
    "waiting": "Answers in the queue.",
    "cells_used": "Cells with a holder.",
    "cells_free": "The other cells.",
    "cached_cells": "Cells that the prefix cache holds.",
}
_COUNTERS = {
    "steps": "Steps of the model.",
    "chosen_tokens": "Tokens chosen.",
    "cache_hits": "Prompts that found a part of themselves in the prefix cache.",
    "cached_tokens": "Prompt tokens found there.",
    "preemptions": "Answers whose cells were taken.",
    "drafted_tokens": "Tokens that a drafter proposed and steps judged.",
    "kept_tokens": "Those of them that answers have and needed no step for.",
}
Engines = Callable[[], Iterable[tuple[str, EngineMetrics]]]


class Figures:
    """Counters of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, engines: Engines) -> None:
        """Starts at zero.

        Args:
            engines: name and figures of each model in memory.
        """
        self._registry = CollectorRegistry()
        self._ttft = self._histogram("time_to_first_token_seconds", "From the request to its first token.")
        self._tbt = self._histogram("time_between_tokens_seconds", "Between two tokens of an answer.")
        self._queue = self._histogram("queue_seconds", "From the request to its first step.")
        self._requests = Counter(
            "edgesdk_requests", "Requests by outcome.", ("model", "outcome"), registry=self._registry
        )
        self._prompt = Counter(
            "edgesdk_prompt_tokens", "Tokens of prompts.", ("model",), registry=self._registry
        )
        self._registry.register(_EngineCollector(engines))

    def observe(self, model: str, metrics: Sequence[RequestMetrics]) -> None:
        """Takes the figures of a request that has ended."""
        for each in metrics:
            if each.queue_ms is not None:
                self._queue.labels(model).observe(each.queue_ms / 1e3)
            if each.ttft_ms is not None:
                self._ttft.labels(model).observe(each.ttft_ms / 1e3)
            between = self._tbt.labels(model)
            for gap_ms in each.tbt_ms:
                between.observe(gap_ms / 1e3)
        if metrics:
            self._prompt.labels(model).inc(metrics[0].prompt_tokens)
        self._requests.labels(model, "answered").inc()

    def count_refusal(self, model: str) -> None:
        """Counts a request that the engine did not take."""
        self._requests.labels(model, "refused").inc()

    def text(self) -> bytes:
        """All of them, as Prometheus reads it."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, what: str) -> Histogram:
        return Histogram(f"edgesdk_{name}", what, ("model",), buckets=_TIMES_S, registry=self._registry)


class _EngineCollector(Collector):
    """Reads the engines' own figures when they are asked for."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def collect(self) -> Iterable[Metric]:
        engines = list(self._engines())
        for name, what in _GAUGES.items():
            gauge = GaugeMetricFamily(f"edgesdk_{name}", what, labels=["model"])
            for model, metrics in engines:
                gauge.add_metric([model], getattr(metrics, name))
            yield gauge
        for name, what in _COUNTERS.items():
            counter = CounterMetricFamily(f"edgesdk_{name}", what, labels=["model"])
            for model, metrics in engines:
                counter.add_metric([model], getattr(metrics, name))
            yield counter
