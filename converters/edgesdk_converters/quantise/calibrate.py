"""Calibrated quantisation: runs sample text through a decoder and quantises each matrix on its way.

Node by node: where a matrix is reached, its integers are chosen (`edgesdk_converters.quantise.gptq`) for the
inputs that arrive there, and the run goes on with what those integers stand for, so that later layers
are fitted to what earlier ones really give (GPTQ, arXiv 2210.17323, section 3.3 and its experiments).
Kept in memory: the values alive at one node, and one weight.

It knows neither texts nor files: sequences of tokens come in, integers and records go out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import Array
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.gptq import Quantised, gptq
from edgesdk_converters.quantise.gram_factor import gram_matrix
from edgesdk_converters.quantise.palette_tensor import StoredTensor
from edgesdk_converters.quantise.palettise import Palettised, palettise, palettise_for
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights, check_block
from edgesdk_converters.quantise.recipe import Algorithm, Recipe, Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.tensor_spool import TensorSpool
from edgesdk_converters.quantise.tied_table import gptq_table, head_grams
from edgesdk_converters.quantise.token_runs import TokenRuns

Report = Callable[[str], None]
"""Called with one line before each matrix."""


@dataclass(frozen=True)
class CalibrationRecord:
    """How well one matrix came out.

    Attributes:
        weight: its name.
        algorithm: what made the integers: `gptq` (`palette_gptq`), or `clip_search` (`palette`) where
            the matrix is needed before data can reach it, as a table of embeddings is that no head shares.
        rounded_error: norm of what rounding would lose of the layer's outputs on the sample, over the
            norm of the outputs; 0 where no data were used.
        error: the same for the integers that were kept; never larger.
    """

    weight: str
    algorithm: str
    rounded_error: float
    error: float


@dataclass(frozen=True)
class Calibrated:
    """What calibration gives.

    Attributes:
        tensors: integers and scales, or palettes, of every matrix whose scheme asks for data.
        records: one for each, in the order in which they were made.
    """

    tensors: dict[str, StoredTensor]
    records: tuple[CalibrationRecord, ...]


def calibrate(
    program: Program,
    recipe: Recipe,
    sequences: Sequence[NDArray[np.int32]],
    report: Report | None = None,
    *,
    int8_activations: bool = False,
    spool: TensorSpool | None = None,
) -> Calibrated:
    """Quantises every matrix of a program whose scheme asks for data.

    Args:
        program: as it will be emitted, after all transforms.
        recipe: says which matrices, and how.
        sequences: token ids; each is a text of its own. Several thousand tokens in all are wanted.
        report: told what happens.
        int8_activations: round what linear layers read, as XNNPACK does.
        spool: where integers wait; None for memory.

    Raises:
        TransformError: no tokens are given, or a block does not divide a row.
    """
    sequences = [sequence for sequence in sequences if len(sequence)]
    if not sequences:
        raise TransformError("calibration got no tokens; expected at least one sequence with some")
    say = report or (lambda line: None)
    keep = (lambda tensor: tensor) if spool is None else spool.keep
    schemes = _schemes(program, recipe)
    with_data = {name for name in schemes if _only_linear(program.graph, name)}
    tensors: dict[str, StoredTensor] = {}
    records = []
    early = sorted(set(schemes) - with_data)
    tied = [name for name in early if not schemes[name].palette and _feeds_linear(program.graph, name)]
    if tied:
        say(f"running the model for {', '.join(tied)}")
    grams = head_grams(program, tied, sequences) if tied else {}
    for name in early:
        made, record = _early(name, program.weights.load(name), schemes[name], grams.get(name))
        tensors[name] = keep(made)
        records.append(record)
    stored = QuantisedWeights(program.weights, recipe, tensors, spool)
    runs = TokenRuns(program, sequences, int8_activations=int8_activations)
    for node in _until_last(program.graph, with_data):
        weight, at_hand = _weight(node), {}
        if weight is not None and weight in with_data:
            say(f"calibrating {weight}")
            inputs = runs.linear_inputs(node.inputs[0])
            made, record = _quantise(weight, program.weights.load(weight), schemes[weight], inputs)
            del inputs  # which the next step lets go
            at_hand[weight] = made.dequantise()  # while it lies in memory, not in the spool's file
            tensors[weight] = keep(made)
            records.append(record)
        missing = [n for n in node.inputs if runs.is_weight(n) and n not in at_hand]
        at_hand |= {n: tensors[n].dequantise() if n in tensors else stored.load(n) for n in missing}
        runs.step(node, at_hand)
    return Calibrated(tensors, tuple(records))


def _schemes(program: Program, recipe: Recipe) -> dict[str, Scheme]:
    """The matrices whose scheme asks for data, checked."""
    found = {}
    for value in program.graph.weights:
        shape = program.weights.shape(value.name)
        scheme = recipe.scheme(value.name) if len(shape) == 2 else None
        if scheme is not None:
            check_block(recipe, value.name, shape[1], scheme)
            if scheme.needs_data:
                found[value.name] = scheme
    return found


def _early(
    name: str, weight: Array, scheme: Scheme, gram: Array | None
) -> tuple[StoredTensor, CalibrationRecord]:
    """A matrix that is needed before data can reach it; `gram` if its inputs are known all the same."""
    if gram is None:
        tensor, algorithm = _without_data(weight, scheme)
        return tensor, CalibrationRecord(name, algorithm, 0.0, 0.0)
    done = gptq_table(weight, gram, scheme)
    return done.tensor, _record(name, scheme, done)


def _without_data(weight: Array, scheme: Scheme) -> tuple[StoredTensor, Algorithm]:
    if scheme.palette:
        return palettise(weight, scheme), "palette"
    return round_to_nearest(weight, Scheme(scheme.bits, scheme.block, "clip_search")), "clip_search"


def _quantise(
    name: str, weight: Array, scheme: Scheme, inputs: list[Array]
) -> tuple[StoredTensor, CalibrationRecord]:
    gram = gram_matrix(inputs)
    done = palettise_for(weight, gram, scheme) if scheme.palette else gptq(weight, gram, scheme)
    return done.tensor, _record(name, scheme, done)


def _record(name: str, scheme: Scheme, done: Quantised | Palettised) -> CalibrationRecord:
    whole = done.whole + 1e-30
    return CalibrationRecord(
        name, scheme.algorithm, (done.rounding_loss / whole) ** 0.5, (done.loss / whole) ** 0.5
    )


def _weight(node: Node) -> str | None:
    return node.inputs[1] if isinstance(node.op, Linear) else None


def _feeds_linear(graph: Graph, name: str) -> bool:
    return any(_weight(node) == name for node in graph.users(name))


def _only_linear(graph: Graph, name: str) -> bool:
    """Whether one linear layer alone reads a weight: then its inputs are known before it is used."""
    users = graph.users(name)
    return len(users) == 1 and _weight(users[0]) == name


def _until_last(graph: Graph, names: set[str]) -> tuple[Node, ...]:
    """The nodes up to the last that waits for data: the logits of a whole sample are never made."""
    last = max((i for i, node in enumerate(graph.nodes) if _weight(node) in names), default=-1)
    return graph.nodes[: last + 1]
