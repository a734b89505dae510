"""An int8 product without the loss of int8 activations: on the input, and on what rounding it loses.

MatMulNBits with accuracy level 4 rounds each block of its input (as many columns as a block of the weights)
to 127 steps either side of 0. What that loses is a second row, which is rounded on a grid about 250 times as
fine; one product reads the weights for both, and their sum is that of the input itself to 16 bits. The same
for ONNX Runtime as `emit.litert.two_rows` for XNNPACK, whose grid spans a whole row.
"""

from __future__ import annotations

from collections.abc import Callable

from edgesdk_converters.emit.onnx.resident_state import ResidentLowering

_STEPS = 127
_NO_STEP = 1e-30
"""Least step: a block of zeros has none that could be divided by."""


def two_rows(
    state: ResidentLowering, x: str, name: str, columns: int, block: int, product: Callable[[str, str], str]
) -> str:
    """A product whose activations are exact to 16 bits.

    Args:
        state: of the model.
        x: (batch, sequence, columns) float32.
        name: of the result.
        columns: a multiple of the block.
        block: columns that are rounded together.
        product: appends the product: of an input's name and its result's.

    Returns:
        The name of the result.
    """
    if x not in state.stacked:
        state.stacked[x] = _stack(state, x, name, columns, block)
    both = product(state.stacked[x], f"{name}.rows")
    parts = [f"{name}.kept", f"{name}.lost"]
    state.model.node("Split", [both], parts, {"axis": 0, "num_outputs": 2})
    return state.model.node("Add", parts, [name])


def _stack(state: ResidentLowering, x: str, name: str, columns: int, block: int) -> str:
    """x above what rounding it loses: (2 * batch, sequence, columns)."""
    model, at = state.model, f"{name}.input"
    blocks = state.reshape(x, f"{at}.blocks", [0, 0, columns // block, block])
    size = model.node("Abs", [blocks], [f"{at}.sizes"])
    most = model.node("ReduceMax", [size, model.integers([-1])], [f"{at}.most"], {"keepdims": 1})
    step = model.node("Mul", [most, model.number(1 / _STEPS)], [f"{at}.span"])
    step = model.node("Max", [step, model.number(_NO_STEP)], [f"{at}.step"])
    steps = model.node("Div", [blocks, step], [f"{at}.steps"])
    whole = model.node("Round", [steps], [f"{at}.whole"])
    kept = model.node("Mul", [whole, step], [f"{at}.rounded"])
    lost = model.node("Sub", [blocks, kept], [f"{at}.rest"])
    lost = state.reshape(lost, f"{at}.lost", [0, 0, columns])
    return model.node("Concat", [x, lost], [f"{at}.stacked"], {"axis": 0})
