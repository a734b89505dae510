"""The backends there are, in the order in which they are preferred on CPU.

One row a backend: what it opens, where it runs, how. A new backend is a new row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgesdk.backends.coreml.open_coreml import (
    open_all,
    open_cpu,
    open_gpu,
    open_mil,
    open_mil_state,
    open_state,
)
from edgesdk.backends.litert.open_litert import (
    open_compiled,
    open_compiled_on_gpu,
    open_interpreter,
    open_tflite_runtime,
)
from edgesdk.backends.onnxruntime_genai import open_genai
from edgesdk.backends.onnxruntime_resident import open_resident
from edgesdk.backends.onnxruntime_step import open_step
from edgesdk.backends.onnxruntime_webgpu import open_webgpu
from edgesdk.backends.opened import Opened, OpenRequest
from edgesdk.backends.qnn.open_qnn import open_qnn, open_qnn_compiled
from edgesdk.bundle.manifest import DeviceClass, Format
from edgesdk.errors import UnsupportedOption


@dataclass(frozen=True)
class Backend:
    """One way to run a variant.

    Attributes:
        name: as users write it.
        format: variants it opens.
        device_classes: where it runs.
        package: distribution that must be installed.
        automatic: whether `load` tries it unasked.
        open: opens a variant; raises DeviceError or MissingExtra when it cannot.
        provider: delegate or execution provider by which it reaches its devices, as discovery names it.
            On a gpu or npu it is usable where discovery finds a device of that provider; None where the
            package alone decides.
    """

    name: str
    format: Format
    device_classes: tuple[DeviceClass, ...]
    package: str
    automatic: bool
    open: Callable[[OpenRequest], Opened]
    provider: str | None = None


BACKENDS = (
    Backend("litert", "litert", ("cpu",), "ai-edge-litert", True, open_compiled),
    Backend("onnxruntime", "onnx-resident", ("cpu",), "onnxruntime", True, open_resident),
    Backend("litert-interpreter", "litert", ("cpu",), "ai-edge-litert", True, open_interpreter),
    Backend("tflite-runtime", "litert", ("cpu",), "tflite-runtime", True, open_tflite_runtime),
    Backend("onnxruntime-step", "onnx-step", ("cpu",), "onnxruntime", True, open_step),
    Backend("onnxruntime_genai", "onnx-resident", ("cpu",), "onnxruntime-genai", False, open_genai),
    # Not tried unasked: each is known on a simulator or a software driver only, whose speed says nothing.
    Backend(
        "onnxruntime-qnn-compiled",
        "onnx-context",
        ("npu",),
        "onnxruntime-qnn",
        False,
        open_qnn_compiled,
        "QNNExecutionProvider",
    ),
    Backend(
        "onnxruntime-qnn", "onnx-step", ("npu",), "onnxruntime-qnn", False, open_qnn, "QNNExecutionProvider"
    ),
    Backend(
        "onnxruntime-webgpu",
        "onnx-step",
        ("gpu",),
        "onnxruntime-webgpu",
        False,
        open_webgpu,
        "WebGpuExecutionProvider",
    ),
    Backend("litert-gpu", "litert", ("gpu",), "ai-edge-litert", False, open_compiled_on_gpu, "LiteRT GPU"),
    # Not tried unasked: no test of this project has run Core ML itself, and the interpreter only proves.
    Backend("coreml", "coreml", ("npu",), "coremltools", False, open_all),
    Backend("coreml-gpu", "coreml", ("gpu",), "coremltools", False, open_gpu),
    Backend("coreml-cpu", "coreml", ("cpu",), "coremltools", False, open_cpu),
    Backend("coreml-interpreter", "coreml", ("cpu",), "coremltools", False, open_mil),
    Backend("coreml-state", "coreml-state", ("npu",), "coremltools", False, open_state),
    Backend("coreml-state-interpreter", "coreml-state", ("cpu",), "coremltools", False, open_mil_state),
)


def find_backends(name: str) -> tuple[Backend, ...]:
    """Backends to try for a name; `auto` gives all that are tried unasked, in order.

    Raises:
        UnsupportedOption: there is no backend of that name.
    """
    if name == "auto":
        return tuple(backend for backend in BACKENDS if backend.automatic)
    found = tuple(backend for backend in BACKENDS if backend.name == name)
    if not found:
        names = ", ".join(backend.name for backend in BACKENDS)
        raise UnsupportedOption(f"backend {name!r} is unknown; expected auto, {names}")
    return found
