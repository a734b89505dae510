"""Several texts on their way through a graph together, node by node, so that each weight is read once.

It holds the values that later nodes still need, one set per text. What is done between nodes is the
caller's business: see `calibrate` and `choose_scales`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.evaluate import LOWERINGS, Array
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.all_cores import on_all_cores
from edgesdk_converters.quantise.int8_rows import round_rows_to_int8


class TokenRuns:
    """The values of every text at one place of the graph."""

    def __init__(
        self, program: Program, sequences: Sequence[NDArray[np.int32]], *, int8_activations: bool = False
    ) -> None:
        """Starts before the first node.

        Args:
            program: the model.
            sequences: token ids; each is a text of its own.
            int8_activations: round what linear layers read to int8 rows, as XNNPACK does.
        """
        self._weights = frozenset(value.name for value in program.graph.weights)
        self._last_use = {n: i for i, node in enumerate(program.graph.nodes) for n in node.inputs}
        self._texts: list[dict[str, Array]] = [
            {name: np.asarray(value) for name, value in sequence_inputs(program, [s]).items()}
            for s in sequences
        ]
        self._int8 = int8_activations
        self._at = 0

    def is_weight(self, name: str) -> bool:
        """Whether a name is that of a weight."""
        return name in self._weights

    def values(self, name: str) -> list[Array]:
        """A value that is still needed, in every text."""
        return [text[name] for text in self._texts]

    def linear_inputs(self, name: str) -> list[Array]:
        """The same as a linear layer reads it: rounded, if activations are."""
        return [self._read(value) for value in self.values(name)]

    def step(self, node: Node, weights: Mapping[str, Array]) -> None:
        """Runs the graph's next node in every text, and forgets what no later node needs.

        Args:
            node: the next in the graph's order.
            weights: numbers for the weights that it reads.
        """

        def run(text: dict[str, Array]) -> None:
            arguments = [weights[n] if n in weights else text[n] for n in node.inputs]
            if isinstance(node.op, Linear):
                arguments[0] = self._read(arguments[0])
            text.update(zip(node.outputs, LOWERINGS[type(node.op)](node.op, np, *arguments), strict=True))
            for name in node.inputs:
                if self._last_use[name] <= self._at:
                    text.pop(name, None)

        on_all_cores(run, self._texts)
        self._at += 1

    def _read(self, x: Array) -> Array:
        return round_rows_to_int8(x) if self._int8 else x
