"""Repairs a stack that layers were removed from: the half before each gap learns to stand in for it.

What the last half before a gap adds to the stream is changed linearly so that the stream after it comes
close to what the whole stack had behind the gap; least squares on calibration text, in closed form, and
folded into that half's last matrix. Nothing is added to the graph.

    linear  an E x E map of what the half adds, towards the identity (ReplaceMe, arXiv 2505.02819, section 3)
    matrix  the whole last matrix anew, from its inputs, towards what it was
    scale   one factor per channel

Ridge regression holds each of them near doing nothing. Gaps are repaired from the bottom up, each on
the stream of the stack as repaired so far, so that later gaps also make good what earlier ones left.
It does not know what was removed or why: it compares two programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_spec import Half
from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk_converters.graph.evaluate import Array, evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.graph import Graph, GraphBuilder, Node
from edgesdk_converters.graph.ops import Linear, RmsNorm, Scale
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights, Weights
from edgesdk_converters.layers.trial import Text
from edgesdk_converters.transforms.skip_layers import residual_sum

RepairMethod = Literal["linear", "matrix", "scale"]

RIDGE = 0.5
"""Weight of staying as it was, over the mean square of the fit's inputs. On SmolLM2-135M with 3,072 tokens
it does better than 2 by one per cent (docs/layers.md)."""


@dataclass(frozen=True)
class GapRepair:
    """One gap.

    Attributes:
        after: the half that stands in, e.g. `19.mlp`.
        gap: halves that are gone, first and last.
        error: distance of the stream from the whole stack's behind the gap over the latter's length, as a
            root mean square over tokens, before the repair.
        repaired_error: after it, on the same text.
    """

    after: str
    gap: str
    error: float
    repaired_error: float


@dataclass(frozen=True)
class RepairedStack:
    """A repaired program and what the repair did.

    Attributes:
        program: the shallow stack with changed weights.
        gaps: one entry for each gap, from the bottom up; a gap below the first half has none.
    """

    program: Program
    gaps: tuple[GapRepair, ...]


def repair_stack(
    whole: Program,
    shallow: Program,
    texts: Sequence[Text],
    method: RepairMethod = "linear",
    *,
    ridge: float = RIDGE,
    report: Callable[[str], None] | None = None,
) -> RepairedStack:
    """Fits the half before each gap of a stack.

    Args:
        whole: the stack before layers were removed.
        shallow: after; both as `skip_layers` gives them, norms not folded into other weights.
        texts: token ids to fit on.
        method: see above.
        ridge: above 0; larger stays nearer to the weights as they were.
        report: told how far it is.

    Raises:
        UnsupportedOption: the method is unknown or cannot be folded, or the ridge is not above 0.
        TransformError: there is no text.
    """
    if method not in get_args(RepairMethod) or not ridge > 0:
        raise UnsupportedOption(
            f"repair {method} with ridge {ridge:g} is unknown; expected {', '.join(get_args(RepairMethod))} "
            "and a ridge above 0"
        )
    if shallow.spec.post_norms and method != "scale":
        raise UnsupportedOption(
            f"{shallow.spec.architecture} norms what its halves add, so a repair by {method} cannot be "
            "folded; use scale"
        )
    texts = [text for text in texts if len(text)]
    if not texts:
        raise TransformError("the repair got no tokens to fit on; give a text")
    say = report or (lambda line: None)
    gaps = _gaps(whole, shallow)
    targets = [residual_sum(whole.graph, gap[-1]).outputs[0] for _, gap in gaps]
    goal = _upto(whole.graph, targets)
    wanted = [evaluate(goal, whole.weights, sequence_inputs(whole, [text])) for text in texts] if gaps else []
    done: list[GapRepair] = []
    for (before, gap), target in zip(gaps, targets, strict=True):
        say(f"repairing the gap of {gap[0]} to {gap[-1]} in {before}")
        changed, errors = _fit(shallow, before, texts, [w[target] for w in wanted], method, ridge)
        weights = DerivedWeights(shallow.weights, changed, frozenset())
        shallow = Program(shallow.spec, shallow.graph, weights, shallow.history)
        done.append(GapRepair(str(before), f"{gap[0]} to {gap[-1]}", *errors))
    if not done:
        return RepairedStack(shallow, ())
    settings: dict[str, str | int | float | bool] = {
        "method": method,
        "ridge": ridge,
        "tokens": sum(len(text) for text in texts),
        "changed": ",".join(gap.after for gap in done),
    }
    history = (*shallow.history, TransformRecord("repair_stack", settings))
    return RepairedStack(Program(shallow.spec, shallow.graph, shallow.weights, history), tuple(done))


def _gaps(whole: Program, shallow: Program) -> list[tuple[Half, tuple[Half, ...]]]:
    """Each half that is followed by missing ones, with those."""
    left = set(shallow.spec.halves)
    found: list[tuple[Half, tuple[Half, ...]]] = []
    before: Half | None = None
    gap: list[Half] = []
    for half in (*whole.spec.halves, None):
        if half is not None and half not in left:
            gap.append(half)
            continue
        if before is not None and gap:
            found.append((before, tuple(gap)))
        before, gap = half, []
    return found


@dataclass(frozen=True)
class _Half:
    """How a half joins the stream: `stream + scale * norm(inputs @ matrix.T + bias)`."""

    stream: str
    inputs: str
    added: str
    factor: float
    matrix: str
    bias: str | None
    norm: str | None


def _half(graph: Graph, half: Half) -> _Half:
    total = residual_sum(graph, half)
    stream, added = total.inputs
    node, factor, norm = _producer(graph, added), 1.0, None
    if isinstance(node.op, Scale):
        factor, node = node.op.factor, _producer(graph, node.inputs[0])
    added = node.outputs[0]
    if isinstance(node.op, RmsNorm) and len(node.inputs) == 2:
        norm, node = node.inputs[1], _producer(graph, node.inputs[0])
    if not isinstance(node.op, Linear):
        raise TransformError(f"{half} does not end in a matrix, so it cannot be repaired")
    bias = node.inputs[2] if len(node.inputs) == 3 else None
    return _Half(stream, node.inputs[0], added, factor, node.inputs[1], bias, norm)


def _producer(graph: Graph, name: str) -> Node:
    node = graph.producer(name)
    if node is None:
        raise TransformError(f"{name!r} is made by no node, so it cannot be repaired")
    return node


def _fit(
    program: Program,
    before: Half,
    texts: Sequence[Text],
    wanted: Sequence[Array],
    method: RepairMethod,
    ridge: float,
) -> tuple[dict[str, Derived], tuple[float, float]]:
    """Changed weights, and relative errors before and after.

    With features z (n, I) and what is missing d = wanted - stream - added (n, E), the change is the
    least-squares map from z to d under a ridge: z are what the half adds, or the inputs of its matrix.
    Every row is divided by the length of what is wanted there.
    """
    half = _half(program.graph, before)
    feature = half.inputs if method == "matrix" else half.added
    graph = _upto(program.graph, list(dict.fromkeys((half.stream, half.added, feature))))
    gram: NDArray[np.float64] = np.zeros((), np.float64)
    cross: NDArray[np.float64] = np.zeros((), np.float64)
    missing, rows = 0.0, 0
    for text, target in zip(texts, wanted, strict=True):
        values = evaluate(graph, program.weights, sequence_inputs(program, [text]))
        # Whatever reads the stream norms it first, so rows count alike; else the first tokens of texts,
        # whose stream is a hundred times as long, would decide alone.
        size = np.linalg.norm(target.astype(np.float64), axis=-1, keepdims=True)
        size = np.maximum(size, np.finfo(np.float32).tiny)
        added = half.factor * values[half.added].astype(np.float64)
        z: NDArray[np.float64] = values[feature].astype(np.float64) * half.factor / size
        d = (target - values[half.stream] - added) / size
        diagonal = method == "scale"
        gram = gram + (np.square(z).sum(axis=0) if diagonal else z.T @ z)
        cross = cross + ((z * d).sum(axis=0) if diagonal else z.T @ d)
        missing += float((d * d).sum())
        rows += len(d)
    if method == "scale":
        change = cross / (gram + ridge * float(gram.mean()) + np.finfo(np.float64).tiny)
        gained = 2 * float(change @ cross) - float(change @ (gram * change))
    else:
        held = gram + ridge * float(np.diag(gram).mean()) * np.eye(len(gram))
        change = np.asarray(np.linalg.solve(held, cross), np.float64)
        gained = 2 * float((change * cross).sum()) - float((change * (gram @ change)).sum())
    errors = tuple(float(np.sqrt(max(e, 0.0) / rows)) for e in (missing, missing - gained))
    return _changed(program.weights, half, method, change), (errors[0], errors[1])


def _changed(
    weights: Weights, half: _Half, method: RepairMethod, change: NDArray[np.float64]
) -> dict[str, Derived]:
    """The weights under the fitted change."""
    if method == "matrix":
        added = change.T.astype(np.float32)
        return {half.matrix: Derived(weights.shape(half.matrix), lambda base: base.load(half.matrix) + added)}
    if method == "linear":
        turn = (np.eye(len(change)) + change).T
        names = [half.matrix] if half.bias is None else [half.matrix, half.bias]
        return {
            name: Derived(
                weights.shape(name),
                lambda base, name=name: (turn @ base.load(name)).astype(np.float32),  # type: ignore[misc]
            )
            for name in names
        }
    factors = (1 + change).astype(np.float32)
    if half.norm is not None:
        norm = half.norm
        return {norm: Derived(weights.shape(norm), lambda base: base.load(norm) * factors)}
    names = [half.matrix] if half.bias is None else [half.matrix, half.bias]
    return {
        name: Derived(
            weights.shape(name),
            lambda base, name=name: (base.load(name).T * factors).T,  # type: ignore[misc]
        )
        for name in names
    }


def _upto(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The part of a graph that makes some of its values."""
    builder = GraphBuilder()
    for value in graph.inputs:
        builder.input(value.name, value.shape, value.dtype)
    for value in graph.weights:
        builder.weight(value.name, value.shape)
    for node in graph.nodes:
        builder.add(node.op, node.inputs, *node.outputs)
    return builder.build(outputs)
