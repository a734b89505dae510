"""The LiteRT operators that edgesdk writes, and which shapes and types each gives for what it is given.

A closed list: an operator that is not here, or in another version, with other options or other types, is
refused, and so is a result that has another shape than it says. Versions and options are those of schema.fbs.
It knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

FLOAT32, FLOAT16, INT32, INT8, INT4 = 0, 1, 2, 9, 17
FLOATS = (FLOAT32, FLOAT16)
BITS = {FLOAT32: 32, FLOAT16: 16, INT32: 32, INT8: 8, INT4: 4}

Shape = tuple[int, ...]


class OperatorError(ValueError):
    """An operator is not one of ours, or does not fit what it is given."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as an operator sees it.

    Attributes:
        shape: of the tensor.
        type: its number in the schema.
        values: of a constant of int32, row by row: a vector (axes, bounds, shapes) or pairs; None for others.
        constant: whether the file has its elements.
        sparse: whether it has some of them, and where they lie.
    """

    shape: Shape
    type: int
    values: tuple[int, ...] | None = None
    constant: bool = False
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What an operator gives."""

    shape: Shape
    type: int


Options = Mapping[str, int]
Rule = Callable[[Sequence[Operand | None], Options, Operand], Result]
"""Operands (None: left out), options, and what the file says of the result."""


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: in the schema.
        versions: that are written.
        options: number of its options in the union; 0 for none.
        fields: name and `struct` code of each field of the options that may be set, by number.
        operands: how many there are, at least and at most.
        rule: what it gives.
    """

    name: str
    versions: tuple[int, ...]
    options: int
    fields: Mapping[int, tuple[str, str]]
    operands: tuple[int, int]
    rule: Rule


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise OperatorError(what)


def _present(operands: Sequence[Operand | None]) -> list[Operand]:
    found = [operand for operand in operands if operand is not None]
    _need(len(found) == len(operands), "an operand is left out")
    return found


def _floats(operands: Sequence[Operand]) -> int:
    kind = operands[0].type
    _need(kind in FLOATS and all(o.type == kind for o in operands), "operands have different types")
    return kind


def _constants(operand: Operand, count: int | None = None) -> tuple[int, ...]:
    values = operand.values
    if values is None or len(operand.shape) != 1 or (count is not None and len(values) != count):
        raise OperatorError("axes or bounds are no constants of the right length")
    return values


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise result."""
    width = max(len(a), len(b))
    pairs = zip((1,) * (width - len(a)) + a, (1,) * (width - len(b)) + b, strict=True)
    sizes = []
    for x, y in pairs:
        _need(x == y or 1 in (x, y), f"shapes {a} and {b} do not fit")
        sizes.append(max(x, y))
    return tuple(sizes)


