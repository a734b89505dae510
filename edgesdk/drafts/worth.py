"""Which guesses are worth a row of the next step: as many as bring the most tokens per second.

A row costs what it adds to the step, and brings the chance that its token is kept, which is that of its
predecessors times its own: so rows are taken best first, from all answers of the step together, and as many
as maximise (answers + sum of chances) / (time of so many rows). A row's predecessor has a chance at least as
high, so what is taken is closed under predecessors, a tree for each answer. (The budget of Sequoia, arXiv
2402.12374, section 3, and of SpecInfer's merged trees, with chances and costs that are measured while answers
run.)

Where nothing brings more than it costs, nothing is taken: drafts are off, and on again as soon as chances or
costs say otherwise. Numbers in, numbers out: no clock, no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

LEAST_GAIN = 1.03
"""Drafts must bring so many times the tokens per second: the time of steps is without the host's part."""


def choose_rows(
    chances: Sequence[Sequence[float]], cost: Callable[[int], float], *, most: int, forced: int = 0
) -> list[list[int]]:
    """The rows to draft.

    Args:
        chances: for each answer the chance of each token of its guess, predecessors included.
        cost: time of a step of so many tokens, in any unit.
        most: rows beside one for each answer.
        forced: tokens that the step runs in any case beyond one for each answer; they bring nothing anew.

    Returns:
        For each answer rows of its guess, ascending; all empty where drafts do not pay.

    Example:
        >>> choose_rows([[0.9, 0.8, 0.1], [0.2]], lambda tokens: 1 + 0.2 * (tokens - 1), most=8)
        [[0, 1], []]
    """
    answers = len(chances)
    ranked = sorted(
        ((chance, -row, -answer) for answer, guess in enumerate(chances) for row, chance in enumerate(guess)),
        reverse=True,
    )[: max(most, 0)]
    least = answers + forced
    best = LEAST_GAIN * answers / cost(least)
    expected, taken = float(answers), 0
    for count, (chance, _, _) in enumerate(ranked, start=1):
        expected += chance
        speed = expected / cost(least + count)
        if speed > best:
            best, taken = speed, count
    rows: list[list[int]] = [[] for _ in chances]
    for _, row, answer in ranked[:taken]:
        rows[-answer].append(-row)
    for chosen in rows:
        chosen.sort()
    return rows


def best_depth(
    rate: float, cost: Callable[[int], float], price_s: float, *, answers: int, most: int
) -> tuple[int, float]:
    """How far ahead a drafter pays that asks a model for each token.

    Args:
        rate: how often its token is kept, where the one before is.
        cost: time of a step of so many tokens.
        price_s: time that one more token of every answer costs the drafter.
        answers: that the step goes on with.
        most: most tokens ahead.

    Returns:
        Tokens ahead, 0 where none pays, and the speed that this brings over that without drafts.
    """
    plain = answers / cost(answers)
    best, depth = LEAST_GAIN, 0
    expected = reach = 1.0
    for ahead in range(1, most + 1):
        reach *= rate
        expected += reach
        gain = answers * expected / (cost(answers * (1 + ahead)) + ahead * price_s) / plain
        if gain > best:
            best, depth = gain, ahead
    return depth, best if depth else 1.0
