"""Hands numpy memory to LiteRT with its shape, without a copy.

The Python wrapper of LiteRT 2.3 binds host memory as one-dimensional only, and a RESHAPE inside the
graph copies: 2 ms of an 8 ms step at 512 cells (docs/decisions/0002). The C API below it takes any
shape, so buffers are made through it. `supported()` says what it lacks here, whatever its version;
`described_shape` lets a caller check the layout of the C structures against a buffer it knows.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.version import package_version

_NEEDED = (
    "LiteRtAddOpaqueOptions",
    "LiteRtCompiledModelIsFullyAccelerated",
    "LiteRtCompiledModelResizeInputTensorNonStrict",
    "LiteRtCreateCompiledModel",
    "LiteRtCreateEnvironment",
    "LiteRtCreateModelFromBuffer",
    "LiteRtCreateModelFromFile",
    "LiteRtCreateOpaqueOptions",
    "LiteRtCreateOptions",
    "LiteRtCreateTensorBufferFromHostMemory",
    "LiteRtGetCompiledModelInputTensorLayout",
    "LiteRtGetModelSignature",
    "LiteRtGetSignatureKey",
    "LiteRtGetTensorBufferTensorType",
    "LiteRtRunCompiledModel",
    "LiteRtSetOptionsHardwareAccelerators",
)
# Its wrapper came with environments as an argument of what opens a file, in 2.1.5.
_ENVIRONMENTS = "ai_edge_litert.environment"
_OPTIONS = "ai_edge_litert.options"
_CAPSULE = b"LiteRtTensorBuffer"
_ELEMENT_TYPES = {"float32": 1, "int32": 2, "int8": 9, "float16": 10}

Bindable = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int32] | NDArray[np.int8]


class Layout(ctypes.Structure):
    """LiteRtLayout: the rank in the lowest seven bits, then dimensions and strides."""

    _fields_ = (
        ("rank", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions; () where there are more than there can be."""
        rank = self.rank & 0x7F
        return tuple(self.dimensions[:rank]) if rank <= len(self.dimensions) else ()


class _TensorType(ctypes.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = (("element_type", ctypes.c_int), ("layout", Layout))


class HostBuffer:
    """A LiteRT tensor buffer over numpy memory.

    Attributes:
        capsule: what the LiteRT wrapper passes to its native code.
        shape: of the array.
    """

    def __init__(self, array: Bindable) -> None:
        """Binds an aligned, C-contiguous array, which stays referenced as long as the buffer lives.

        Raises:
            RuntimeError: LiteRT refused it.
        """
        library = _library()
        kind = _TensorType(_ELEMENT_TYPES[array.dtype.name])
        kind.layout.rank = array.ndim
        kind.layout.dimensions[: array.ndim] = list(array.shape)
        self._array = array
        self.shape = array.shape
        self._pointer = ctypes.c_void_p()
        status = library.LiteRtCreateTensorBufferFromHostMemory(
            ctypes.byref(kind), array.ctypes.data, array.nbytes, None, ctypes.byref(self._pointer)
        )
        if status:
            raise RuntimeError(f"LiteRT refused host memory of shape {array.shape} (status {status})")
        self.capsule = _new_capsule(self._pointer)

    @property
    def address(self) -> int | None:
        """Of LiteRT's buffer, for calls of its C API; None once closed."""
        return self._pointer.value

    def close(self) -> None:
        """Releases the buffer, not the memory."""
        if self._pointer:
            _library().LiteRtDestroyTensorBuffer(self._pointer)
            self._pointer = ctypes.c_void_p()

    def __del__(self) -> None:
        """Releases the buffer."""
        self.close()


@cache
def supported() -> str | None:
    """None if shaped host memory can be used, else the reason why not."""
    try:
        installed = package_version("ai-edge-litert")
    except PackageNotFoundError:
        return "ai-edge-litert is not installed"
    lacking = [name for name in (_ENVIRONMENTS, _OPTIONS) if find_spec(name) is None]
    if lacking:
        return f"ai-edge-litert {installed} has no {lacking[0]}; upgrade it to 2.1.6 or later"
    try:
        library = _library()
        lacking = [name for name in _NEEDED if not hasattr(library, name)]
    except (OSError, AttributeError) as error:
        return f"the C library of ai-edge-litert {installed} cannot be used: {error}"
    return f"the C library of ai-edge-litert {installed} has no {lacking[0]}" if lacking else None


def described_shape(capsule: object) -> tuple[int, ...]:
    """The shape of a float32 buffer that the wrapper made, as the C library describes it.

    Compared with what is known of the buffer, it tells whether the structures above are the library's.
    """
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kind = _TensorType()
    status = _library().LiteRtGetTensorBufferTensorType(get_pointer(capsule, _CAPSULE), ctypes.byref(kind))
    if status or kind.element_type != _ELEMENT_TYPES["float32"]:
        return ()
    shape: tuple[int, ...] = kind.layout.shape
    return shape


def c_library() -> ctypes.CDLL:
    """LiteRT's C library, the one that the wrapper uses.

    Raises:
        OSError: it cannot be opened.
        AttributeError: it lacks a function that host memory needs.
    """
    return _library()


def library_path() -> Path:
    """Where LiteRT's C library is installed."""
    import ai_edge_litert

    name = {"darwin": "libLiteRt.dylib", "win32": "libLiteRt.dll"}.get(sys.platform, "libLiteRt.so")
    return Path(ai_edge_litert.__path__[0]) / name


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(library_path()))
    library.LiteRtCreateTensorBufferFromHostMemory.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    library.LiteRtDestroyTensorBuffer.argtypes = [ctypes.c_void_p]
    library.LiteRtGetTensorBufferTensorType.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return library


def _new_capsule(pointer: ctypes.c_void_p) -> object:
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule: object = make(pointer, _CAPSULE, None)
    return capsule
