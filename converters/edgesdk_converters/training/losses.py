"""Losses that align a draft with its target, behind one interface.

p is the draft's distribution over its own words (V' of V), q the target's over all V words. A word outside
V' has p = 0, so acceptance is sum min(p, q) over V' and whatever q has outside is lost: it counts in every
distance.

    kld      sum over V' of q (log q - log p): the gradient with respect to logits is p q(V') - q
    tvd      (sum over V' of |p - q| + q outside) / 2 = 1 - acceptance: p (E_p[r] - r), r = 1[q > p]
    tvd++    the policy gradient of tvd with its reward normalised for every position,
             -E_p[(r - mean r) / std r * log p]: p (E_p[r] - r) / std r
    tvd++sampled  the same, the expectation by words drawn from p, one draw of `samples` for each position
    ce       -log p of the word that the text goes on with: pretraining

TVD++ is of "Direct Alignment of Draft Model for Speculative Decoding with Chat-Fine-Tuned LLMs" (arXiv
2403.00858): -grad TVD = E_p[r grad log p]. In exact expectation the baseline cancels, and with one standard
deviation for a whole batch Adam would make of it TVD itself, so it is normalised by position; a loss without
the weights p is another. The gradient of TVD vanishes where p and q hardly overlap: `kld-tvd` goes from one
to the other, as LK losses do (arXiv 2602.23881). Everything is per position; how positions are averaged is
the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from edgesdk.errors import UnsupportedOption

Array: TypeAlias = jax.Array
LossName = Literal["kld", "tvd", "tvd++", "tvd++sampled", "ce", "kld-tvd", "kld-tvd++"]

SAMPLES = 16
"""Words that `tvd++sampled` draws for a position."""

_LEAST_DEVIATION = 1e-3  # where all words agree there is nothing to learn, and nothing to divide by


@dataclass(frozen=True)
class Judged:
    """What a loss sees of some positions.

    Attributes:
        draft: (..., V') logits of the draft.
        target: (..., V') log q of the same words; their probabilities need not sum to 1.
        next_word: (...) place in V' of the word that follows in the text; -1 outside V'.
        key: for draws.
        progress: 0 at the beginning of the training, 1 at its end.
    """

    draft: Array
    target: Array
    next_word: Array
    key: Array
    progress: Array


Loss: TypeAlias = Callable[[Judged], Array]
"""(...) float: one number for each position."""


def acceptance(judged: Judged) -> Array:
    """sum min(p, q): the chance that a drawn word is kept, by position."""
    return jnp.minimum(jax.nn.softmax(judged.draft, axis=-1), jnp.exp(judged.target)).sum(axis=-1)


def find_loss(name: str) -> Loss:
    """A loss by name.

    Raises:
        UnsupportedOption: there is none of that name.
    """
    if name not in LOSSES:
        raise UnsupportedOption(f"the loss is {name!r}, expected one of {', '.join(LOSSES)}")
    return LOSSES[name]


def _kld(judged: Judged) -> Array:
    q = jnp.exp(judged.target)
    # A word whose q has vanished in float adds nothing, whatever its logarithm is.
    log_q = jnp.where(q > 0, judged.target, 0.0)
    return (q * (log_q - jax.nn.log_softmax(judged.draft, axis=-1))).sum(axis=-1)


def _tvd(judged: Judged) -> Array:
    p, q = jax.nn.softmax(judged.draft, axis=-1), jnp.exp(judged.target)
    outside = jnp.maximum(1.0 - q.sum(axis=-1), 0.0)
    return 0.5 * (jnp.abs(p - q).sum(axis=-1) + outside)


def _advantage(p: Array, q: Array) -> Array:
    """(r - mean) / std of r = 1[q > p] under p, by position."""
    reward = (q > p).astype(p.dtype)
    mean = (p * reward).sum(axis=-1, keepdims=True)
    deviation = jnp.sqrt(jnp.maximum(mean * (1 - mean), 0.0))
    return (reward - mean) / jnp.maximum(deviation, _LEAST_DEVIATION)


def _tvd_plus(judged: Judged) -> Array:
    log_p = jax.nn.log_softmax(judged.draft, axis=-1)
    p = jax.lax.stop_gradient(jnp.exp(log_p))
    return -(p * jax.lax.stop_gradient(_advantage(p, jnp.exp(judged.target))) * log_p).sum(axis=-1)


def _tvd_plus_sampled(judged: Judged) -> Array:
    log_p = jax.nn.log_softmax(judged.draft, axis=-1)
    p, q = jax.lax.stop_gradient(jnp.exp(log_p)), jnp.exp(judged.target)
    shape = (SAMPLES, *judged.draft.shape[:-1])
    words = jnp.moveaxis(jax.random.categorical(judged.key, judged.draft, shape=shape), 0, -1)
    reward = jnp.take_along_axis((q > p).astype(p.dtype), words, axis=-1)
    deviation = jnp.maximum(reward.std(axis=-1, keepdims=True), _LEAST_DEVIATION)
    advantage = jax.lax.stop_gradient((reward - reward.mean(axis=-1, keepdims=True)) / deviation)
    return -(advantage * jnp.take_along_axis(log_p, words, axis=-1)).mean(axis=-1)


def _cross_entropy(judged: Judged) -> Array:
    known = judged.next_word >= 0
    place = jnp.where(known, judged.next_word, 0)[..., None]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(judged.draft, axis=-1), place, axis=-1)[..., 0]
    return jnp.where(known, -log_p, 0.0)


def _first_then(first: Loss, then: Loss) -> Loss:
    """A loss that moves over from one to another in the middle half of the training."""

    def mixed(judged: Judged) -> Array:
        share = jnp.clip(2 * judged.progress - 0.5, 0.0, 1.0)
        return (1 - share) * first(judged) + share * then(judged)

    return mixed


LOSSES: dict[str, Loss] = {
    "kld": _kld,
    "tvd": _tvd,
    "tvd++": _tvd_plus,
    "tvd++sampled": _tvd_plus_sampled,
    "ce": _cross_entropy,
    "kld-tvd": _first_then(_kld, _tvd),
    "kld-tvd++": _first_then(_kld, _tvd_plus),
}
