"""The loop: run the prompt, choose a token, run it, choose the next, until something ends the answer.

It works on any `TokenSequence`. The last token chosen is never run: nobody asks for what follows it.
Tokens that a grammar forces are run with the token before them, as one chunk. The clock stops while the
consumer holds a piece, so slow readers do not look like slow decoding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from edgesdk.backends import protocol
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.completion import Chunk


class _Cancelled(Exception):  # noqa: N818 - no error
    """Leaves a prompt between two of its pieces."""


def generate(
    sequence: protocol.TokenSequence,
    prompt: protocol.Int,
    chooser: Chooser,
    answer: Answer,
    cancelled: Callable[[], bool],
) -> Iterator[Chunk]:
    """Appends `prompt` to a sequence and chooses the tokens of an answer to it.

    Args:
        sequence: where to generate; what it already holds comes before the prompt.
        prompt: (n,) int32 token ids, at least one.
        chooser: new; its history has the prompt.
        answer: new; its limit is at most one token above what the sequence has room for after the prompt.
        cancelled: asked before every run of the model, those of a long prompt's pieces included. Once it
            says so, the sequence may hold a part of the prompt.

    Yields:
        Pieces of text that are certain; the last one, which may be empty, brings the completion.

    Raises:
        CapacityError: the prompt does not fit; nothing has run.
    """

    def look() -> None:
        if cancelled():
            raise _Cancelled

    started_s = time.perf_counter()
    held_s = 0.0
    chunk = prompt
    while True:
        try:
            look()
            chooser.start_mask()
            logits = sequence.extend(chunk, look)
        except _Cancelled:
            yield answer.complete("cancelled", started_s)
            return
        choice = chooser.choose(logits)
        tokens, finish = answer.push(choice, time.perf_counter() - held_s)
        if finish is not None:
            yield answer.complete(finish, started_s)
            return
        for piece in answer.take():
            given_s = time.perf_counter()
            yield piece
            held_s += time.perf_counter() - given_s
        chunk = np.array(tokens, np.int32)
