"""Plain evaluation of whole sequences with the step graph: no cells, every row's logits or states.

Several sequences go through one pass as rows that cannot see each other, so each weight is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.stack_record import GATES, SOURCES, STATES, STREAMS
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk_converters.graph.attend_apart import APART
from edgesdk_converters.graph.evaluate import Namespace, evaluate
from edgesdk_converters.graph.predecessor_inputs import predecessor_inputs
from edgesdk_converters.graph.program import Program

MASKED = np.float32(-1e9)


def sequence_inputs(
    program: Program, sequences: Sequence[NDArray[np.int32]]
) -> dict[str, NDArray[np.generic]]:
    """Inputs of one step of whole sequences side by side: no cells (S = 0), all gates 0, no row a stream."""
    spec = program.spec
    tokens = np.concatenate([np.asarray(s, np.int32) for s in sequences])
    positions = np.concatenate([np.arange(len(s), dtype=np.int32) for s in sequences])
    owner = np.concatenate([np.full(len(s), i, np.int32) for i, s in enumerate(sequences)])
    distance = positions[:, None] - positions[None, :]
    seen = owner[:, None] == owner[None, :]
    if spec.is_causal:
        seen &= distance >= 0
    inputs: dict[str, NDArray[np.generic]] = {
        "tokens": tokens,
        "positions": positions,
        "mask": np.where(seen, np.float32(0), MASKED),
    }
    if spec.is_causal:
        inputs["rows"] = np.arange(len(tokens), dtype=np.int32)
    if spec.window is not None:
        near = np.abs(distance) < spec.window
        inputs["window_mask"] = np.where(seen & near, np.float32(0), MASKED)
    inputs |= closed_gates(program, len(tokens))
    inputs |= predecessor_inputs(spec, seen, distance)
    for cells in graph_tensors(step_contract(spec)).cells:
        inputs[cells.name] = np.zeros(
            [size if isinstance(size, int) else 0 for size in cells.dims], np.float32
        )
    return inputs


def closed_gates(program: Program, count: int) -> dict[str, NDArray[np.generic]]:
    """Inputs by which `count` tokens are run by the model alone: no term of low rank, and no row a stream."""
    inputs: dict[str, NDArray[np.generic]] = {}
    for value in program.graph.inputs:
        if value.name in (GATES, STREAMS):
            inputs[value.name] = np.zeros((count, int(value.shape[1])), np.float32)
        elif value.name == SOURCES:
            inputs[SOURCES] = np.arange(count, dtype=np.int32)
    return inputs


def sequence_logits(
    program: Program,
    sequences: Sequence[NDArray[np.int32]],
    xp: Namespace = np,
    starts: Sequence[int] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Logits after every token of each sequence, or from some token on.

    Args:
        program: the model.
        sequences: (n,) int32 each.
        xp: `numpy` or `jax.numpy`.
        starts: for each sequence the first token after which logits are wanted; None for 0.

    Yields:
        (n - start, V) float32 for each sequence, in order.
    """
    inputs = sequence_inputs(program, sequences)
    firsts = [0] * len(sequences) if starts is None else starts
    counts = [len(sequence) - first for sequence, first in zip(sequences, firsts, strict=True)]
    ends = np.cumsum([len(sequence) for sequence in sequences])
    wanted = [np.arange(end - count, end, dtype=np.int32) for end, count in zip(ends, counts, strict=True)]
    inputs["rows"] = np.concatenate(wanted)
    lowerings = APART if xp is np else None
    found = evaluate(program.graph, program.weights, inputs, xp, lowerings)
    return _parts(np.asarray(found["logits"]), counts)


def sequence_states(
    program: Program, sequences: Sequence[NDArray[np.int32]]
) -> Iterator[NDArray[np.float32]]:
    """States of every token of each sequence, of a program whose tokens see the whole text.

    Args:
        program: the model.
        sequences: (n,) int32 each.

    Yields:
        (n, W) float32 for each sequence, in order.
    """
    found = evaluate(program.graph, program.weights, sequence_inputs(program, sequences))
    return _parts(np.asarray(found[STATES]), [len(sequence) for sequence in sequences])


def _parts(rows: NDArray[np.float32], counts: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    start = 0
    for count in counts:
        yield rows[start : start + count]
        start += count
