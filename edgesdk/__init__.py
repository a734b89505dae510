"""On-device language models.

    import edgesdk

    with edgesdk.load("bundle") as model:
        print(model.generate("The sea is").text)
        print(model.receipt)

The public names are imported when they are first used: `import edgesdk` itself costs next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgesdk.bundle.reader import Bundle, open_bundle
    from edgesdk.decoding.beam import Beam
    from edgesdk.decoding.completion import Chunk, Completion
    from edgesdk.decoding.logprobs import TokenLogprob
    from edgesdk.decoding.options import GenerationOptions
    from edgesdk.decoding.stream import Stream
    from edgesdk.devices.governor import Governor, GovernorRule, GovernorSettings
    from edgesdk.devices.receipt import Receipt, Refusal
    from edgesdk.engine.engine import Engine
    from edgesdk.engine.metrics import EngineMetrics, RequestMetrics
    from edgesdk.engine.request_options import RequestOptions
    from edgesdk.engine.session import Session
    from edgesdk.engine.stream import Generation
    from edgesdk.errors import (
        BundleError,
        CapacityError,
        CheckpointError,
        DeviceError,
        EdgeError,
        EmitError,
        MissingExtra,
        QueueFull,
        SnapshotError,
        ToolCallError,
        TransformError,
        UnsupportedOption,
    )
    from edgesdk.load_model import load
    from edgesdk.load_options import LoadOptions
    from edgesdk.model import Model
    from edgesdk.text.messages import Message
    from edgesdk.text.tools import Tool, ToolCall

    __version__: str

# ONNX Runtime reads it when it is loaded (edgesdk/backends/onnxruntime_telemetry.py). Here it stands before
# any import of ours, in probes too; who has set it has chosen.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Beam",
    "Bundle",
    "BundleError",
    "CapacityError",
    "CheckpointError",
    "Chunk",
    "Completion",
    "DeviceError",
    "EdgeError",
    "EmitError",
    "Engine",
    "EngineMetrics",
    "Generation",
    "GenerationOptions",
    "Governor",
    "GovernorRule",
    "GovernorSettings",
    "LoadOptions",
    "Message",
    "MissingExtra",
    "Model",
    "QueueFull",
    "Receipt",
    "Refusal",
    "RequestMetrics",
    "RequestOptions",
    "Session",
    "SnapshotError",
    "Stream",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallError",
    "TransformError",
    "UnsupportedOption",
    "__version__",
    "load",
    "open_bundle",
]

_ERRORS = {name for name in __all__ if name.endswith("Error")} | {
    "MissingExtra",
    "QueueFull",
    "UnsupportedOption",
}
_HOMES = {
    "Beam": "edgesdk.decoding.beam",
    "Bundle": "edgesdk.bundle.reader",
    "Chunk": "edgesdk.decoding.completion",
    "Completion": "edgesdk.decoding.completion",
    "Engine": "edgesdk.engine.engine",
    "EngineMetrics": "edgesdk.engine.metrics",
    "Generation": "edgesdk.engine.stream",
    "GenerationOptions": "edgesdk.decoding.options",
    "Governor": "edgesdk.devices.governor",
    "GovernorRule": "edgesdk.devices.governor",
    "GovernorSettings": "edgesdk.devices.governor",
    "LoadOptions": "edgesdk.load_options",
    "Message": "edgesdk.text.messages",
    "Model": "edgesdk.model",
    "Receipt": "edgesdk.devices.receipt",
    "Refusal": "edgesdk.devices.receipt",
    "RequestMetrics": "edgesdk.engine.metrics",
    "RequestOptions": "edgesdk.engine.request_options",
    "Session": "edgesdk.engine.session",
    "Stream": "edgesdk.decoding.stream",
    "TokenLogprob": "edgesdk.decoding.logprobs",
    "Tool": "edgesdk.text.tools",
    "ToolCall": "edgesdk.text.tools",
    "load": "edgesdk.load_model",
    "open_bundle": "edgesdk.bundle.reader",
} | dict.fromkeys(_ERRORS, "edgesdk.errors")


def __getattr__(name: str) -> object:
    if name == "__version__":
        from edgesdk.version import read_version

        return read_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'edgesdk' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
