"""Scores a text in windows: perplexity, and with a reference also divergence and agreement.

Windows do not overlap and none sees another, so every model scores exactly the same positions
whatever its context. It does not know where a reference's logits come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption
from edgesdk.evaluation.agreement import Agreement, AgreementReport, ScoredPositions
from edgesdk.model import Model

Window = NDArray[np.int32]
Scorer = Callable[[Window], NDArray[np.float32]]
"""Logits after each token of a window: (n,) int32 to (n, V) float32."""

_CHARACTERS_PER_TOKEN = 16
"""More than any ordinary text has: a first guess of how much of a long file to tokenize."""


def text_windows(model: Model, text: str, *, tokens: int, window: int) -> tuple[Window, ...]:
    """Cuts a text into windows of tokens.

    Args:
        model: whose tokenizer; where it wants a start token, each window has one.
        text: any text.
        tokens: most tokens to take from its beginning.
        window: tokens of a window, a start token included; the last one may be shorter.

    Returns:
        (n,) int32 each.

    Raises:
        UnsupportedOption: a window does not fit the context, the text is too short to be scored, or the
            model cannot write every token.
    """
    if not 2 <= window <= model.context:
        raise UnsupportedOption(f"a window of {window} tokens was asked for, expected 2 to {model.context}")
    if tokens < 2:
        raise UnsupportedOption(f"{tokens} tokens were asked for, expected at least 2")
    pruned = model.bundle.manifest.vocabulary
    if pruned is not None and pruned.output_only:
        raise UnsupportedOption(
            f"{model.bundle.manifest.name} writes {pruned.tokens} tokens only, so most texts have no "
            "perplexity; measure the bundle with the full vocabulary"
        )
    record = model.tokenizer.record
    start = [record.bos_id] if record.add_bos and record.bos_id is not None else []
    ids = _first_tokens(model, text, tokens)
    step = window - len(start)
    windows = [np.asarray([*start, *ids[i : i + step]], np.int32) for i in range(0, len(ids), step)]
    kept = tuple(w for w in windows if len(w) > 1)
    if not kept:
        raise UnsupportedOption(f"the text has {len(ids)} tokens, expected at least 2")
    return kept


def evaluate_text(
    model: Model, windows: Iterable[Window], reference: Scorer | None = None
) -> AgreementReport:
    """Scores windows one at a time; logits are dropped as soon as they are counted.

    Args:
        model: loaded.
        windows: from `text_windows`.
        reference: scores the same windows.

    Returns:
        The report.

    Raises:
        DeviceError: the backend fails.
    """
    return score_windows(model, windows, reference).report()


def score_windows(
    model: Model, windows: Iterable[Window], reference: Scorer | None = None
) -> ScoredPositions:
    """What `evaluate_text` sums up, to be joined with what others have scored.

    Raises:
        DeviceError: the backend fails.
    """
    agreement = Agreement()
    for window in windows:
        truth = None if reference is None else reference(window)
        agreement.add(window, model.score(window), truth)
    return agreement.scored


def _first_tokens(model: Model, text: str, count: int) -> list[int]:
    """The first `count` tokens, without tokenizing all of a text that is much longer."""
    characters = _CHARACTERS_PER_TOKEN * count
    while True:
        ids = model.tokenizer.encode(text[:characters], add_bos=False)
        # A cut changes only the tokens beside it.
        if len(ids) >= count + _CHARACTERS_PER_TOKEN or characters >= len(text):
            return ids[:count]
        characters *= 2
