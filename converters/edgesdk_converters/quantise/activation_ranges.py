"""Between which numbers the inputs and outputs of linear layers lie on sample text.

A processor that computes in integers stores an activation with one scale for all tokens, chosen ahead
of time (static quantisation). Whether 16 bits are enough depends on how far the largest value of a text
stands out from an ordinary token's, so that is measured too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import Array
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.token_runs import TokenRuns

LEVELS = 65536
"""Of 16 bits."""

_MARGIN = 1.5  # other texts go further than the sample
_FINEST = 1 / 32  # of an ordinary token's root mean square: rounding then costs less than int8 rows do


@dataclass(frozen=True)
class ActivationRange:
    """What was seen of one value.

    Attributes:
        low: smallest number, at most 0.
        high: largest number, at least 0.
        typical: median over tokens of the root mean square of a token's numbers.
    """

    low: float
    high: float
    typical: float

    @property
    def scale(self) -> float:
        """Distance of two neighbouring levels, with a margin for texts that go further."""
        return max((self.high - self.low) * _MARGIN / (LEVELS - 1), 1e-9)

    @property
    def zero_point(self) -> int:
        """The level that stands for zero."""
        return round(-self.low * _MARGIN / self.scale)

    @property
    def fits(self) -> bool:
        """Whether 16 bits resolve an ordinary token beside the largest one."""
        return self.scale <= self.typical * _FINEST


def measure_ranges(program: Program, sequences: Sequence[NDArray[np.int32]]) -> dict[str, ActivationRange]:
    """Runs texts through a program.

    Args:
        program: with the weights that will run.
        sequences: token ids; each is a text of its own.

    Returns:
        A range for the value that each linear layer reads, and for what it gives before its bias.

    Raises:
        TransformError: there is no token.
    """
    texts = [sequence for sequence in sequences if len(sequence)]
    if not texts:
        raise TransformError("measuring activations needs tokens, got none; give a text")
    runs = TokenRuns(program, texts)
    ranges: dict[str, ActivationRange] = {}
    for node in program.graph.nodes:
        weights: Mapping[str, Array] = {n: program.weights.load(n) for n in node.inputs if runs.is_weight(n)}
        if isinstance(node.op, Linear) and node.inputs[0] not in ranges:
            ranges[node.inputs[0]] = _range(runs.values(node.inputs[0]))
        runs.step(node, weights)
        if isinstance(node.op, Linear):
            biases = [weights[name] for name in node.inputs[2:]]
            outputs = runs.values(node.outputs[0])
            ranges[node.outputs[0]] = _range([y - biases[0] for y in outputs] if biases else outputs)
    return ranges


def _range(values: Sequence[Array]) -> ActivationRange:
    rows = np.concatenate([np.sqrt(np.mean(np.square(value), axis=-1)) for value in values])
    low = min(float(value.min()) for value in values)
    high = max(float(value.max()) for value in values)
    return ActivationRange(min(low, 0.0), max(high, 0.0), float(np.median(rows)))
