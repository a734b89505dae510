"""The parity probe of a bundle: what the float32 reference said about a few texts, small enough to ship.

With it any device can repeat the comparison that `convert` made, without the source. The reference's
whole logits would take 100 MB; kept are, for every position, the log-probability of the token that
follows and the most likely tokens with theirs. From these the perplexity ratio and the top-1
agreement come out exactly, and a lower bound of the KL divergence. Beside the texts it may carry short
questions with the reference's answers (`edgesdk.evaluation.chats`).

It comes with a bundle and is not trusted (`probe_file`). It knows nothing of recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import PARITY_NAME, ChatAgreement, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.errors import BundleError, first_line
from edgesdk.evaluation.agreement import log_softmax, perplexity_of
from edgesdk.evaluation.chats import Chats, check_chats
from edgesdk.evaluation.probe_file import UNREADABLE, outside, read_array, read_members
from edgesdk.model import Model

_NAMES = ("tokens", "lengths", "next_log_probs", "top_ids", "top_log_probs")
_CHAT_NAMES = ("chat_tokens", "chat_questions", "chat_answers")
_INT, _FLOAT = np.dtype("<i4"), np.dtype("<f4")

_SLACK = 1e-3  # of probabilities that were summed after rounding to float32


@dataclass(frozen=True)
class Probe:
    """The reference on a few texts; P is the number of scored positions, all but the last of each text.

    Attributes:
        texts: token ids, (n,) int32 each.
        next_log_probs: (P,) float32, of the token that follows.
        top_ids: (P, top) int32, most likely tokens first.
        top_log_probs: (P, top) float32.
        chats: questions with the reference's answers; None without.
    """

    texts: tuple[NDArray[np.int32], ...]
    next_log_probs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_log_probs: NDArray[np.float32]
    chats: Chats | None = None


@dataclass(frozen=True)
class ProbeReport:
    """A model against a probe.

    Attributes:
        positions: scored positions.
        perplexity: of the model.
        reference_perplexity: of the reference.
        perplexity_ratio: the first over the second.
        top1_agreement: share of positions where both find the same token most likely.
        kl_nats: mean KL(reference || model) over the probe's most likely tokens and all others taken
            together: a lower bound of the whole divergence.
        chats: agreement on short questions; None where the probe has none that fit.
    """

    positions: int
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float
    top1_agreement: float
    kl_nats: float
    chats: ChatAgreement | None = None


def write_probe(
    path: Path,
    texts: Sequence[NDArray[np.int32]],
    logits: Sequence[NDArray[np.float32]],
    top: int = 64,
    chats: Chats | None = None,
) -> None:
    """Writes a probe.

    Args:
        path: the file.
        texts: token ids, at least two each.
        logits: (n, V) of the reference, after each token.
        top: most likely tokens to keep.
        chats: questions with the reference's answers.
    """
    following, ids, kept = [], [], []
    for text, rows in zip(texts, logits, strict=True):
        log_probs = log_softmax(rows[:-1])
        count = min(top, log_probs.shape[1])
        best = np.argpartition(-log_probs, count - 1, axis=-1)[:, :count]
        # Equal probabilities in the order of ids, as argmax has them.
        best.sort(axis=-1)
        order = np.argsort(-np.take_along_axis(log_probs, best, -1), axis=-1, kind="stable")
        best = np.take_along_axis(best, order, -1)
        following.append(log_probs[np.arange(len(text) - 1), text[1:]])
        ids.append(best)
        kept.append(np.take_along_axis(log_probs, best, -1))
    arrays: dict[str, NDArray[Any]] = {
        "tokens": np.concatenate(texts).astype(_INT),
        "lengths": np.array([len(text) for text in texts], _INT),
        "next_log_probs": np.concatenate(following).astype(_FLOAT),
        "top_ids": np.concatenate(ids).astype(_INT),
        "top_log_probs": np.concatenate(kept).astype(_FLOAT),
    }
    if chats is not None:
        # All questions, then all answers, with the length of each.
        arrays["chat_tokens"] = np.concatenate([*chats.questions, *chats.answers]).astype(_INT)
        arrays["chat_questions"] = np.array([len(text) for text in chats.questions], _INT)
        arrays["chat_answers"] = np.array([len(text) for text in chats.answers], _INT)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle


def read_probe(path: Path, vocab_size: int) -> Probe:
    """Reads a probe.

    Args:
        path: the file.
        vocab_size: V; ids must lie below.

    Raises:
        BundleError: the file is not a probe, or contradicts itself.
    """
    try:
        members = read_members(path, _NAMES, _NAMES + _CHAT_NAMES)
        tokens = read_array(members["tokens"], np.int32, 1)
        lengths = read_array(members["lengths"], np.int32, 1).astype(np.int64)
        following = read_array(members["next_log_probs"], np.float32, 1)
        ids = read_array(members["top_ids"], np.int32, 2)
        kept = read_array(members["top_log_probs"], np.float32, 2)
        chat_arrays = [read_array(members[name], np.int32, 1) for name in _CHAT_NAMES if name in members]
    except UNREADABLE as error:
        reason = first_line(error, 120)
        raise BundleError(f"{path.name} is no parity probe: {reason}; convert the bundle again") from error
    positions = len(tokens) - len(lengths)
    with np.errstate(over="ignore"):
        likely = np.exp(kept).sum(-1)
    for wrong, what in (
        (not len(lengths) or (lengths < 2).any() or lengths.sum() != len(tokens), "lengths of its texts"),
        (len(following) != positions or len(ids) != positions or ids.shape != kept.shape, "positions"),
        (not 1 <= ids.shape[1] <= vocab_size, "most likely tokens"),
        (outside(tokens, vocab_size) or outside(ids, vocab_size), "token ids"),
        ((np.diff(np.sort(ids, axis=-1), axis=-1) == 0).any(), "most likely tokens"),
        (not (np.isfinite(following).all() and (following <= _SLACK).all()), "probabilities"),
        (not (np.isfinite(kept).all() and (likely <= 1 + _SLACK).all()), "probabilities"),
    ):
        if wrong:
            raise BundleError(f"{path.name} contradicts itself in the {what}; convert the bundle again")
    texts = tuple(np.split(tokens, np.cumsum(lengths)[:-1]))
    chats = _read_chats(path.name, vocab_size, *chat_arrays) if chat_arrays else None
    return Probe(texts, following, ids, kept, chats)


def _read_chats(
    name: str, vocab_size: int, tokens: NDArray[np.int32], asked: NDArray[np.int32], said: NDArray[np.int32]
) -> Chats:
    lengths = np.concatenate([asked, said]).astype(np.int64)
    alike = len(asked) == len(said) > 0
    if not alike or (lengths < 1).any() or lengths.sum() != len(tokens) or outside(tokens, vocab_size):
        raise BundleError(f"{name} contradicts itself in the questions; convert the bundle again")
    parts = np.split(tokens, np.cumsum(lengths)[:-1])
    return Chats(tuple(parts[: len(asked)]), tuple(parts[len(asked) :]))


def probe_of(bundle: Bundle, variant: Variant) -> Probe | None:
    """The reference that a bundle carries for one of its variants; None where it carries none.

    Raises:
        BundleError: its file is not a probe, or contradicts itself.
        UnsupportedOption: the model gives states only.
    """
    expect_causal(bundle.manifest.decoder_of(variant))
    name = variant.probe or PARITY_NAME
    if name not in bundle.manifest.files:
        return None
    return read_probe(bundle.file(name), bundle.manifest.decoder.vocab_size)


def check_probe(model: Model, probe: Probe) -> ProbeReport:
    """Runs a probe's texts through a model.

    Args:
        model: loaded; a text that is longer than its context is cut.
        probe: from the model's bundle.

    Returns:
        The report.

    Raises:
        DeviceError: the backend fails.
    """
    loss = reference_loss = divergence = 0.0
    positions = same = start = 0
    for text in probe.texts:
        scored = min(len(text), model.context) - 1
        here = slice(start, start + scored)
        start += len(text) - 1
        log_probs = log_softmax(model.score(text[: scored + 1])[:-1])
        positions += scored
        loss -= float(log_probs[np.arange(scored), text[1 : scored + 1]].sum())
        reference_loss -= float(probe.next_log_probs[here].sum(dtype=np.float64))
        same += int((log_probs.argmax(-1) == probe.top_ids[here, 0]).sum())
        theirs = np.take_along_axis(log_probs, probe.top_ids[here], -1)
        divergence += _divergence(probe.top_log_probs[here].astype(np.float64), theirs)
    if not positions:
        raise BundleError(f"no text of the parity probe fits a context of {model.context}")
    return ProbeReport(
        positions=positions,
        perplexity=perplexity_of(loss / positions),
        reference_perplexity=perplexity_of(reference_loss / positions),
        perplexity_ratio=perplexity_of((loss - reference_loss) / positions),
        top1_agreement=same / positions,
        kl_nats=divergence / positions,
        chats=None if probe.chats is None else check_chats(model, probe.chats),
    )


def _divergence(reference: NDArray[np.float64], model: NDArray[np.float64]) -> float:
    """Sum over positions of the KL divergence between distributions known for some tokens and a rest."""
    likely = np.exp(reference)
    tiny = np.finfo(np.float64).tiny
    rest = np.clip(1 - likely.sum(-1), tiny, 1)
    other = np.clip(1 - np.exp(model).sum(-1), tiny, 1)
    total = (likely * (reference - model)).sum() + (rest * np.log(rest / other)).sum()
    return float(total)
