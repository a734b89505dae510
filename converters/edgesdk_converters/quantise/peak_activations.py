"""How large each input channel of each linear layer gets on sample text, and which stand out.

Peaks, not means: a kernel that quantises a row of activations takes its scale from the largest one
(SmoothQuant, arXiv 2211.10438, section 3; LLM.int8(), arXiv 2208.07339, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import Array
from edgesdk_converters.graph.low_rank_term import is_inner
from edgesdk_converters.graph.ops import Linear, RmsNorm
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.token_runs import TokenRuns


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
    runs = TokenRuns(program, [sequence for sequence in sequences if len(sequence)])
    peaks: dict[str, Array] = {}
    for node in program.graph.nodes:
        if isinstance(node.op, Linear) and node.inputs[0] not in peaks:
            values = runs.values(node.inputs[0])
            peaks[node.inputs[0]] = np.max([np.abs(value).max(axis=0) for value in values], axis=0)
        runs.step(node, {n: program.weights.load(n) for n in node.inputs if runs.is_weight(n)})
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
        if is_inner(program.graph, node.outputs[0]):  # it reads every channel without loss
            continue
        made = program.graph.producer(node.inputs[0])
        if made is not None and isinstance(made.op, RmsNorm):
            largest = np.argsort(-peaks[node.inputs[0]], kind="stable")[:count]
            found[node.inputs[1]] = tuple(sorted(int(channel) for channel in largest))
    return found
