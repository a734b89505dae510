"""A conversation that branches: editing a question, or asking again, begins a branch beside the old one.

It knows neither windows nor models.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

ROLES = ("user", "assistant")


@dataclass
class Turn:
    """One message.

    Attributes:
        role: `user` or `assistant`; empty for the root.
        text: what was said.
        note: why an answer is not whole; empty if it is.
        parent: number of the turn before it; its own for the root.
        children: numbers of the turns that follow it, one for each branch.
        chosen: the place in `children` of the branch that is shown.
    """

    role: str
    text: str
    parent: int
    note: str = ""
    children: list[int] = field(default_factory=list)
    chosen: int = 0


class ChatTree:
    """Turns by number; 0 is the root, which is no message."""

    def __init__(self) -> None:
        """Begins empty."""
        self._turns = [Turn("", "", 0)]

    def __getitem__(self, number: int) -> Turn:
        """The turn of that number."""
        return self._turns[number]

    def add(self, parent: int, role: str, text: str = "") -> int:
        """A new branch after `parent`, which is shown from now on; returns the number of its turn."""
        self._turns.append(Turn(role, text, parent))
        before = self._turns[parent]
        before.children.append(len(self._turns) - 1)
        before.chosen = len(before.children) - 1
        return len(self._turns) - 1

    def shown(self) -> list[int]:
        """The turns of the branch that is shown, in order."""
        found, at = [], 0
        while self._turns[at].children:
            at = self._turns[at].children[self._turns[at].chosen]
            found.append(at)
        return found

    def messages(self, last: int) -> list[dict[str, str]]:
        """The conversation up to a turn, as `edgesdk` takes it."""
        found = []
        while last:
            turn = self._turns[last]
            found.append({"role": turn.role, "content": turn.text})
            last = turn.parent
        return found[::-1]

    def branch(self, number: int) -> tuple[int, int]:
        """Which of how many branches a turn begins, counted from 0."""
        siblings = self._turns[self._turns[number].parent].children
        return siblings.index(number), len(siblings)

    def choose(self, number: int, step: int) -> None:
        """Shows the branch before (-1) or after (1) that of a turn; those at the ends stay."""
        place, count = self.branch(number)
        self._turns[self._turns[number].parent].chosen = min(max(place + step, 0), count - 1)

    def to_json(self) -> str:
        """All branches."""
        return json.dumps([asdict(turn) for turn in self._turns], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ChatTree:
        """The tree that `to_json` wrote.

        Raises:
            ValueError: it is not one; an app begins anew then.
        """
        try:
            turns = [Turn(**entry) for entry in json.loads(text)]
        except (TypeError, RecursionError) as error:
            raise ValueError(f"this is no conversation: {error}") from error
        tree = cls()
        tree._turns = turns
        if not turns or turns[0].role:
            raise ValueError("this is no conversation: it has no beginning")
        for number, turn in enumerate(turns):
            # A child comes after its parent, so no walk through a tree goes round in a circle.
            fits = isinstance(turn.children, list)
            fits = fits and all(type(c) is int and number < c < len(turns) for c in turn.children)
            fits = fits and all(turns[child].parent == number for child in turn.children)
            fits = fits and type(turn.chosen) is int and 0 <= turn.chosen < max(len(turn.children), 1)
            fits = fits and (
                number == 0 or (turn.role in ROLES and number in turns[_parent(turn, number)].children)
            )
            if not fits or not isinstance(turn.text, str) or not isinstance(turn.note, str):
                raise ValueError(f"this is no conversation: turn {number} does not fit the others")
        return tree


def _parent(turn: Turn, number: int) -> int:
    if type(turn.parent) is not int or not 0 <= turn.parent < number:
        raise ValueError(f"this is no conversation: turn {number} follows nothing")
    return turn.parent
