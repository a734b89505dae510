"""The backends there are, in the order in which they are preferred on CPU.

One row a backend: what it opens, where it runs, what it can do, how. A new backend is a new row, and nothing
else keeps a list of names.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
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
from edgesdk.backends.openvino_step import open_openvino
from edgesdk.backends.qnn.open_qnn import open_qnn, open_qnn_compiled
from edgesdk.bundle.manifest import CellType, DeviceClass, Format
from edgesdk.errors import UnsupportedOption, quoted

_ANY: tuple[CellType, ...] = ("float32", "float16", "int8")


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
        host_cells: whether it runs steps over cells that the host owns, which many requests share, fork and
            save (the engine, beam search, phases on two devices); else each sequence keeps its own cache.
        cell_types: of the variants that it can run.
    """

    name: str
    format: Format
    device_classes: tuple[DeviceClass, ...]
    package: str
    automatic: bool
    open: Callable[[OpenRequest], Opened]
    provider: str | None = None
    host_cells: bool = True
    cell_types: tuple[CellType, ...] = ("float32",)


BACKENDS = (
    Backend("litert", "litert", ("cpu",), "ai-edge-litert", True, open_compiled, cell_types=_ANY),
    Backend("onnxruntime", "onnx-resident", ("cpu",), "onnxruntime", True, open_resident, host_cells=False),
    Backend(
        "litert-interpreter",
        "litert",
        ("cpu",),
        "ai-edge-litert",
        True,
        open_interpreter,
        cell_types=_ANY,
    ),
    Backend(
        "tflite-runtime",
        "litert",
        ("cpu",),
        "tflite-runtime",
        True,
        open_tflite_runtime,
        cell_types=("float32", "int8"),  # it multiplies no float16 cells
    ),
    Backend("onnxruntime-step", "onnx-step", ("cpu",), "onnxruntime", True, open_step),
    Backend(
        "onnxruntime_genai",
        "onnx-resident",
        ("cpu",),
        "onnxruntime-genai",
        False,
        open_genai,
        host_cells=False,
    ),
    # Not tried unasked, but by a goal, which measures it: what it gains depends on the processor.
    Backend("openvino", "onnx-step", ("cpu", "gpu", "npu"), "openvino", False, open_openvino),
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
    Backend(
        "litert-gpu",
        "litert",
        ("gpu",),
        "ai-edge-litert",
        False,
        open_compiled_on_gpu,
        "LiteRT GPU",
        cell_types=_ANY,
    ),
    # Not tried unasked: no test of this project has run Core ML itself, and the interpreter only proves.
    Backend("coreml", "coreml", ("npu",), "coremltools", False, open_all),
    Backend("coreml-gpu", "coreml", ("gpu",), "coremltools", False, open_gpu),
    Backend("coreml-cpu", "coreml", ("cpu",), "coremltools", False, open_cpu),
    Backend("coreml-interpreter", "coreml", ("cpu",), "coremltools", False, open_mil),
    Backend("coreml-state", "coreml-state", ("npu",), "coremltools", False, open_state, host_cells=False),
    Backend(
        "coreml-state-interpreter",
        "coreml-state",
        ("cpu",),
        "coremltools",
        False,
        open_mil_state,
        host_cells=False,
    ),
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
        names = ["auto", *(backend.name for backend in BACKENDS)]
        near = difflib.get_close_matches(name[:100], names, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(names)}"
        raise UnsupportedOption(f"backend {quoted(name)} is unknown; {hint}")
    return found


def first_backend(format: Format) -> Backend | None:
    """The backend that is tried first for a format on the CPU; None where none is tried unasked."""
    return next((b for b in BACKENDS if b.format == format and b.automatic), None)


def host_cell_backends(formats: Iterable[Format] | None = None) -> tuple[str, ...]:
    """Names of the backends whose cells the host owns, in order.

    Args:
        formats: that they are to open; None for any.
    """
    wanted = None if formats is None else set(formats)
    return tuple(b.name for b in BACKENDS if b.host_cells and (wanted is None or b.format in wanted))
