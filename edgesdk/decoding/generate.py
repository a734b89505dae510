"""The loop: run the prompt, choose a token, run it, choose the next, until something ends it.

It works on any `TokenSequence` and knows nothing of text. The last token chosen is never run: nobody
asks for what follows it. Tokens that a grammar forces are run with the token before them, as one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.backends import protocol
from edgesdk.decoding.choose import Choice, Chooser
from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.decoding.option_types import whole_number
from edgesdk.decoding.stopping import FinishReason
from edgesdk.errors import CapacityError, UnsupportedOption, quoted
from edgesdk.text.prompt_limit import check_count_fits


@dataclass(frozen=True)
class ChosenToken:
    """One step of generation.

    Attributes:
        token: the token chosen.
        finish: why it is the last one; None while there will be more. With `stop` the token is an
            end token and no part of the text, unless `complete`.
        logprob: how likely it was; None unless asked for.
        complete: a grammar was complete with this token, which is text.
    """

    token: int
    finish: FinishReason | None
    logprob: TokenLogprob | None = None
    complete: bool = False


class _Cancelled(Exception):  # noqa: N818 - no error
    """Leaves a prompt between two of its pieces."""


def check_request(prompt: Sequence[int], max_tokens: int | None, context: int, vocab_size: int) -> None:
    """Refuses what cannot be generated, before anything runs.

    A `max_tokens` beyond the context is no error: generation then ends with the context, and says so.

    Args:
        prompt: token ids.
        max_tokens: most tokens to choose; None for as many as fit.
        context: tokens that there is room for.
        vocab_size: V.

    Raises:
        CapacityError: the prompt does not fit.
        UnsupportedOption: the prompt is empty or holds an unknown id, or `max_tokens` is below 1.
    """
    if max_tokens is not None:
        whole_number("max_tokens", max_tokens, 1)
    if not len(prompt):
        raise UnsupportedOption("the prompt has no tokens, expected at least one")
    check_count_fits(len(prompt), context)
    for token in (min(prompt), max(prompt)):
        if not 0 <= token < vocab_size:
            raise UnsupportedOption(
                f"the prompt holds token {quoted(token)}, expected ids from 0 to {vocab_size - 1}"
            )


def generate_tokens(
    sequence: protocol.TokenSequence,
    prompt: Sequence[int],
    chooser: Chooser,
    *,
    max_tokens: int | None = None,
    eos_ids: Collection[int] = (),
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[ChosenToken]:
    """Appends `prompt` to a sequence and chooses tokens after it.

    Args:
        sequence: where to generate; what it already holds comes before the prompt.
        prompt: token ids, at least one.
        chooser: new; its history gets the prompt and what is chosen.
        max_tokens: most tokens to choose; None for as many as fit.
        eos_ids: tokens that end it.
        cancelled: asked before every run of the model, those of a long prompt's pieces included.

    Yields:
        Each token as it is chosen; the last one says why it is the last, unless it was cancelled. Then the
        sequence may hold a part of the prompt.

    Raises:
        CapacityError: the prompt does not fit; nothing has run.
    """
    room = sequence.context - sequence.length
    if len(prompt) > room:
        raise CapacityError(f"the prompt has {len(prompt)} tokens, there is room for {room}")
    chooser.observe(prompt)
    # A full context still gives one token: it is chosen from the last logits and never run.
    left = room - len(prompt) + 1
    if max_tokens is not None:
        left = min(left, max_tokens)
    chunk = np.asarray(prompt, np.int32)
    between = None if cancelled is None else _raiser(cancelled)
    while True:
        if cancelled is not None and cancelled():
            return
        chooser.start_mask()
        try:
            logits = sequence.extend(chunk, between)
        except _Cancelled:
            return
        choice = chooser.choose(logits)
        for step in _steps(choice, left, eos_ids):
            yield step
            if step.finish is not None:
                return
        chunk = np.array([choice.token, *choice.forced], np.int32)
        left -= len(chunk)


def _raiser(cancelled: Callable[[], bool]) -> Callable[[], None]:
    def look() -> None:
        if cancelled():
            raise _Cancelled

    return look


def _steps(choice: Choice, left: int, eos_ids: Collection[int]) -> Iterator[ChosenToken]:
    """The tokens of a choice, until something ends the answer; `left` tokens may still be chosen."""
    if choice.token in eos_ids:
        yield ChosenToken(choice.token, "stop", _logprob(choice))
        return
    tokens = (choice.token, *choice.forced)
    for index, token in enumerate(tokens):
        if choice.logprob is None:
            logprob = None
        else:
            logprob = TokenLogprob(token, None) if index else _logprob(choice)
        if choice.finished and index == len(tokens) - 1:
            yield ChosenToken(token, "stop", logprob, complete=True)
        else:
            yield ChosenToken(token, "length" if index == left - 1 else None, logprob)


def _logprob(choice: Choice) -> TokenLogprob | None:
    if choice.logprob is None:
        return None
    return TokenLogprob(choice.token, choice.logprob, choice.top_logprobs)