def _binary(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    a, b = _present(operands)
    return Result(broadcast(a.shape, b.shape), _floats((a, b)))


def _same(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    (x,) = _present(operands)
    return Result(x.shape, _floats((x,)))


def _softmax(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    (x,) = _present(operands)
    _need(bool(x.shape), "a softmax of a single number")
    return Result(x.shape, _floats((x,)))


def _concat(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    parts = _present(operands)
    axis, first = options["axis"], parts[0].shape
    _need(0 <= axis < len(first), f"axis {axis} of {first}")
    for part in parts:
        same = part.shape[:axis] == first[:axis] and part.shape[axis + 1 :] == first[axis + 1 :]
        _need(len(part.shape) == len(first) and same, f"shapes {first} and {part.shape} do not fit")
    whole = sum(part.shape[axis] for part in parts)
    return Result((*first[:axis], whole, *first[axis + 1 :]), _floats(parts))


def _reshape(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    x, shape = _present(operands)
    wanted = _constants(shape, len(out.shape))
    fits = all(want in (-1, have) for want, have in zip(wanted, out.shape, strict=True))
    _need(fits and wanted.count(-1) <= 1, f"a new shape {wanted} for {out.shape}")
    _need(math.prod(x.shape) == math.prod(out.shape), f"{x.shape} does not fill {out.shape}")
    return Result(out.shape, x.type)


def _transpose(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    x, order = _present(operands)
    axes = _constants(order, len(x.shape))
    _need(sorted(axes) == list(range(len(axes))), f"{axes} is no order of axes")
    return Result(tuple(x.shape[axis] for axis in axes), _floats((x,)))


def _slice(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    x, begin, size = _present(operands)
    rank = len(x.shape)
    starts, sizes = _constants(begin, rank), _constants(size, rank)
    for whole, start, count in zip(x.shape, starts, sizes, strict=True):
        _need(start >= 0 and 0 < count <= whole - start, f"{start} and {count} of {whole}")
    return Result(sizes, _floats((x,)))


def _pad(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    x, added = _present(operands)
    values = added.values
    if values is None or added.shape != (len(x.shape), 2):
        raise OperatorError("what is padded is no constant of the right shape")
    sizes = [whole + sum(values[2 * axis : 2 * axis + 2]) for axis, whole in enumerate(x.shape)]
    _need(min(values) >= 0, f"{values} beside {x.shape}")
    return Result(tuple(sizes), _floats((x,)))


def _strided_slice(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    x, begin, end, strides = _present(operands)
    rank = len(x.shape)
    starts, ends = _constants(begin, rank), _constants(end, rank)
    _need(set(_constants(strides, rank)) <= {1}, "a slice with strides")
    mask = options["end_mask"]
    _need(0 <= mask < 1 << rank, "a slice with unknown axes")
    sizes = []
    for axis, whole in enumerate(x.shape):
        # Bounds of a dimension that varies are those of the largest size.
        stop = whole if mask >> axis & 1 else ends[axis]
        _need(0 <= starts[axis] < stop <= whole, f"{starts[axis]} to {stop} of {whole}")
        sizes.append(stop - starts[axis])
    return Result(tuple(sizes), _floats((x,)))


def _gather(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    table, rows = _present(operands)
    _need(rows.type == INT32 and bool(table.shape), "rows are not picked by integers")
    _need(table.type in (FLOAT32, FLOAT16, INT8), "rows of another type")
    return Result((*rows.shape, *table.shape[1:]), table.type)


def _dequantize(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    (x,) = _present(operands)
    _need(x.type in (FLOAT16, INT8), "numbers that are no integers or float16")
    return Result(x.shape, FLOAT32)


def _densify(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    (x,) = _present(operands)
    return Result(x.shape, x.type)


def _quantize(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    (x,) = _present(operands)
    _need(x.type in FLOATS and out.type in FLOATS, "numbers that are not floating point")
    return Result(x.shape, out.type)


def _reduce(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    x, axes = _present(operands)
    chosen = set(_constants(axes))
    _need(len(chosen) > 0 and all(0 <= axis < len(x.shape) for axis in chosen), "axes that are not there")
    kept = [1 if i in chosen else size for i, size in enumerate(x.shape)]
    if not options["keep_dims"]:
        kept = [size for i, size in enumerate(x.shape) if i not in chosen]
    return Result(tuple(kept), _floats((x,)))


def _fully_connected(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    x, weights = operands[0], operands[1]
    bias = operands[2] if len(operands) > 2 else None
    if x is None or weights is None:
        raise OperatorError("an operand is left out")
    _need(x.type == FLOAT32 and weights.type in (FLOAT32, INT8, INT4), "types that do not fit")
    fits = len(x.shape) >= 1 and len(weights.shape) == 2 and x.shape[-1] == weights.shape[1]
    _need(fits, f"a product of {x.shape} with {weights.shape}")
    if bias is not None:
        _need(bias.type == FLOAT32 and bias.shape == weights.shape[:1], f"a bias of {bias.shape}")
    _need(options["keep_num_dims"] == 1, "a product that drops dimensions")
    return Result((*x.shape[:-1], weights.shape[0]), FLOAT32)


def _batch_matmul(operands: Sequence[Operand | None], options: Options, out: Operand) -> Result:
    a, b = _present(operands)
    _need(min(len(a.shape), len(b.shape)) >= 2, f"a product of {a.shape} with {b.shape}")
    left, right = a.shape[-2:], b.shape[-2:]
    if options["adj_x"]:
        left = left[::-1]
    if options["adj_y"]:
        right = right[::-1]
    _need(left[1] == right[0], f"a product of {a.shape} with {b.shape}")
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    return Result((*batch, left[0], right[1]), _floats((a, b)))


VECTOR = "v"
"""Code of an option that is a vector: it repeats an operand, and is passed over within its bounds."""

_AXIS = {0: ("axis", "i")}
_PRODUCT = {2: ("keep_num_dims", "?"), 3: ("asymmetric", "?")}
_MATMUL = {0: ("adj_x", "?"), 1: ("adj_y", "?")}
_KEEP = {0: ("keep_dims", "?")}

OPERATORS: Mapping[int, Operator] = {
    0: Operator("ADD", (1,), 11, {}, (2, 2), _binary),
    2: Operator("CONCATENATION", (1,), 10, _AXIS, (1, 64), _concat),
    6: Operator("DEQUANTIZE", (2, 3), 38, {}, (1, 1), _dequantize),
    8: Operator("FLOOR", (1,), 0, {}, (1, 1), _same),
    9: Operator("FULLY_CONNECTED", (5, 12, 13), 8, _PRODUCT, (2, 3), _fully_connected),
    14: Operator("LOGISTIC", (1,), 0, {}, (1, 1), _same),
    18: Operator("MUL", (1,), 21, {}, (2, 2), _binary),
    22: Operator("RESHAPE", (1,), 17, {0: ("new_shape", VECTOR)}, (2, 2), _reshape),
    25: Operator("SOFTMAX", (1,), 9, {0: ("beta", "f")}, (1, 1), _softmax),
    28: Operator("TANH", (1,), 0, {}, (1, 1), _same),
    34: Operator("PAD", (1,), 22, {}, (2, 2), _pad),
    36: Operator("GATHER", (1, 2), 23, {}, (2, 2), _gather),
    39: Operator("TRANSPOSE", (1,), 26, {}, (2, 2), _transpose),
    40: Operator("MEAN", (1,), 27, _KEEP, (2, 2), _reduce),
    41: Operator("SUB", (1,), 28, {}, (2, 2), _binary),
    42: Operator("DIV", (1,), 29, {}, (2, 2), _binary),
    45: Operator("STRIDED_SLICE", (1,), 32, {1: ("end_mask", "i")}, (4, 4), _strided_slice),
    55: Operator("MAXIMUM", (1,), 39, {}, (2, 2), _binary),
    57: Operator("MINIMUM", (1,), 39, {}, (2, 2), _binary),
    65: Operator("SLICE", (1,), 48, {}, (3, 3), _slice),
    74: Operator("SUM", (1,), 27, _KEEP, (2, 2), _reduce),
    76: Operator("RSQRT", (1,), 0, {}, (1, 1), _same),
    82: Operator("REDUCE_MAX", (1,), 27, _KEEP, (2, 2), _reduce),
    89: Operator("REDUCE_MIN", (1,), 27, _KEEP, (2, 2), _reduce),
    114: Operator("QUANTIZE", (1,), 89, {}, (1, 1), _quantize),
    116: Operator("ROUND", (1,), 0, {}, (1, 1), _same),
    124: Operator("DENSIFY", (1,), 99, {}, (1, 1), _densify),
    126: Operator("BATCH_MATMUL", (1,), 101, _MATMUL, (2, 2), _batch_matmul),
    150: Operator("GELU", (1,), 116, {0: ("approximate", "?")}, (1, 1), _same),
}
"""By number in the schema's `BuiltinOperator`."""
