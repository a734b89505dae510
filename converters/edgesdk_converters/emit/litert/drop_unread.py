"""Leaves out of a subgraph what leads to none of its outputs.

Lowering skips over reshapes, and then nothing reads some of them. LiteRT plans and runs every operator that
the file has, and its load time grows with the square of the tensors.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from edgesdk_converters.emit.litert.model_file import Subgraph


def drop_unread(subgraph: Subgraph) -> None:
    """Removes operators that lead to no output, then tensors that nothing uses.

    The subgraph is complete: tensors have other indices afterwards. Inputs and outputs all stay.
    """
    used = {index for _, index in (*subgraph.inputs, *subgraph.outputs)}
    kept: list[Any] = []
    for operator in cast(list[Any], subgraph.operators)[::-1]:
        if not used.isdisjoint(operator.outputs.tolist()):
            kept.append(operator)
            used.update(operator.inputs.tolist(), operator.outputs.tolist())
    tensors = cast(list[Any], subgraph.tensors)
    # Blockwise scales are a tensor that the matrix names, not its operator.
    blocks = [_blocks(tensors[index]) for index in used if index >= 0 and _blocks(tensors[index]) is not None]
    used.update(details.scales for details in blocks)
    places = {index: place for place, index in enumerate(sorted(used - {-1}))}
    places[-1] = -1  # an input that is left out
    for details in blocks:
        details.scales = places[details.scales]
    for operator in kept:
        for side in ("inputs", "outputs"):
            old = getattr(operator, side)
            setattr(operator, side, np.asarray([places[index] for index in old.tolist()], np.int32))
    subgraph.operators = kept[::-1]
    subgraph.tensors = [tensors[index] for index in places if index >= 0]
    subgraph.inputs = [(name, places[index]) for name, index in subgraph.inputs]
    subgraph.outputs = [(name, places[index]) for name, index in subgraph.outputs]


def _blocks(tensor: Any) -> Any:
    return None if tensor.quantization is None else tensor.quantization.details
