"""Questions as branches of one prompt: the text is run once, and each question goes on from its cells.

A branch has the very tokens that a call of its own would have, so its answer is the same, up to what the
backend makes of company (docs/engine.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from edgesdk.engine.generation import Generation
from edgesdk.engine.session import Session
from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk.orchestration.desk import Desk, failed, stopped
from edgesdk.orchestration.prompt_writer import common_length
from edgesdk.plans.many_answers import HowAnswered, ItemAnswer

_PIECE = 512
"""Tokens of a text that run before the caller is asked again whether to stop."""


def ask_forked(desk: Desk, text: str, queries: Sequence[str]) -> list[ItemAnswer]:
    """Asks all questions at once; an item that fails says why.

    Raises:
        UnsupportedOption: an option has no meaning.
        CapacityError: a question does not fit beside the text.
        DeviceError: the engine is closed.
    """
    prompts = [desk.prompt(text, query) for query in queries]
    desk.account.apart += sum(map(len, prompts))
    shared = common_length(prompts)
    with desk.engine.session() as base:
        problem = _run_shared(desk, base, prompts[0][:shared])
        if problem is not None:
            return failed(queries, "fork", problem)
        return _ask_branches(desk, base, queries, [prompt[shared:] for prompt in prompts])


def ask_single(desk: Desk, text: str, queries: Sequence[str]) -> list[ItemAnswer]:
    """Asks one question after the other, each in a call of its own; the baseline of the others.

    Raises:
        UnsupportedOption, CapacityError, DeviceError: as `ask_forked`.
    """
    items = []
    for place, query in enumerate(queries):
        prompt = desk.prompt(text, query)
        desk.account.apart += len(prompt)
        items.append(ask_one(desk, place, query, prompt))
    return items


def ask_one(desk: Desk, place: int, query: str, prompt: list[int], **changed: object) -> ItemAnswer:
    """Asks one question by itself; an item that fails says why.

    Args:
        desk: where it is asked.
        place: of the question.
        query: the question.
        prompt: (n,) token ids.
        **changed: options of the request that are not the desk's.

    Raises:
        UnsupportedOption, CapacityError, DeviceError: as `ask_forked`.
    """
    problem = _why_not(desk)
    if problem is not None:
        return failed([query], "single", problem)[0]
    with desk.engine.submit(prompt, block=True, **desk.options(place, **changed)) as generation:
        return _settle(desk, place, query, generation)


def _run_shared(desk: Desk, base: Session, tokens: list[int]) -> str | None:
    """Runs what all prompts begin with; returns why it could not."""
    for first in range(0, len(tokens), _PIECE):
        problem = _why_not(desk)
        if problem is not None:
            return problem
        try:
            base.append(tokens[first : first + _PIECE])
        except UnsupportedOption:
            raise
        except EdgeError as error:
            return str(error)
    desk.account.prompt_tokens += len(tokens)
    return None


def _ask_branches(
    desk: Desk, base: Session, queries: Sequence[str], rests: Sequence[Sequence[int]]
) -> list[ItemAnswer]:
    """Has each question go on from the shared cells, as many at once as find cells for their answers."""
    # More would take each other's cells, and be computed again from the start.
    room = desk.engine.metrics.cells_used + desk.engine.metrics.cells_free - base.length
    width = max(1, room // (max(map(len, rests)) + desk.answer_tokens))
    items: dict[int, ItemAnswer] = {}
    running: deque[tuple[int, Session, Generation]] = deque()

    def settle() -> None:
        place, branch, generation = running.popleft()
        items[place] = _settle(desk, place, queries[place], generation, fork=True)
        branch.close()

    with ExitStack() as stack:
        for place, rest in enumerate(rests):
            if len(running) >= width:
                settle()
            problem = _why_not(desk)
            if problem is not None:
                items[place] = failed([queries[place]], "fork", problem)[0]
                continue
            branch = stack.enter_context(base.fork())
            generation = stack.enter_context(branch.submit(rest, **desk.options(place)))
            running.append((place, branch, generation))
        while running:
            settle()
    return [items[place] for place in range(len(queries))]


def _settle(desk: Desk, place: int, query: str, generation: Generation, *, fork: bool = False) -> ItemAnswer:
    """Waits for an answer and looks at it."""
    how: HowAnswered = "fork" if fork else "single"
    try:
        completion = desk.wait(generation)
    except EdgeError as error:
        return failed([query], how, str(error))[0]
    desk.ran(generation, completion)
    return desk.item(place, query, completion, how)


def _why_not(desk: Desk) -> str | None:
    """Why nothing more may be asked."""
    if desk.allowance.is_cancelled():
        return stopped("cancelled", 0)
    return stopped("deadline", 0) if desk.allowance.is_over() else None
