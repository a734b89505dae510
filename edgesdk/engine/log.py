"""What the engine logs, by the standard library and with figures in `extra`: the logger `edgesdk.engine`.

A line at INFO for each request that ends, at DEBUG for each step, at ERROR for each that fails. No
prompts, no answers.
"""

from __future__ import annotations

import logging

from edgesdk.engine.branch import Request
from edgesdk.engine.failure import describe
from edgesdk.engine.step_plan import StepPlan

_log = logging.getLogger("edgesdk.engine")


def log_end(request: Request, outcome: str) -> None:
    """A request ended: with a finish reason, or `error`."""
    if not _log.isEnabledFor(logging.INFO):
        return
    figures = request.metrics(0)
    counts = ("prompt_tokens", "cached_tokens", "new_tokens", "preemptions")
    drafts = ("steps", "drafted_tokens", "kept_tokens")
    times = ("queue_ms", "ttft_ms", "tbt_p50_ms", "tbt_p99_ms", "decode_tokens_per_s")
    extra = {name: getattr(figures, name) for name in (*counts, *drafts, *times)}
    write_log(logging.INFO, "request ended", outcome=outcome, samples=request.samples, **extra)


def log_step(plan: StepPlan, drafted: int, kept: int, model_ms: float) -> None:
    """A step has run."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    figures = {"tokens": plan.tokens, "branches": len(plan.work), "drafted": drafted, "kept": kept}
    write_log(logging.DEBUG, "step", **figures, model_ms=model_ms)


def log_failure(plan: StepPlan, error: BaseException) -> None:
    """A step failed, and with it its requests, or those whose numbers were not finite."""
    write_log(logging.ERROR, "step failed", error=describe(error), branches=len(plan.work))


def write_log(level: int, message: str, **extra: object) -> None:
    """A line with figures; whatever a handler of the caller's raises ends here, in the engine's thread."""
    try:
        _log.log(level, message, extra=extra)
    except BaseException:  # noqa: BLE001 - other requests go on
        return
