"""What each operator gives, and what it takes."""

import itertools

import numpy as np
import pytest

from edgesdk.backends.litert.operator_shapes import (
    FLOAT16,
    FLOAT32,
    INT4,
    INT8,
    INT32,
    OPERATORS,
    Operand,
    OperatorError,
    Result,
    broadcast,
)

RULES = {operator.name: operator.rule for operator in OPERATORS.values()}


def floats(*shape):
    return Operand(shape, FLOAT32)


def numbers(*values):
    return Operand((len(values),), INT32, values, constant=True)


def pairs(*values):
    return Operand((len(values) // 2, 2), INT32, values, constant=True)


NONE = Operand((), FLOAT32)

FITS = [
    ("ADD", [floats(2, 3), floats(3)], {}, NONE, (2, 3)),
    ("CONCATENATION", [floats(2, 1, 4), floats(2, 5, 4)], {"axis": 1}, NONE, (2, 6, 4)),
    ("TRANSPOSE", [floats(2, 3, 4), numbers(1, 0, 2)], {}, NONE, (3, 2, 4)),
    ("RESHAPE", [floats(2, 6), numbers(-1, 3)], {}, floats(4, 3), (4, 3)),
    ("SLICE", [floats(4, 5), numbers(1, 0), numbers(3, 5)], {}, NONE, (3, 5)),
    ("PAD", [floats(4, 5), pairs(0, 0, 2, 3)], {}, NONE, (4, 10)),
    (
        "STRIDED_SLICE",
        [floats(4, 5), numbers(0, 1), numbers(-1, 3), numbers(1, 1)],
        {"end_mask": 1},
        NONE,
        (4, 2),
    ),
    ("GATHER", [Operand((9, 2), FLOAT32), Operand((3,), INT32)], {}, NONE, (3, 2)),
    ("MEAN", [floats(2, 3, 4), numbers(2)], {"keep_dims": 1}, NONE, (2, 3, 1)),
    ("SUM", [floats(2, 3, 4), numbers(2)], {"keep_dims": 0}, NONE, (2, 3)),
    ("FULLY_CONNECTED", [floats(2, 3), Operand((5, 3), INT8), None], {"keep_num_dims": 1}, NONE, (2, 5)),
    ("FULLY_CONNECTED", [floats(2, 3), Operand((5, 3), INT4), floats(5)], {"keep_num_dims": 1}, NONE, (2, 5)),
    ("BATCH_MATMUL", [floats(3, 2, 4), floats(3, 5, 4)], {"adj_x": 0, "adj_y": 1}, NONE, (3, 2, 5)),
    ("SOFTMAX", [floats(2, 3)], {"beta": 1}, NONE, (2, 3)),
]


@pytest.mark.parametrize(("name", "operands", "options", "out", "shape"), FITS)
def test_results(name, operands, options, out, shape):
    assert RULES[name](operands, options, out) == Result(shape, FLOAT32)


def test_types():
    half = Operand((2,), FLOAT16)
    assert RULES["QUANTIZE"]([floats(2)], {}, half) == Result((2,), FLOAT16)
    assert RULES["DEQUANTIZE"]([half], {}, NONE) == Result((2,), FLOAT32)
    assert RULES["MUL"]([half, half], {}, NONE) == Result((2,), FLOAT16)


MISFITS = [
    ("ADD", [floats(2, 3), floats(2)], {}, NONE),
    ("ADD", [floats(2), Operand((2,), FLOAT16)], {}, NONE),
    ("ADD", [floats(2), None], {}, NONE),
    ("CONCATENATION", [floats(2, 1), floats(3, 1)], {"axis": 1}, NONE),
    ("CONCATENATION", [floats(2), floats(2)], {"axis": 1}, NONE),
    ("CONCATENATION", [floats(2), floats(2)], {"axis": -1}, NONE),
    ("TRANSPOSE", [floats(2, 3), numbers(0, 0)], {}, NONE),
    ("TRANSPOSE", [floats(2, 3), numbers(0, 2)], {}, NONE),
    ("TRANSPOSE", [floats(2, 3), Operand((2,), INT32)], {}, NONE),
    ("RESHAPE", [floats(2, 6), numbers(5, 3)], {}, floats(5, 3)),
    ("RESHAPE", [floats(2, 6), numbers(-1, -1)], {}, floats(4, 3)),
    ("SLICE", [floats(4), numbers(2), numbers(3)], {}, NONE),
    ("PAD", [floats(4, 5), pairs(0, 0, -2, 3)], {}, NONE),
    ("PAD", [floats(4, 5), pairs(0, 3)], {}, NONE),
    ("PAD", [floats(4, 5), numbers(0, 0, 2, 3)], {}, NONE),
    ("PAD", [floats(4, 5), Operand((2, 2), INT32)], {}, NONE),
    ("MEAN", [floats(2, 3, 4), pairs(0, 1)], {"keep_dims": 1}, NONE),
    ("SLICE", [floats(4), numbers(-1), numbers(3)], {}, NONE),
    ("STRIDED_SLICE", [floats(4), numbers(0), numbers(5), numbers(1)], {"end_mask": 0}, NONE),
    ("STRIDED_SLICE", [floats(4), numbers(0), numbers(2), numbers(2)], {"end_mask": 0}, NONE),
    ("STRIDED_SLICE", [floats(4), numbers(0), numbers(2), numbers(1)], {"end_mask": 2}, NONE),
    ("GATHER", [floats(9, 2), floats(3)], {}, NONE),
    ("MEAN", [floats(2, 3), numbers(2)], {"keep_dims": 1}, NONE),
    ("FULLY_CONNECTED", [floats(2, 3), Operand((5, 4), INT8), None], {"keep_num_dims": 1}, NONE),
    ("FULLY_CONNECTED", [floats(2, 3), Operand((5, 3), INT8), floats(4)], {"keep_num_dims": 1}, NONE),
    ("BATCH_MATMUL", [floats(3, 2, 4), floats(3, 5, 4)], {"adj_x": 0, "adj_y": 0}, NONE),
    ("BATCH_MATMUL", [floats(4), floats(4)], {"adj_x": 0, "adj_y": 0}, NONE),
    ("SOFTMAX", [NONE], {"beta": 1}, NONE),
]


@pytest.mark.parametrize(("name", "operands", "options", "out"), MISFITS)
def test_what_does_not_fit_is_refused(name, operands, options, out):
    with pytest.raises(OperatorError):
        RULES[name](operands, options, out)


def test_broadcasting_is_that_of_numpy():
    shapes = [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (4, 2, 3)]
    for a, b in itertools.product(shapes, repeat=2):
        try:
            expected = np.broadcast_shapes(a, b)
        except ValueError:
            with pytest.raises(OperatorError):
                broadcast(a, b)
            continue
        assert broadcast(a, b) == expected
