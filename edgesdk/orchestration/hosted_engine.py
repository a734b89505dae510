"""The engine that a plan runs on: the caller's own, or one that is opened on a model for one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgesdk.engine.engine import Engine
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.model import Model
from edgesdk.plans.model_or_engine import ModelOrEngine

_WHOLE_STEPS = 1 << 20
"""Nobody but this call waits for a token, so steps are as large as they come, and nothing is measured."""


@contextmanager
def engine_on(on: ModelOrEngine) -> Iterator[Engine]:
    """An engine, which is closed afterwards if it was opened here; what is left in it is cancelled then.

    Raises:
        UnsupportedOption: it is neither a model nor an engine, or the backend keeps its cache to itself.
        DeviceError: the model is closed.
    """
    if isinstance(on, Engine):
        yield on
        return
    if not isinstance(on, Model):
        raise UnsupportedOption(f"found {quoted(on)}, expected a loaded model or an engine")
    engine = Engine(on, token_budget=_WHOLE_STEPS)
    try:
        yield engine
    finally:
        engine.close(drain=False)
