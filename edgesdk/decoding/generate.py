"""The loop: run the prompt, choose a token, run it, choose the next, until something ends the answer.

It works on any `TokenSequence`. The last token chosen is never run: nobody asks for what follows it.
Tokens that a grammar forces are run with the token before them, as one chunk; tokens that a drafter proposes
after them, and as many are kept as the answer's own choices agree with. The clock stops while the consumer
holds a piece, so slow readers do not look like slow decoding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgesdk.backends import protocol
from edgesdk.decoding.accept import Accepted, accept
from edgesdk.decoding.ahead import Ahead
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.completion import Chunk
from edgesdk.decoding.draft import Draft, DraftRequest, JudgedStep, judge_draft, new_draft_key
from edgesdk.decoding.drafting import Drafting
from edgesdk.decoding.judging import judge_of


class _Cancelled(Exception):  # noqa: N818 - no error
    """Leaves a prompt between two of its pieces."""


def generate(
    sequence: protocol.TokenSequence,
    prompt: protocol.Int,
    chooser: Chooser,
    answer: Answer,
    cancelled: Callable[[], bool],
    drafting: Drafting | None = None,
) -> Iterator[Chunk]:
    """Appends `prompt` to a sequence and chooses the tokens of an answer to it.

    Args:
        sequence: where to generate; what it already holds comes before the prompt.
        prompt: (n,) int32 token ids, at least one.
        chooser: new; its history has the prompt.
        answer: new; its limit is at most one token above what the sequence has room for after the prompt.
        cancelled: asked before every run of the model, those of a long prompt's pieces included. Once it
            says so, the sequence may hold a part of the prompt.
        drafting: proposes tokens; None for an answer token by token.

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
    steps = _Steps(sequence, prompt, chooser, answer, drafting)
    try:
        while True:
            try:
                look()
                chooser.start_mask()
                accepted = steps.run(look, held_s)
            except _Cancelled:
                yield answer.complete("cancelled", started_s)
                return
            if accepted.finish is not None:
                yield answer.complete(accepted.finish, started_s)
                return
            for piece in answer.take():
                given_s = time.perf_counter()
                yield piece
                held_s += time.perf_counter() - given_s
    finally:
        steps.end()


class _Steps:
    """The steps of one answer, each with the tokens that the one before it left to be run."""

    def __init__(
        self,
        sequence: protocol.TokenSequence,
        prompt: protocol.Int,
        chooser: Chooser,
        answer: Answer,
        drafting: Drafting | None,
    ) -> None:
        self._sequence = sequence
        self._stated = sequence if isinstance(sequence, protocol.StatedSequence) else None
        self._chooser = chooser
        self._answer = answer
        self._drafting = drafting
        self._chunk = prompt
        self._state: protocol.Float | None = None
        self._ahead: Ahead | None = None
        self._key = -1
        if drafting is not None and drafting.on and not sequence.length:  # a drafter must know all tokens
            self._key = new_draft_key()
            self._judge = judge_of(sequence)
            self._known = np.empty(len(prompt) + answer.left, np.int32)
            self._known[: len(prompt)] = prompt
            self._count = self._prompt = len(prompt)

    def run(self, look: Callable[[], None], held_s: float) -> Accepted:
        """Runs the next step and chooses."""
        chunk, chooser, answer = self._chunk, self._chooser, self._answer
        draft = self._propose()
        self._ahead = None
        began = time.perf_counter()
        if draft is None:
            logits = self._sequence.extend(chunk, look)
            ran = time.perf_counter()
            accepted = accept(chooser, answer, None, logits[None], ran - held_s)
        else:
            accepted, ran = self._run_draft(chunk, draft, held_s)
        if self._key >= 0:
            self._learn(draft, accepted, ran - began, len(chunk) - 1)
        self._chunk = np.array(accepted.pending, np.int32)
        if self._key >= 0 and self._stated is not None:
            hidden = self._stated.hidden
            self._state = None if hidden is None else hidden.copy()
        return accepted

    def end(self) -> None:
        """The answer has ended, however it did."""
        if self._drafting is not None and self._key >= 0:
            self._drafting.forget(self._key)

    def _run_draft(self, chunk: protocol.Int, draft: Draft, held_s: float) -> tuple[Accepted, float]:
        found: list[Accepted] = []
        ran = 0.0

        def walk(rows: protocol.Float) -> Sequence[int]:
            nonlocal ran
            ran = time.perf_counter()
            found.append(accept(self._chooser, self._answer, draft, rows, ran - held_s))
            self._ahead = found[0].ahead(draft, rows)
            return found[0].path

        self._judge.judge(chunk, draft, walk)
        return found[0], ran

    def _propose(self) -> Draft | None:
        """A draft for what comes after the tokens that are to be run; none for a prompt."""
        drafting, answer = self._drafting, self._answer
        if drafting is None or self._key < 0 or not answer.tokens or not drafting.on:
            return None
        count = len(self._chunk)
        # The last token of an answer is never run.
        deepest = min(answer.left - 1, self._sequence.context - self._sequence.length - count)
        most = self._judge.most_drafts(count)
        if most < 1 or deepest < 1:
            return None
        request = DraftRequest(
            self._key,
            self._known[: self._count],
            most,
            min(deepest, most),
            self._prompt,
            self._chooser.draft_sampling,
            self._state,
            self._chooser.draft_grammar,
            count,
            self._ahead,
        )
        (draft,) = drafting.propose([request])
        if draft is not None:
            draft = self._chooser.fit_draft(self._judge.fit(draft), request.most, request.deepest)
        return draft

    def _learn(self, draft: Draft | None, accepted: Accepted, model_s: float, forced: int) -> None:
        prefilled = self._prompt if self._count == self._prompt else 0
        self._known[self._count : self._count + len(accepted.tokens)] = accepted.tokens
        self._count += len(accepted.tokens)
        if self._drafting is not None:
            judged = () if draft is None else (judge_draft(self._key, draft, len(accepted.path)),)
            decoded, forced = (0, 0) if prefilled else (1, forced)
            self._drafting.learn(JudgedStep(decoded, prefilled, model_s, judged, forced))
