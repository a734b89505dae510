"""What a step's logits make of an answer and its draft: the answer's own choices, walked along the draft.

From the last token on the chooser is asked for the next one, by the logits after it. As long as what it
chooses was drafted, the logits after that are at hand, too. The first choice that was not ends the walk. So
penalties, grammars, log-probabilities, stop strings and random numbers are those of an answer without drafts:
there is nothing to take back. It knows nothing of cells or backends.

A chain of 7 and 5 after an answer, whose chooser would say 7, 5, 2: tokens (7, 5, 2), path (0, 1); 2 is what
the next step runs. If it would say 7, 4: tokens (7, 4), path (0,).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.backends.protocol import Float
from edgesdk.decoding.ahead import Ahead, read_ahead, stream_rows
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.draft import Chances, Draft
from edgesdk.decoding.stopping import FinishReason


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a step gave an answer.

    Attributes:
        tokens: the answer's new tokens, at least one.
        path: which of the draft's tokens are the first of them, and are to be kept: indices, the first
            follows the last token before the step, each other the one before it.
        finish: why the answer ends with the last of `tokens`; None if the others are to be run next: those
            after the path, at least one. Of an answer that has ended, nothing is kept that no other choice
            followed.
    """

    tokens: tuple[int, ...]
    path: tuple[int, ...]
    finish: FinishReason | None

    @property
    def pending(self) -> tuple[int, ...]:
        """Tokens without cells."""
        return self.tokens[len(self.path) :]

    def ahead(self, draft: Draft | None, rows: Float) -> Ahead | None:
        """What the streams behind the last token with a cell say; None without streams.

        Args:
            draft: that the step has judged.
            rows: its logits, as `accept` was given them.
        """
        if draft is None or draft.streams is None:
            return None
        at = self.path[-1] if self.path else -1
        return read_ahead(rows[1:], stream_rows(draft.parents, draft.streams, at))


def accept(chooser: Chooser, answer: Answer, draft: Draft | None, rows: Float, now_s: float) -> Accepted:
    """Goes on with an answer after a step.

    Args:
        chooser: of the answer.
        answer: takes the tokens.
        draft: that the step has judged, if any; its streams are no choices.
        rows: (1 + d, V) logits after the answer's last token and after each of the d drafted ones; left as
            they are.
        now_s: on the driver's clock.

    Raises:
        DeviceError: the logits are not numbers.
        UnsupportedOption: the grammar became too complex, or leaves nothing to choose.
    """
    children = {} if draft is None else _children(draft)
    tokens: list[int] = []
    path: list[int] = []
    at = -1
    finish: FinishReason | None = None
    walking = True
    while walking:
        following = children.get(at, {})
        choice = chooser.choose(rows[at + 1], _drawn(draft, following))
        chosen, finish = answer.push(choice, now_s)
        tokens += chosen
        walking = finish is None
        if walking:
            for token in chosen:
                row = children.get(at, {}).get(token)
                if row is None:
                    walking = False
                    break
                path.append(row)
                at = row
    answer.count_step(0 if draft is None else draft.guesses, len(path))
    return Accepted(tuple(tokens), tuple(path), finish)


def _children(draft: Draft) -> dict[int, dict[int, int]]:
    """By token and what it follows: its index."""
    found: dict[int, dict[int, int]] = {}
    streams = None if draft.streams is None else draft.streams.tolist()
    for row, (token, parent) in enumerate(zip(draft.tokens.tolist(), draft.parents.tolist(), strict=True)):
        if streams is None or not streams[row]:
            found.setdefault(parent, {})[token] = row
    return found


def _drawn(draft: Draft | None, following: dict[int, int]) -> tuple[tuple[int, Chances], ...]:
    """Tokens that were drawn to follow the same one, in their order; none of a draft of guesses."""
    if draft is None or draft.chances is None:
        return ()
    return tuple((token, draft.chances[row]) for token, row in following.items())
