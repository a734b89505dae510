"""What the engine asks of a backend, and which backends have it: the one place that says so."""

from __future__ import annotations

from edgesdk.backends.protocol import LoadedBackend, StepBackend
from edgesdk.errors import UnsupportedOption
from edgesdk.kv.step_model import StepModel

ENGINE_FEATURES = (
    "continuous batching",
    "chunked prefill",
    "prefix reuse",
    "forked samples",
    "sessions that fork and rewind",
    "snapshots",
)
"""What needs a cache in the host's memory; `Model` does without on every backend."""

STEP_BACKENDS = ("litert", "litert-interpreter", "tflite-runtime", "onnxruntime-step")
"""Backends whose cache the host owns, so that one step can serve many requests."""


def engine_features(backend: str) -> tuple[str, ...]:
    """What of `ENGINE_FEATURES` a backend supports, by the name in the registry or a receipt."""
    return ENGINE_FEATURES if backend in STEP_BACKENDS else ()


def step_backend_of(loaded: LoadedBackend, name: str) -> StepBackend:
    """The step backend inside a loaded model.

    Args:
        loaded: what a model runs on.
        name: of the backend, for the message.

    Raises:
        UnsupportedOption: it keeps its cache to itself.
    """
    if isinstance(loaded, StepModel):
        return loaded.backend
    raise UnsupportedOption(
        f"the engine cannot run on {name}, which keeps its cache to itself: it lacks "
        f"{', '.join(ENGINE_FEATURES)}; load the bundle with backend= one of {', '.join(STEP_BACKENDS)}"
    )
