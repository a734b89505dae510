"""What streams are worth on texts that their target wrote: how far they would have guessed.

Behind every position of an answer the streams say the tokens after the next one, which the model says
itself. A walk through the answer gives tokens for each call of the model: each call keeps what was guessed
right behind the last token of the call before, and adds one of its own, as for drafts (`measure_draft`). Its
first call has no guesses. Beside it, what branches can win: how often the token is among the likeliest few of
each stream, and the tokens a call of trees that have these few at every depth; and the chance that a drawn
token would be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.training.features import Features
from edgesdk_converters.training.losses import Array, acceptance
from edgesdk_converters.training.measure_draft import walk_steps
from edgesdk_converters.training.stream_batches import StreamBatches
from edgesdk_converters.training.stream_learner import Batch, StreamLearner, Tensors

LIKELIEST = (1, 2, 4)
MOST_BRANCHES = 4


@dataclass(frozen=True)
class StreamWorth:
    """What streams are worth on some texts.

    Attributes:
        texts: how many.
        tokens: of their answers.
        efficiency: tokens for each call of the target with 1, 2, .. streams, the likeliest token of each.
        right: share of positions where the first 1, 2, .. streams are all right.
        branches: tokens for each call with all streams and 1, 2, .. likeliest tokens of each, every path.
        among: for each stream, how often the token is among its 1, 2 and 4 likeliest.
        kept: expected acceptance of a token drawn from each.
    """

    texts: int
    tokens: int
    efficiency: tuple[float, ...]
    right: tuple[float, ...]
    branches: tuple[float, ...]
    among: tuple[tuple[float, ...], ...]
    kept: tuple[float, ...]


def measure_streams(
    learner: StreamLearner,
    batches: StreamBatches,
    parameters: Tensors,
    features: Features,
    texts: Sequence[int],
    streams: int,
) -> StreamWorth:
    """Measures streams.

    Args:
        learner: that trained them.
        batches: of the same texts and sizes.
        parameters: what it learnt.
        features: of texts.
        texts: numbers of those to measure on.
        streams: G.
    """
    judge = jax.jit(lambda parameters, batch: _judge(learner, parameters, batch))
    steps, branched, tokens, found = np.zeros(streams), np.zeros(MOST_BRANCHES), 0, 0
    ranks: list[NDArray[np.int64]] = []
    chances: list[NDArray[np.float32]] = []
    valid: list[NDArray[np.bool_]] = []
    for bound in features.bounds[list(texts)].tolist():
        start, length, first = bound[0], min(bound[1], batches.tokens), bound[2]
        at = np.arange(first, length - 1)
        if not len(at):
            continue
        pieces = []
        for begin in range(0, len(at), batches.positions):
            places = at[begin : begin + batches.positions]
            filled = np.concatenate([places, np.full(batches.positions - len(places), places[-1])])
            batch = batches.read([(start, length, first)], filled.astype(np.int32))
            rank, kept = judge(parameters, learner.tensors(batch))
            n = len(places)
            pieces.append((np.asarray(rank)[:, :n], np.asarray(kept)[:, :n], batch.valid[:, :n]))
        rank = np.concatenate([piece[0] for piece in pieces], axis=1)
        kept = np.concatenate([piece[1] for piece in pieces], axis=1)
        there = np.concatenate([piece[2] for piece in pieces], axis=1)
        reach = [
            np.cumsum(np.cumprod((rank < k) & there, axis=0), axis=0) for k in range(1, MOST_BRANCHES + 1)
        ]
        steps += [1 + walk_steps(reach[0][count, :-1]) for count in range(streams)]
        branched += [1 + walk_steps(each[-1, :-1]) for each in reach]
        ranks.append(rank)
        chances.append(kept)
        valid.append(there)
        tokens += len(at)
        found += 1
    return _worth(found, tokens, steps, branched, ranks, chances, valid, streams)


def _worth(
    texts: int,
    tokens: int,
    steps: NDArray[np.float64],
    branched: NDArray[np.float64],
    ranks: Sequence[NDArray[np.int64]],
    chances: Sequence[NDArray[np.float32]],
    valid: Sequence[NDArray[np.bool_]],
    streams: int,
) -> StreamWorth:
    if not texts:
        nothing = (0.0,) * streams
        return StreamWorth(
            0, 0, nothing, nothing, (0.0,) * MOST_BRANCHES, ((0.0,) * len(LIKELIEST),) * streams, nothing
        )
    rank, kept = np.concatenate(ranks, axis=1), np.concatenate(chances, axis=1)
    there = np.concatenate(valid, axis=1)
    counts = np.maximum(there.sum(axis=1), 1)
    right = np.cumprod((rank == 0) & there, axis=0).sum(axis=1) / counts
    among = [[((rank < k) & there)[j].sum() / counts[j] for k in LIKELIEST] for j in range(streams)]
    return StreamWorth(
        texts,
        tokens,
        tuple(float(tokens / max(count, 1)) for count in steps),
        tuple(float(share) for share in right),
        tuple(float(tokens / max(count, 1)) for count in branched),
        tuple(tuple(float(share) for share in shares) for shares in among),
        tuple(float(share) for share in (kept * there).sum(axis=1) / counts),
    )


def _judge(learner: StreamLearner, parameters: Tensors, batch: Batch) -> tuple[Array, Array]:
    """Rank of the text's token among what each stream says, and the chance of a drawn one: (G, M) each."""
    judged, _ = learner.judge(parameters, batch, jax.random.key(0), jnp.float32(1.0))
    own = jnp.take_along_axis(judged.draft, jnp.maximum(judged.next_word, 0)[..., None], axis=-1)
    above = (judged.draft > own).sum(axis=-1)
    return jnp.where(judged.next_word < 0, judged.draft.shape[-1], above), acceptance(judged)
