"""The MIL operations that the Core ML emitter writes, in numpy (coremltools, `mil.ops`, iOS 18).

Each takes its inputs under the names that MIL gives them and computes in float32; rounding to
float16 afterwards is the interpreter's business. A parameter that is not here is refused, so nothing
is silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import BundleError

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]
Flag: TypeAlias = NDArray[np.bool_]
Result: TypeAlias = "Floats | Ints | tuple[Floats, ...]"


def _binary(compute: Callable[[Floats, Floats], Floats]) -> Callable[..., Floats]:
    def run(x: Floats, y: Floats) -> Floats:
        return compute(x, y)

    return run


def _matmul(x: Floats, y: Floats, transpose_x: Flag, transpose_y: Flag) -> Floats:
    left = np.swapaxes(x, -1, -2) if transpose_x else x
    right = np.swapaxes(y, -1, -2) if transpose_y else y
    return cast(Floats, left @ right)


def _linear(x: Floats, weight: Floats, bias: Floats) -> Floats:
    y: Floats = x @ weight.T
    y += bias
    return y


def _gather(x: Floats, indices: Ints, axis: Ints, batch_dims: Ints, validate_indices: Flag) -> Floats:
    _expect(int(batch_dims) == 0, "gather with batch_dims")
    _expect(not bool(validate_indices), "gather with validate_indices")
    size = x.shape[int(axis)]
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        raise BundleError(f"gather reads row {indices.min()} to {indices.max()} of {size}")
    return np.take(x, indices, axis=int(axis))


def _reshape(x: Floats, shape: Ints) -> Floats:
    return x.reshape(tuple(int(size) for size in shape))


def _transpose(x: Floats, perm: Ints) -> Floats:
    return np.ascontiguousarray(np.transpose(x, tuple(int(axis) for axis in perm)))


def _expand_dims(x: Floats, axes: Ints) -> Floats:
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def _concat(values: tuple[Floats, ...], axis: Ints, interleave: Flag) -> Floats:
    _expect(not bool(interleave), "concat with interleave")
    return np.concatenate(values, axis=int(axis))


def _split(x: Floats, split_sizes: Ints, axis: Ints) -> tuple[Floats, ...]:
    _expect(int(split_sizes.sum()) == x.shape[int(axis)], "split into other sizes than there are")
    return tuple(np.split(x, np.cumsum(split_sizes)[:-1].tolist(), axis=int(axis)))


def _slice_update(
    x: Floats,
    update: Floats,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Flag | None = None,
    end_mask: Flag | None = None,
    squeeze_mask: Flag | None = None,
) -> Floats:
    _expect(stride is None or bool((stride == 1).all()), "slice_update with a stride")
    for mask in (begin_mask, end_mask, squeeze_mask):
        _expect(mask is None or not mask.any(), "slice_update with a mask")
    _expect(bool((begin >= 0).all() and (end <= x.shape).all()), "slice_update beyond its tensor")
    out = x.copy()
    out[tuple(slice(int(a), int(b)) for a, b in zip(begin, end, strict=True))] = update
    return out


def _reduce_max(x: Floats, axes: Ints, keep_dims: Flag) -> Floats:
    return cast(Floats, np.max(x, axis=tuple(axes.tolist()), keepdims=bool(keep_dims)))


def _reduce_mean(x: Floats, axes: Ints, keep_dims: Flag) -> Floats:
    return cast(Floats, np.mean(x, axis=tuple(axes.tolist()), keepdims=bool(keep_dims)))


def _reduce_sum(x: Floats, axes: Ints, keep_dims: Flag) -> Floats:
    return cast(Floats, np.sum(x, axis=tuple(axes.tolist()), keepdims=bool(keep_dims)))


def _abs(x: Floats) -> Floats:
    return np.abs(x)


def _rsqrt(x: Floats, epsilon: Floats) -> Floats:
    return cast(Floats, np.float32(1) / np.sqrt(x + epsilon))


def _tanh(x: Floats) -> Floats:
    return np.tanh(x)


def _silu(x: Floats) -> Floats:
    # The clip keeps exp from overflowing; sigmoid(-80) is already 0 in float16 products.
    return cast(Floats, x / (np.float32(1) + np.exp(-np.clip(x, -80, 80))))


def _gelu(x: Floats, mode: str) -> Floats:
    _expect(mode == "TANH_APPROXIMATION", f"gelu in the mode {mode}")
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return cast(Floats, np.float32(0.5) * x * (np.float32(1) + np.tanh(inner)))


def _softmax(x: Floats, axis: Ints) -> Floats:
    y = x - x.max(axis=int(axis), keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=int(axis), keepdims=True)
    return cast(Floats, y)


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise BundleError(f"the Core ML interpreter does not run {what}; convert the bundle again")


@dataclass(frozen=True)
class Computation:
    """How one operation is run.

    Attributes:
        run: takes inputs by MIL's names.
        rounds: whether its results are new numbers; moving numbers about needs no rounding.
        required: inputs without a default.
        known: every input.
    """

    run: Callable[..., Result]
    rounds: bool
    required: frozenset[str]
    known: frozenset[str]


def _computation(run: Callable[..., Result], rounds: bool) -> Computation:
    parameters = signature(run).parameters.values()
    required = frozenset(p.name for p in parameters if p.default is Parameter.empty)
    return Computation(run, rounds, required, frozenset(p.name for p in parameters))


_NEW_NUMBERS: Mapping[str, Callable[..., Result]] = {
    "add": _binary(lambda x, y: x + y),
    "sub": _binary(lambda x, y: x - y),
    "mul": _binary(lambda x, y: x * y),
    "real_div": _binary(lambda x, y: x / y),
    "matmul": _matmul,
    "linear": _linear,
    "reduce_mean": _reduce_mean,
    "reduce_sum": _reduce_sum,
    "rsqrt": _rsqrt,
    "tanh": _tanh,
    "silu": _silu,
    "gelu": _gelu,
    "softmax": _softmax,
}
_MOVED_NUMBERS: Mapping[str, Callable[..., Result]] = {
    "maximum": _binary(np.maximum),
    "abs": _abs,
    "reduce_max": _reduce_max,
    "gather": _gather,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "concat": _concat,
    "split": _split,
    "slice_update": _slice_update,
}
OPERATIONS: Mapping[str, Computation] = {
    **{name: _computation(run, True) for name, run in _NEW_NUMBERS.items()},
    **{name: _computation(run, False) for name, run in _MOVED_NUMBERS.items()},
}
"""Every operation by name, save constants (`const`, `constexpr_...`) and those on states."""
