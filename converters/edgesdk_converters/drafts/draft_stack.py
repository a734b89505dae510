"""A trained draft as a stack in the file of its target: the target's table, and matrices of its own.

The first layer's product with [state; token] is two products that are added, one for each half, so that
nothing is joined. Where the target's stream was rotated, its table holds rotated rows e R; the weights for
the token's half are turned with them, (G diag(w)) R, and nothing is left to do at run time
(`transforms.rotate_residual`). States are in the checkpoint's own basis, as the target's output `hidden` is.
Of the target's head the rows of the draft's tokens are copied: no format multiplies with some of the rows.

Letters: E hidden size, F width, V' tokens of the draft, T tokens: one for each text that goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import StepShape, WeightRecord
from edgesdk.bundle.stack_record import NEXT_STATE, STATE
from edgesdk.bundle.step_contract import draft_contract
from edgesdk_converters.checkpoints.require_finite import require_finite
from edgesdk_converters.drafts.draft_checkpoint import DraftCheckpoint
from edgesdk_converters.emit.further_stack import FurtherStack
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Graph, GraphBuilder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Rule, Scheme
from edgesdk_converters.quantise.weight_records import weight_records
from edgesdk_converters.transforms.rotate_residual import stream_rotation

PREFIX = "draft."
"""What the names of its own weights begin with."""

_INT8 = Scheme(8, None, "round")
_EMBEDDED = ("embedded.scaled", "embedded")


@dataclass(frozen=True)
class DraftStack:
    """A draft with what it takes from its target.

    Attributes:
        draft: the checkpoint.
        head: (V', E) float32, rows of the target's head in its checkpoint's basis.
    """

    draft: DraftCheckpoint
    head: Array

    def written(
        self, program: Program, weights: QuantisedWeights, steps: tuple[StepShape, ...]
    ) -> FurtherStack:
        """What is written beside a target.

        Args:
            program: the target, after every transform.
            weights: its weights under a recipe; where that stores integers, the draft's are int8 as well.
            steps: sizes of the draft.

        Raises:
            CheckpointError: a norm of the draft cannot be taken into the product after it.
        """
        own = _own_weights(self.draft, self.head, stream_rotation(program))
        graph = _graph(program.graph, self.draft)
        base = DerivedWeights(
            program.weights, {name: _constant(value) for name, value in own.items()}, frozenset()
        )
        scheme = _INT8 if weights.recipe.stores_integers else None
        recipe = replace(
            weights.recipe, rules=(Rule(f"{PREFIX}*", scheme), *weights.recipe.rules), activations=()
        )
        shared = {v.name for v in graph.weights if v.name not in own and weights.scheme(v.name) is not None}
        stored = {name: weights.stored(name) for name in shared}
        return FurtherStack(
            Program(program.spec, graph, base, program.history),
            steps,
            QuantisedWeights(base, recipe, stored),
            draft_contract(self.draft.config.hidden_size, len(self.draft.vocabulary)),
        )


def own_bytes(stack: FurtherStack) -> int:
    """Bytes of what only a draft reads, as its file has them, about."""
    weights, total = stack.weights, 0
    assert weights is not None  # a draft has some
    for value in stack.program.graph.weights:
        if value.name.startswith(PREFIX):
            rows, count = int(value.shape[0]), int(np.prod([int(size) for size in value.shape]))
            quantised = weights.scheme(value.name) is not None
            total += (
                count + 4 * rows
                if quantised
                else count * (2 if weights.recipe.float_type == "float16" else 4)
            )
    return total


def own_records(stack: FurtherStack) -> tuple[WeightRecord, ...]:
    """How the matrices that only a draft reads came from its checkpoint."""
    assert stack.weights is not None  # a draft has some
    records = weight_records(stack.program, stack.weights)
    return tuple(record for record in records if record.name.startswith(PREFIX))


def _graph(target: Graph, draft: DraftCheckpoint) -> Graph:
    """The target's look-up, then the draft."""
    config = draft.config
    E, F, eps = config.hidden_size, config.width, config.norm_eps
    embedded = next(name for name in _EMBEDDED if name in target.values)
    g = GraphBuilder()
    tokens = next(value for value in target.inputs if value.name == "tokens")
    g.input(tokens.name, tokens.shape, tokens.dtype)
    g.input(STATE, ("T", E))
    lookup = _upto(target, embedded)
    for value in lookup.weights:
        g.weight(value.name, value.shape)
    for node in lookup.nodes:
        g.add(node.op, node.inputs, *node.outputs)

    def linear(x: str, name: str, out: int, into: int) -> str:
        weight = g.weight(f"{PREFIX}{name}", (out, into))
        return g.add(ops.Linear(), [x, weight], f"{PREFIX}{name}.out")[0]

    def norm(x: str, name: str) -> str:
        weight = g.weight(f"{PREFIX}{name}", (E,))
        return g.add(ops.RmsNorm(eps), [x, weight], f"{PREFIX}{name}.out")[0]

    def add(x: str, y: str, name: str) -> str:
        return g.add(ops.Add(), [x, y], name)[0]

    (token,) = g.add(ops.RmsNorm(eps), [embedded], f"{PREFIX}token")
    state = STATE
    for layer in range(config.layers):
        at, last = f"layers.{layer}", layer + 1 == config.layers
        x = norm(state, "norm_s" if not layer else f"{at}.norm")
        both = linear(x, f"{at}.gate_up", 2 * F, E)
        if not layer:
            both = add(both, linear(token, f"{at}.gate_up_token", 2 * F, E), f"{PREFIX}{at}.joined")
        gate, up = g.add(ops.Split((F, F)), [both], f"{PREFIX}{at}.gate", f"{PREFIX}{at}.up")
        (gate,) = g.add(ops.Activate("silu"), [gate], f"{PREFIX}{at}.activated")
        (gated,) = g.add(ops.Multiply(), [gate, up], f"{PREFIX}{at}.gated")
        down = linear(gated, f"{at}.down", E, F)
        state = add(state, down, NEXT_STATE if last else f"{PREFIX}{at}.sum")
    x = norm(state, "norm_o")
    head = g.weight(f"{PREFIX}head", (len(draft.vocabulary), E))
    g.add(ops.Linear(), [x, head], "logits")
    return g.build(["logits", NEXT_STATE])


def _upto(graph: Graph, value: str) -> Graph:
    """What makes one value of a graph."""
    g = GraphBuilder()
    for given in graph.inputs:
        g.input(given.name, given.shape, given.dtype)
    for weight in graph.weights:
        g.weight(weight.name, weight.shape)
    for node in graph.nodes:
        g.add(node.op, node.inputs, *node.outputs)
    return g.build([value])


def _own_weights(
    draft: DraftCheckpoint, head: Array, rotation: NDArray[np.float64] | None
) -> Mapping[str, Array]:
    """The draft's weights under the names of its graph.

    Raises:
        CheckpointError: they are too large for float32.
    """
    E, tensors = draft.config.hidden_size, draft.tensors
    own: dict[str, Array] = {
        "norm_s": tensors["norm_s.weight"],
        "norm_o": tensors["norm_o.weight"],
        "head": head,
    }
    for layer in range(draft.config.layers):
        at = f"layers.{layer}"
        both = np.concatenate([tensors[f"{at}.gate.weight"], tensors[f"{at}.up.weight"]])
        own[f"{at}.gate_up"] = both[:, :E]
        own[f"{at}.down"] = tensors[f"{at}.down.weight"]
        if layer:
            own[f"{at}.norm"] = tensors[f"{at}.norm.weight"]
            continue
        token = both[:, E:].astype(np.float64) * tensors["norm_e.weight"]
        with np.errstate(over="ignore"):
            turned = (token if rotation is None else token @ rotation).astype(np.float32)
        # Numbers of a checkpoint are finite each; products of two of them need not be.
        require_finite(turned, "the draft", f"{at}: gate and up times norm_e")
        own[f"{at}.gate_up_token"] = turned
    return {f"{PREFIX}{name}": value for name, value in own.items()}


def _constant(value: Array) -> Derived:
    return Derived(value.shape, lambda base: value)
