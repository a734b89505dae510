"""Runs many texts once each, in steps that are as full as they come, for what the model says of their tokens.

A step holds as many texts as its tokens, its rows and the free cells allow; at most one text at a time is cut
at the end of a step. Texts may go on from a common beginning, whose cells they share. It chooses nothing and
knows no text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from edgesdk.backends.protocol import Float, Int
from edgesdk.errors import CapacityError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_runner import StepEntry, StepRunner

Given = Literal["logits", "hidden", "every logits", "every hidden", "states"]
"""Of each text the logits after its last token, or what the head reads there; either after every token, in as
many rows of the head; or the state of every token, in none."""


class RunPiece(NamedTuple):
    """What a step gave of a text.

    Attributes:
        place: of the text.
        rows: (n, W) float32, of the last n tokens that have run; valid until the next piece.
        ended: whether the text has run to its end.
    """

    place: int
    rows: Float
    ended: bool


class _Open(NamedTuple):
    place: int
    cells: CellList
    done: int


def check_lengths(texts: Sequence[Int], context: int, begun: int = 0) -> None:
    """Refuses texts that do not fit.

    Args:
        texts: token ids, (n,) int32 each.
        context: most tokens of one.
        begun: tokens that stand before each.

    Raises:
        CapacityError: one is longer; naming its place.
    """
    for place, text in enumerate(texts):
        if begun + len(text) > context:
            raise CapacityError(
                f"text {place} has {begun + len(text)} tokens, more than the context of {context}; "
                "shorten it, or convert with a larger --context"
            )


def run_texts(
    runner: StepRunner, texts: Sequence[Int], *, give: Given = "logits", after: CellList | None = None
) -> Iterator[RunPiece]:
    """Runs texts in their order.

    Args:
        runner: that nobody else uses meanwhile.
        texts: token ids, (n,) int32 each, n at least 1.
        give: which rows; the runner's stack must have them.
        after: a sequence that all texts go on from; it stays as it is.

    Raises:
        CapacityError: a text does not fit the context; naming its place.
        DeviceError: the backend failed.
    """
    check_lengths(texts, runner.context, 0 if after is None else after.length)
    every_row = give.startswith("every")
    waiting = iter(enumerate(texts))
    left = sum(len(text) for text in texts)
    cut: _Open | None = None
    opened: list[CellList] = []
    try:
        while left:
            budget = min(runner.piece(left, all_rows=every_row), left)
            most_rows = runner.most_rows(budget)
            entries: list[StepEntry] = []
            ran: list[_Open] = []
            tokens = rows = 0
            while tokens < budget:
                if cut is None:
                    if rows >= most_rows or runner.pool.free <= tokens:
                        break
                    following = next(waiting, None)
                    if following is None:
                        break
                    cells = runner.new_list() if after is None else after.fork()
                    opened.append(cells)
                    cut = _Open(following[0], cells, 0)
                text = texts[cut.place]
                count = min(len(text) - cut.done, budget - tokens, runner.pool.free - tokens)
                if count <= 0:
                    break
                ends = cut.done + count == len(text)
                entries.append(
                    StepEntry(
                        cut.cells,
                        text[cut.done : cut.done + count],
                        "all" if every_row else "last" if ends and give != "states" else "none",
                    )
                )
                tokens += count
                rows += count if every_row else ends and give != "states"
                ran.append(cut._replace(done=cut.done + count))
                cut = None if ends else ran[-1]
            if not entries:
                raise CapacityError(f"{left} tokens are left to run and no cell is free; end other sequences")
            logits = runner.run(entries)
            left -= tokens
            found = runner.states if give == "states" else runner.hidden if "hidden" in give else logits
            for run, result in zip(ran, found, strict=True):
                ended = run.done == len(texts[run.place])
                if result is not None:
                    yield RunPiece(run.place, result.reshape(-1, result.shape[-1]), ended)
            for run in ran:
                if run.done == len(texts[run.place]):
                    run.cells.close()
                    opened.remove(run.cells)
    finally:
        for cells in opened:
            cells.close()
