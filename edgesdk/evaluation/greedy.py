"""Greedy texts against a reference that scores them.

A text is followed up to its first token that is not the reference's first choice. One pass of the
reference over the finished text tells as much as generating with it: up to the first difference
both texts are the same. A difference at a near-tie (the reference's two best logits closer than
`NEAR_TIE`) is counted apart, because no two orders of float additions agree there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import GreedyAgreement
from edgesdk.model import Model

NEAR_TIE = 1e-3


@dataclass(frozen=True)
class Divergence:
    """Where a text first leaves the reference's choice.

    Attributes:
        at: index among the generated tokens.
        gap: reference's best logit minus its logit of the token that was generated.
    """

    at: int
    gap: float


def greedy_texts(
    model: Model, prompts: Sequence[str], tokens: int
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Answers prompts greedily; a prompt that leaves no room for an answer is passed over.

    Args:
        model: loaded.
        prompts: put through the chat template where there is one.
        tokens: most tokens of an answer; the context may allow fewer.

    Yields:
        How many tokens the prompt has, and prompt and answer together: (n,) int32.
    """
    room = model.context
    for prompt in prompts:
        ids = model.render_prompt(prompt)
        if len(ids) + 2 > room:
            continue
        limit = min(tokens, room - len(ids))
        answer = model.generate(ids, max_tokens=limit, temperature=0.0, repetition_penalty=1.0)
        yield len(ids), np.asarray([*ids, *answer.tokens], np.int32)


def first_divergence(
    prompt_tokens: int, tokens: NDArray[np.int32], reference: NDArray[np.float32]
) -> Divergence | None:
    """Compares one generated text with the reference.

    Args:
        prompt_tokens: how many of the tokens are the prompt.
        tokens: (n,) prompt and generated text.
        reference: (n, V) the reference's logits after each token.

    Returns:
        None if every generated token is the reference's first choice.
    """
    for index in range(prompt_tokens, len(tokens)):
        row = reference[index - 1]
        gap = float(row.max() - row[tokens[index]])
        if gap > 0:
            return Divergence(index - prompt_tokens, gap)
    return None


def summarise(divergences: Sequence[Divergence | None], tokens: int) -> GreedyAgreement:
    """Counts identical texts, near-ties and the rest."""
    near = sum(d is not None and d.gap < NEAR_TIE for d in divergences)
    identical = sum(d is None for d in divergences)
    return GreedyAgreement(
        prompts=len(divergences),
        tokens=tokens,
        identical=identical,
        near_ties=near,
        diverged=len(divergences) - identical - near,
    )
