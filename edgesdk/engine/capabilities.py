"""What the engine asks of a backend: that the host owns its cells. Which do is a field of the registry."""

from __future__ import annotations

from collections.abc import Iterable

from edgesdk.backends.protocol import SequenceBackend, StepBackend
from edgesdk.backends.registry import host_cell_backends
from edgesdk.bundle.manifest import Format
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


def step_backend_of(loaded: SequenceBackend, name: str, formats: Iterable[Format]) -> StepBackend:
    """The step backend inside a loaded model.

    Args:
        loaded: what a model runs on.
        name: of the backend, for the message.
        formats: of the bundle's variants, which say what else could run it.

    Raises:
        UnsupportedOption: it keeps its cache to itself.
    """
    if isinstance(loaded, StepModel):
        return loaded.backend
    able = host_cell_backends(formats)
    instead = (
        f"load the bundle with backend= one of {', '.join(able)}"
        if able
        else "convert to a target whose steps the host feeds, such as litert or onnx-step"
    )
    raise UnsupportedOption(
        f"the engine cannot run on {name}, which keeps its cache to itself: it lacks "
        f"{', '.join(ENGINE_FEATURES)}; {instead}"
    )
