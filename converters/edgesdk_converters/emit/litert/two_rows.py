"""An int8 product without the loss of int8 activations: on the input, and on what rounding it loses.

XNNPACK rounds each row x of a product's input to a grid of its own: 255 steps from min(x, 0) to max(x, 0),
with 0 on it. The same grid is computed here, and what it loses of x is a second row, which is rounded on a
grid about 250 times as fine. One product reads the weights once for both, and their sum is that of x itself
to 16 bits. The first row has to be x as it is: rounded beforehand it falls off XNNPACK's grid.

All first rows stand above all second ones. It knows neither recipes nor other kernels.
"""

from __future__ import annotations

from edgesdk_converters.emit.litert.model_file import Varying
from edgesdk_converters.emit.litert.state import Lowering

_STEPS = 255
_NO_RANGE = 1e-30
"""Least upper end of a row's range: one of zeros, or of denormals, has no step that could be divided by."""


def two_rows(
    state: Lowering, x: int, matrix: int, name: str, shape: tuple[int, ...], options: object, version: int
) -> int:
    """A FULLY_CONNECTED whose activations are exact to 16 bits.

    Args:
        state: of the signature.
        x: (T, K) float32.
        matrix: (N, K) integers.
        name: of the result.
        shape: of the result, (T, N).
        options: of FULLY_CONNECTED.
        version: of FULLY_CONNECTED.
    """
    if x not in state.stacked:
        state.stacked[x] = _stack(state, x, name)
    T, N = shape
    both = state.emit(
        "FULLY_CONNECTED", [state.stacked[x], matrix, -1], f"{name}.rows", (2 * T, N), options, version
    )
    reducer = state.schema.ReducerOptionsT()
    reducer.keepDims = T == 1
    if T != 1 or isinstance(T, Varying):
        both = state.reshape(both, f"{name}.pairs", (2, T, N))
    return state.emit("SUM", [both, state.subgraph.integers("axis", [0])], name, shape, reducer)


def _stack(state: Lowering, x: int, name: str) -> int:
    """x above what rounding it loses: (2 * T, K).

    LiteRT's load time grows with the square of the operators, and this stands before every product.
    """
    T, K = shape = state.subgraph.shape(x)
    one = (T, 1)
    axis = state.subgraph.integers("axis", [1])
    ends = []
    for reduce, clip, bound in (("REDUCE_MAX", "MAXIMUM", _NO_RANGE), ("REDUCE_MIN", "MINIMUM", 0)):
        reducer = state.schema.ReducerOptionsT()
        reducer.keepDims = True
        end = state.emit(reduce, [x, axis], f"{name}.{reduce.lower()}", one, reducer)
        ends.append(state.binary(clip, end, state.subgraph.number(bound), f"{name}.{clip.lower()}", one))
    span = state.binary("SUB", ends[0], ends[1], f"{name}.span", one)
    # As XNNPACK has it: by the reciprocal of the step, to the nearest, to the even one of two.
    inverse = state.binary("DIV", state.subgraph.number(_STEPS), span, f"{name}.inverse", one)
    steps = state.binary("MUL", x, inverse, f"{name}.steps", shape)
    whole = state.emit("ROUND", [steps], f"{name}.whole", shape)
    kept = state.binary("DIV", whole, inverse, f"{name}.kept", shape)
    lost = state.binary("SUB", x, kept, f"{name}.lost", shape)
    return state.concat([x, lost], 0, f"{name}.stacked", (2 * T, K))
