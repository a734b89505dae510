"""How large each input channel of each linear layer gets on sample text, and which stand out.

Peaks, not means: a kernel that quantises a row of activations takes its scale from the largest one
(SmoothQuant, arXiv 2211.10438, section 3; LLM.int8(), arXiv 2208.07339, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from converters.graph.evaluate import LOWERINGS, Array
from converters.graph.full_sequence import sequence_inputs
from converters.graph.ops import Linear, RmsNorm
from converters.graph.program import Program
from edgesdk.errors import TransformError


def peak_activations(program: Program, sequences: Sequence[NDArray[np.int32]]) -> dict[str, Array]:
    """Runs texts and keeps the largest magnitude of every channel that a linear layer reads.

    Args:
        program: any; its weights are read once per text.
        sequences: token ids; each is a text of its own.

    Returns:
        (I,) float32 by the value that is read.

    Raises:
        TransformError: there is no token.
    """
    if not any(len(sequence) for sequence in sequences):
        raise TransformError("measuring activations needs tokens, got none; give a text")
    graph = program.graph
    constants = {value.name for value in graph.weights}
    read = {node.inputs[0] for node in graph.nodes if isinstance(node.op, Linear)}
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    runs: list[dict[str, Array]] = [
        dict(sequence_inputs(program, [sequence]).items())  # type: ignore[arg-type]
        for sequence in sequences
        if len(sequence)
    ]
    peaks: dict[str, Array] = {}
    for i, node in enumerate(graph.nodes):
        weights = {name: program.weights.load(name) for name in node.inputs if name in constants}
        for values in runs:
            arguments = [weights[name] if name in weights else values[name] for name in node.inputs]
            results = LOWERINGS[type(node.op)](node.op, np, *arguments)
            for name, result in zip(node.outputs, results, strict=True):
                values[name] = result
                if name in read:
                    peak = np.abs(result).max(axis=0)
                    peaks[name] = np.maximum(peaks.get(name, peak), peak)
            for name in node.inputs:
                if last_use[name] == i:
                    values.pop(name, None)
    return peaks


def outlier_channels(program: Program, peaks: Mapping[str, Array], count: int) -> dict[str, tuple[int, ...]]:
    """The largest channels of every linear layer that reads a norm of the residual stream.

    Those inputs have a few channels far above the others, the same for siblings; inputs that attention
    or a gate has made hardly do (docs/quantisation.md has the measurements).

    Args:
        program: whose layers are meant.
        peaks: from `peak_activations`, of this program or one with the same norms.
        count: channels per layer.

    Returns:
        Channels by the weight of the layer, in ascending order.
    """
    found: dict[str, tuple[int, ...]] = {}
    for node in program.graph.nodes:
        if not isinstance(node.op, Linear) or node.inputs[0] not in peaks:
            continue
        made = program.graph.producer(node.inputs[0])
        if made is not None and isinstance(made.op, RmsNorm):
            largest = np.argsort(-peaks[node.inputs[0]], kind="stable")[:count]
            found[node.inputs[1]] = tuple(sorted(int(channel) for channel in largest))
    return found
