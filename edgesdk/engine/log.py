"""What the engine logs, by the standard library and with figures in `extra`: the logger `edgesdk.engine`.

A line at INFO for each request that ends, at DEBUG for each step, at ERROR for each that fails. No
prompts, no answers.
"""

from __future__ import annotations

import logging

from edgesdk.engine.branch import Request
from edgesdk.engine.step_plan import StepPlan

_log = logging.getLogger("edgesdk.engine")


def log_end(request: Request, outcome: str) -> None:
    """A request ended: with a finish reason, or `error`."""
    if not _log.isEnabledFor(logging.INFO):
        return
    figures = request.metrics(0)
    names = ("prompt_tokens", "cached_tokens", "new_tokens", "preemptions")
    times = ("queue_ms", "ttft_ms", "tbt_p50_ms", "tbt_p99_ms", "decode_tokens_per_s")
    extra = {name: getattr(figures, name) for name in (*names, *times)}
    _log.info("request ended", extra={"outcome": outcome, "samples": request.samples, **extra})


def log_step(plan: StepPlan, model_ms: float) -> None:
    """A step has run."""
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("step", extra={"tokens": plan.tokens, "branches": len(plan.work), "model_ms": model_ms})


def log_failure(plan: StepPlan, error: Exception) -> None:
    """A step failed, and with it its requests, or those whose numbers were not finite."""
    _log.error("step failed", extra={"error": str(error), "branches": len(plan.work)})
