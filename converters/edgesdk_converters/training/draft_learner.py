"""What a recurrent draft learns: to say what its target says k tokens after the one it begins at.

One loss for every drafted token along the text (teacher forcing), those further away weighed less, for they
count only where all before them were right. Embedding, head and the target's states are frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.program import Program
from edgesdk_converters.training.draft_batches import WINDOW, DraftBatches
from edgesdk_converters.training.frozen_target import TargetHead, scaled_embedding
from edgesdk_converters.training.losses import Array, Judged, Loss, acceptance
from edgesdk_converters.training.recurrent_draft import DraftShape, Parameters, new_parameters, unroll

Tensors = dict[str, Array]


@dataclass(frozen=True)
class Frozen:
    """What does not learn.

    Attributes:
        embedding: (V, E) what the target's blocks get of each token.
        head: the target's, of the draft's words.
        place: (V,) int32, place of each token among these words; -1 for others.
    """

    embedding: Array
    head: TargetHead
    place: Array


def freeze(program: Program, words: NDArray[np.int32]) -> Frozen:
    """Reads what does not learn.

    Args:
        program: the target, before any transform.
        words: (V',) int32 rising ids that the draft may say.
    """
    place = np.full(program.spec.vocab_size, -1, np.int32)
    place[words] = np.arange(len(words), dtype=np.int32)
    return Frozen(jnp.asarray(scaled_embedding(program)), TargetHead(program, words), jnp.asarray(place))


class DraftLearner:
    """A `Learner` that trains a recurrent draft."""

    def __init__(
        self,
        shape: DraftShape,
        frozen: Frozen,
        batches: DraftBatches,
        loss: Loss,
        seed: int,
        decay: float = 0.8,
    ) -> None:
        """Prepares.

        Args:
            shape: of the draft.
            frozen: of its target.
            batches: what it learns from.
            loss: of one drafted token.
            seed: of the first parameters.
            decay: how much less each token counts than the one before.
        """
        self._shape, self._frozen, self._batches = shape, frozen, batches
        self._loss, self._seed, self._decay = loss, seed, decay

    @property
    def tokens_of_a_step(self) -> int:
        """Positions that one step learns from."""
        return self._batches.positions

    def start(self) -> Parameters:
        """Parameters to begin with."""
        hidden = self._batches.at(0).hidden.astype(np.float32)
        return new_parameters(self._shape, self._seed, float(np.sqrt(np.mean(hidden**2))))

    def batch(self, step: int) -> Mapping[str, object]:
        """What a step learns from; with the frozen parts, which else were constants of the program."""
        found = self._batches.at(step)
        return {
            "hidden": found.hidden,
            "log_z": found.log_z,
            "tokens": found.tokens,
            "valid": found.valid,
            "follows": found.follows,
            "embedding": self._frozen.embedding,
            "rows": self._frozen.head.rows,
            "place": self._frozen.place,
        }

    def loss(
        self, parameters: Parameters, batch: Tensors, key: Array, progress: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean over positions and drafted tokens; figures are the expected acceptance of each, `kept.k`."""
        judged, valid = self.judge(parameters, batch, key, progress)
        K = valid.shape[0]
        weights = valid * (self._decay ** jnp.arange(K))[:, None]
        loss = (self._loss(judged) * weights).sum() / weights.sum()
        kept = (acceptance(judged) * valid).sum(axis=1) / jnp.maximum(valid.sum(axis=1), 1)
        return loss, {f"kept.{k + 1}": kept[k] for k in range(K)}

    def judge(
        self, parameters: Parameters, batch: Tensors, key: Array, progress: Array
    ) -> tuple[Judged, Array]:
        """What the draft and its target say of a batch: K by B W positions; and which of them are there."""
        valid = batch["valid"]
        K = valid.shape[0]
        hidden, rows = batch["hidden"].astype(jnp.float32), batch["rows"]
        E = hidden.shape[-1]
        embedded = batch["embedding"][batch["tokens"]]
        along = jnp.stack([embedded[:, k : k + WINDOW].reshape(-1, E) for k in range(1, K + 1)])
        draft = unroll(self._shape, parameters, hidden[:, :WINDOW].reshape(-1, E), along, rows)
        target = self._frozen.head.logits(hidden, rows) - batch["log_z"][..., None]
        target = jnp.stack([target[:, k : k + WINDOW].reshape(-1, rows.shape[0]) for k in range(1, K + 1)])
        place = jnp.where(batch["follows"] < 0, -1, batch["place"][batch["follows"]])
        judged = Judged(draft, jax.lax.stop_gradient(target), place.reshape(K, -1), key, progress)
        return judged, valid.reshape(K, -1)
