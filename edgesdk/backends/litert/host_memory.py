"""Hands numpy memory to LiteRT with its shape, without a copy.

The Python wrapper of LiteRT 2.3 binds host memory as one-dimensional only, and a RESHAPE inside the
graph copies: 2 ms of an 8 ms step at 512 cells (docs/decisions/0002). The C API below it takes any
shape, so buffers are made through it. `supported()` says why that cannot be done here, and
`described_shape` lets a caller check the layout of the C structures against a buffer it knows.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_KNOWN_VERSIONS = ("2.3",)  # whose LiteRtCreateTensorBufferFromHostMemory takes five arguments
_CAPSULE = b"LiteRtTensorBuffer"
_ELEMENT_TYPES = {"float32": 1, "int32": 2, "int8": 9, "float16": 10}

Bindable = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int32] | NDArray[np.int8]


class _Layout(ctypes.Structure):
    """LiteRtLayout: the rank in the lowest seven bits, then dimensions and strides."""

    _fields_ = (
        ("rank", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _TensorType(ctypes.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = (("element_type", ctypes.c_int), ("layout", _Layout))


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
        installed = version("ai-edge-litert")
    except PackageNotFoundError:
        return "ai-edge-litert is not installed"
    if not installed.startswith(_KNOWN_VERSIONS):
        return f"ai-edge-litert {installed} was not tested for it (tested: {', '.join(_KNOWN_VERSIONS)})"
    try:
        _library()
    except (OSError, AttributeError) as error:
        return f"LiteRT's C library cannot be used: {error}"
    return None


def described_shape(capsule: object) -> tuple[int, ...]:
    """The shape of a float32 buffer that the wrapper made, as the C library describes it.

    Compared with what is known of the buffer, it tells whether the structures above are the library's.
    """
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kind = _TensorType()
    status = _library().LiteRtGetTensorBufferTensorType(get_pointer(capsule, _CAPSULE), ctypes.byref(kind))
    rank = kind.layout.rank & 0x7F
    if status or kind.element_type != _ELEMENT_TYPES["float32"] or rank > len(kind.layout.dimensions):
        return ()
    return tuple(kind.layout.dimensions[:rank])


def c_library() -> ctypes.CDLL:
    """LiteRT's C library, the one that the wrapper uses.

    Raises:
        OSError: it cannot be opened.
        AttributeError: it lacks a function that host memory needs.
    """
    return _library()


@cache
def _library() -> ctypes.CDLL:
    import ai_edge_litert

    name = {"darwin": "libLiteRt.dylib", "win32": "libLiteRt.dll"}.get(sys.platform, "libLiteRt.so")
    library = ctypes.CDLL(str(Path(ai_edge_litert.__path__[0]) / name))
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
