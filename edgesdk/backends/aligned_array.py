"""Arrays at addresses that backends can use in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgesdk.backends.protocol import Array, Float, Float16, Int, Int8
from edgesdk.bundle.port import NumberType

ALIGNMENT_BYTES = 64
"""What LiteRT asks of host memory, and a cache line."""


def aligned_floats(*shape: int) -> Float:
    """A zeroed float32 array at a multiple of 64; untouched pages take no memory."""
    count = math.prod(shape)
    memory = np.zeros(count + ALIGNMENT_BYTES // 4, np.float32)
    start = (-memory.ctypes.data % ALIGNMENT_BYTES) // 4  # numpy itself aligns to 16 bytes only
    return memory[start : start + count].reshape(shape)


def aligned_halves(*shape: int) -> Float16:
    """A zeroed float16 array at a multiple of 64."""
    count = math.prod(shape)
    return aligned_floats(-(-count // 2)).view(np.float16)[:count].reshape(shape)


def aligned_ints(*shape: int) -> Int:
    """A zeroed int32 array at a multiple of 64."""
    return aligned_floats(*shape).view(np.int32)


def aligned_bytes(*shape: int) -> Int8:
    """A zeroed int8 array at a multiple of 64."""
    count = math.prod(shape)
    return aligned_floats(-(-count // 4)).view(np.int8)[:count].reshape(shape)


def aligned_array(dtype: NumberType, *shape: int) -> Array:
    """A zeroed array of a port or of cells at a multiple of 64."""
    return _MAKERS[dtype](*shape)


_MAKERS: dict[NumberType, Callable[..., Array]] = {
    "float32": aligned_floats,
    "float16": aligned_halves,
    "int32": aligned_ints,
    "int8": aligned_bytes,
}
