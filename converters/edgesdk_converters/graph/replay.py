"""Runs a step graph again from the middle: what changes one layer need not compute those before it.

A cut is a place between two nodes where one computed value is all that later nodes need: in a
decoder, the residual stream between halves of blocks. `Replay` remembers that value at every cut
of one run, and runs the rest of the graph from any cut, with other weights or another stream. Who
measures what a weight or a layer is worth pays half of a run on average, and none of the memory of
keeping every value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import LOWERINGS, Array
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.weights import Weights


class Replay:
    """One run of a graph, remembered at its cuts."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        inputs: Mapping[str, NDArray[np.generic]],
        output: str = "logits",
    ) -> None:
        """Runs the graph once.

        Args:
            graph: a step graph.
            weights: numbers for its weights.
            inputs: an array for every input of the graph.
            output: the one output that is wanted; nodes that only others need are left out.
        """
        self._weights = weights
        self._constants = {value.name for value in graph.weights}
        self._inputs: dict[str, Array] = {name: np.asarray(value) for name, value in inputs.items()}
        self._nodes = _needed(graph, output)
        self._output = output
        self._last_use = {name: i for i, node in enumerate(self._nodes) for name in node.inputs}
        self._streams = _streams(self._nodes, self._last_use, output)
        self._kept: dict[int, Array] = {}
        self.result: Array = self._run(0, {}, weights, keep=True)
        """The wanted output of the first run."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """Indices of the nodes before which there is a cut, in order."""
        return tuple(self._streams)

    def cut_before(self, weight: str) -> int:
        """The last cut before the first node that reads a weight; 0 where there is none.

        Raises:
            TransformError: no node reads it.
        """
        first = next((i for i, node in enumerate(self._nodes) if weight in node.inputs), None)
        if first is None:
            raise TransformError(f"no node of the graph reads the weight {weight!r}")
        return max((cut for cut in self._streams if cut <= first), default=0)

    def cut_after(self, value: str) -> int:
        """The cut whose stream is `value`.

        Raises:
            TransformError: there is none.
        """
        for cut, name in self._streams.items():
            if name == value:
                return cut
        raise TransformError(f"the graph has no cut at {value!r}")

    def stream(self, cut: int) -> Array:
        """The value at a cut in the first run."""
        return self._kept[cut]

    def run(
        self, cut: int = 0, stream: Array | None = None, changed: Mapping[str, Array] | None = None
    ) -> Array:
        """Runs from a cut to the end.

        Args:
            cut: one of `cuts`, or 0 for the whole graph.
            stream: the value there; None for that of the first run.
            changed: weights to use in place of the graph's.

        Returns:
            The wanted output.
        """
        values: dict[str, Array] = {}
        if cut in self._streams:
            values[self._streams[cut]] = self._kept[cut] if stream is None else stream
        return self._run(cut, values, _Changed(self._weights, changed or {}), keep=False)

    def _run(self, start: int, values: dict[str, Array], weights: Weights | _Changed, *, keep: bool) -> Array:
        values = {**self._inputs, **values}
        for i in range(start, len(self._nodes)):
            if keep and i in self._streams:
                self._kept[i] = values[self._streams[i]]
            node = self._nodes[i]
            arguments = [weights.load(n) if n in self._constants else values[n] for n in node.inputs]
            results = LOWERINGS[type(node.op)](node.op, np, *arguments)
            values.update(zip(node.outputs, results, strict=True))
            for name in node.inputs:
                if self._last_use[name] == i and name in values and name not in self._inputs:
                    del values[name]
        return values[self._output]


class _Changed:
    def __init__(self, base: Weights, changed: Mapping[str, Array]) -> None:
        self._base = base
        self._changed = changed

    def load(self, name: str) -> Array:
        found = self._changed.get(name)
        return self._base.load(name) if found is None else found


def _needed(graph: Graph, output: str) -> tuple[Node, ...]:
    wanted = {output}
    kept = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(kept))


def _streams(nodes: tuple[Node, ...], last_use: Mapping[str, int], output: str) -> dict[int, str]:
    """For each cut, the name of the one value that crosses it."""
    live: set[str] = set()
    found: dict[int, str] = {}
    for i, node in enumerate(nodes):
        if len(live) == 1:
            found[i] = next(iter(live))
        live -= {name for name in node.inputs if last_use[name] == i}
        live |= {name for name in node.outputs if last_use.get(name, -1) > i or name == output}
    return found
