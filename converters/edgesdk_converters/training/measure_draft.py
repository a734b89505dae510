"""What a draft is worth on texts that its target wrote: how far it would have guessed, without running the
target.

For each position of an answer the draft goes on greedily from what the target's head read there; a guess is
kept while it is the token that the answer has. Block efficiency is tokens of an answer over steps of the
target, of a walk through the answer in which each step keeps what was guessed right, at most gamma, and adds
one of its own (Leviathan et al., arXiv 2211.17192). Beside it the chance that a drawn token would be kept,
sum min(p, q).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.training.draft_learner import Frozen
from edgesdk_converters.training.features import Features
from edgesdk_converters.training.losses import Array
from edgesdk_converters.training.recurrent_draft import DraftShape, Parameters, draft_logits, next_state

_POSITIONS = 256  # of one call


@dataclass(frozen=True)
class DraftWorth:
    """What a draft is worth on some texts.

    Attributes:
        texts: how many.
        tokens: of their answers.
        efficiency: tokens for each step of the target with 1, 2, .. drafted tokens, greedy.
        right: share of positions where the first 1, 2, .. guesses are all right.
        kept: expected acceptance of the 1st, 2nd, .. drawn token, those before it as in the text.
    """

    texts: int
    tokens: int
    efficiency: tuple[float, ...]
    right: tuple[float, ...]
    kept: tuple[float, ...]


def measure_draft(
    shape: DraftShape,
    parameters: Parameters,
    frozen: Frozen,
    features: Features,
    texts: Sequence[int],
    depth: int = 5,
) -> DraftWorth:
    """Measures a draft.

    Args:
        shape: of the draft.
        parameters: of the draft.
        frozen: of its target.
        features: of texts.
        texts: numbers of those to measure on.
        depth: most drafted tokens.
    """
    shape = replace(shape, numbers="float32")
    judge = jax.jit(lambda *tensors: _judge(shape, frozen.head.logits, *tensors))
    reach, chances, counts, steps = [], np.zeros(depth), np.zeros(depth), np.zeros(depth)
    tokens = 0
    for start, length, first in features.bounds[list(texts)].tolist():
        at = np.arange(start + first, start + length - 1)
        if not len(at):
            continue
        right, kept = [], []
        for piece in np.split(at, range(_POSITIONS, len(at), _POSITIONS)):
            tensors = _tensors(features, frozen, piece, start + length, depth)
            found = judge(parameters, frozen.embedding, frozen.head.rows, *tensors)
            right.append(np.asarray(found[0])[:, : len(piece)])
            kept.append(np.asarray(found[1])[:, : len(piece)])
        correct = np.cumprod(np.concatenate(right, axis=1), axis=0)
        reach.append(correct)
        there = at[None] + np.arange(1, depth + 1)[:, None] < start + length
        chances += (np.concatenate(kept, axis=1) * there).sum(axis=1)
        counts += there.sum(axis=1)
        tokens += len(at)
        steps += [walk_steps(correct[: gamma + 1].sum(axis=0)) for gamma in range(depth)]
    all_right = np.concatenate(reach, axis=1).mean(axis=1) if reach else np.zeros(depth)
    return DraftWorth(
        len(reach),
        tokens,
        tuple(float(tokens / max(count, 1)) for count in steps),
        tuple(float(share) for share in all_right),
        tuple(float(share) for share in chances / np.maximum(counts, 1)),
    )


def walk_steps(reach: NDArray[np.int64]) -> int:
    """Steps through an answer whose positions allow so many guesses."""
    at = steps = 0
    while at < len(reach):
        at += 1 + int(reach[at])
        steps += 1
    return steps


def _tensors(
    features: Features, frozen: Frozen, at: NDArray[np.int64], end: int, depth: int
) -> Sequence[NDArray[np.generic] | Array]:
    """Arrays of some positions, filled up to one size: h, log Z, tokens and their places."""
    filled = np.concatenate([at, np.full(_POSITIONS - len(at), at[-1])])
    rows = np.minimum(filled[:, None] + np.arange(depth + 2), end - 1)
    beyond = filled[:, None] + np.arange(depth + 2) >= end
    tokens = features.tokens[rows]
    place = np.where(beyond, -1, np.asarray(frozen.place)[tokens])
    seen = rows[:, : depth + 1]
    return features.hidden[seen], features.log_z[seen], tokens, place


def _judge(
    shape: DraftShape,
    target_logits: object,
    parameters: Mapping[str, Array],
    embedding: Array,
    head: Array,
    *tensors: Array,
) -> tuple[Array, Array]:
    """Whether each guess is the text's token, and the chance that a drawn one is kept: (depth, N) each."""
    assert callable(target_logits)
    hidden, log_z, tokens, place = tensors
    state = hidden[:, 0].astype(jnp.float32)
    right, kept = [], []
    for k in range(1, hidden.shape[1]):
        state = next_state(shape, dict(parameters), state, embedding[tokens[:, k]])
        logits = draft_logits(shape, parameters, state, head)
        right.append(logits.argmax(axis=-1) == place[:, k + 1])
        q = jnp.exp(target_logits(hidden[:, k].astype(jnp.float32), head) - log_z[:, k, None])
        kept.append(jnp.minimum(jax.nn.softmax(logits, axis=-1), q).sum(axis=-1))
    return jnp.stack(right), jnp.stack(kept)
