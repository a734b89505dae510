"""The target as training sees it: frozen, run once, by the graph's own evaluator under jax.

A whole text goes through in one call of fixed size (several texts side by side that cannot see each other),
so that it is compiled once. It gives what a draft reads and is judged by: h, what the head reads (the output
of the final norm, in the checkpoint's own basis), and log Z, the logarithm of the sum of exponentials of all
logits. The distribution over some words then is exp(logits of these words - log Z), for which `TargetHead`
needs their rows of the head alone. It knows no draft, no loss and no file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import LOWERINGS, Lowering, Namespace, evaluate, turn
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.rotary import rotary_table

Array: TypeAlias = jax.Array
NumpyArray: TypeAlias = NDArray[np.float32]

HIDDEN = "final_norm.out"
"""Name of the value that the head reads (`graph/decoder.py`)."""


@dataclasses.dataclass(frozen=True)
class HiddenStates:
    """What the frozen target says of one text of n tokens.

    Attributes:
        hidden: (n, E) float32, what the head reads after each token.
        log_z: (n,) float32, log sum exp of all logits.
    """

    hidden: NDArray[np.float32]
    log_z: NDArray[np.float32]


class ArrayWeights:
    """Weights that are arrays already, traced ones too."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        """Looks names up in `arrays`."""
        self._arrays = arrays

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight."""
        return self._arrays[name].shape

    def load(self, name: str) -> NumpyArray:
        """The array."""
        return cast(NumpyArray, self._arrays[name])  # the evaluator's type stands for both


class FrozenTarget:
    """Runs a program on whole texts; the weights are read once.

    Attributes:
        most_tokens: of one call.
        hidden_size: E.
    """

    def __init__(self, program: Program, most_tokens: int, value: str = HIDDEN) -> None:
        """Reads the weights.

        Args:
            program: the decoder of the checkpoint, before any transform.
            most_tokens: of one call; no text may be longer.
            value: the (T, E) of the graph that is given as `hidden`; with another than what the head reads
                the head is not run, and `log_z` is 0.
        """
        graph = program.graph
        whole = value == HIDDEN
        kept = _only(graph, (HIDDEN, "logits") if whole else (value,))
        self._program = dataclasses.replace(program, graph=kept)
        self.most_tokens = most_tokens
        self.hidden_size = program.spec.hidden_size
        self._weights = {value.name: jnp.asarray(program.weights.load(value.name)) for value in kept.weights}
        lowerings = {**LOWERINGS, ops.Rotate: rotate_by_table(most_tokens)}

        def run(weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> tuple[Array, Array]:
            out = run_graph(kept, weights, inputs, lowerings)
            if not whole:
                return out[value], jnp.zeros(out[value].shape[:1])
            return out[HIDDEN], jax.nn.logsumexp(out["logits"], axis=-1)

        self._run = jax.jit(run)

    def states(self, texts: Sequence[NDArray[np.int32]]) -> list[HiddenStates]:
        """States of texts that fit into one call together.

        Args:
            texts: (n,) int32 each, `most_tokens` together at most.
        """
        used = sum(len(text) for text in texts)
        padding = np.zeros(self.most_tokens - used, np.int32)
        inputs = sequence_inputs(self._program, [*texts, padding] if len(padding) else texts)
        hidden, log_z = (np.asarray(each) for each in self._run(self._weights, inputs))
        ends = np.cumsum([len(text) for text in texts])
        return [
            HiddenStates(hidden[end - len(text) : end], log_z[end - len(text) : end])
            for text, end in zip(texts, ends, strict=True)
        ]


class TargetHead:
    """The target's logits of some words, from what its head reads."""

    def __init__(self, program: Program, words: NDArray[np.int32]) -> None:
        """Reads the rows of the head.

        Args:
            program: the decoder of the checkpoint, before any transform.
            words: (V',) int32 rising ids.
        """
        name = "embed" if program.spec.tied_head else "head"
        self.rows: Array = jnp.asarray(program.weights.load(name)[words])
        graph = program.graph
        tail = _after_hidden(graph, name)
        self._tail, self._name = tail, name

    def logits(self, hidden: Array, rows: Array | None = None) -> Array:
        """Logits of the words, scaled and capped as the target does it.

        Args:
            hidden: (..., E), what the head reads.
            rows: (V', E), of the head; None for `rows` of this object.

        Returns:
            (..., V').
        """
        flat = hidden.reshape(-1, hidden.shape[-1])
        weights = {self._name: self.rows if rows is None else rows}
        out = run_graph(self._tail, weights, {HIDDEN: flat}, LOWERINGS)
        return out["logits"].reshape(*hidden.shape[:-1], -1)


def run_graph(
    graph: Graph,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    lowerings: Mapping[type[ops.Op], Lowering],
) -> dict[str, Array]:
    """Evaluates a graph on jax's arrays, traced ones too: outputs by name."""
    given = cast("Mapping[str, NDArray[np.generic]]", inputs)
    return cast("dict[str, Array]", evaluate(graph, ArrayWeights(weights), given, jnp, lowerings))


def scaled_embedding(program: Program) -> NDArray[np.float32]:
    """(V, E) float32: what the target's blocks get of each token."""
    return np.asarray(program.weights.load("embed") * np.float32(program.spec.embedding_scale), np.float32)


def _only(graph: Graph, outputs: tuple[str, ...]) -> Graph:
    """The part of a graph that some values need."""
    needed, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    weights = tuple(value for value in graph.weights if value.name in needed)
    return dataclasses.replace(graph, nodes=tuple(reversed(kept)), weights=weights, outputs=outputs)


def _after_hidden(graph: Graph, head: str) -> Graph:
    """What makes logits of what the head reads."""
    found = next(i for i, node in enumerate(graph.nodes) if HIDDEN in node.outputs)
    kept = _only(graph, ("logits",))
    nodes = tuple(node for node in graph.nodes[found + 1 :] if node in kept.nodes)
    weights = tuple(value for value in graph.weights if value.name == head)
    inputs = (graph.values[HIDDEN],)
    return dataclasses.replace(kept, inputs=inputs, nodes=nodes, weights=weights)


def rotate_by_table(count: int) -> Lowering:
    """Rotary embedding whose positions may be traced: angles of `count` positions are computed beforehand."""

    def rotate(op: ops.Rotate, xp: Namespace, x: NumpyArray, positions: NumpyArray) -> tuple[NumpyArray, ...]:
        cos, sin = (xp.asarray(rows)[positions] for rows in rotary_table(op.rotary, count))
        return (turn(op, xp, x, cos, sin),)

    return rotate
