"""Questions as branches of one prompt: the text is run once, and each question goes on from its cells.

A branch has the very tokens that a call of its own would have, so its answer is the same, up to what the
backend makes of company (docs/engine.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack

from edgesdk.engine.generation import Generation
from edgesdk.engine.session import Session
from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk.orchestration.desk import Desk, failed, stopped
from edgesdk.orchestration.prompt_writer import WrittenPrompt, common_length
from edgesdk.plans.many_answers import HowAnswered, ItemAnswer

_PIECE = 512
"""Tokens of a text that run before the caller is asked again whether to stop."""


def ask_forked(
    desk: Desk, text: str, queries: Mapping[int, str], how: HowAnswered = "fork", **changed: object
) -> dict[int, ItemAnswer]:
    """Asks all questions at once; an item that fails says why.

    Args:
        desk: where they are asked.
        text: that they are about.
        queries: the questions by their places.
        how: what the answers say of how they came about.
        **changed: options of the requests that are not the desk's.

    Raises:
        UnsupportedOption: an option has no meaning.
        CapacityError: a question does not fit beside the text.
        DeviceError: the engine is closed.
    """
    prompts = {place: desk.prompt(text, query) for place, query in queries.items()}
    ids = [prompt.ids for prompt in prompts.values()]
    shared = common_length(ids)
    with desk.engine.session(adapter=desk.answering.adapter) as base:
        problem = _run_shared(desk, base, ids[0][:shared])
        if problem is not None:
            return {place: failed(query, how, problem) for place, query in queries.items()}
        return _ask_branches(desk, base, queries, prompts, how, changed)


def ask_single(desk: Desk, text: str, queries: Mapping[int, str]) -> dict[int, ItemAnswer]:
    """Asks one question after the other, each in a call of its own; the baseline of the others.

    Raises:
        UnsupportedOption, CapacityError, DeviceError: as `ask_forked`.
    """
    return {place: ask_one(desk, place, query, desk.prompt(text, query)) for place, query in queries.items()}


def ask_one(desk: Desk, place: int, query: str, prompt: WrittenPrompt) -> ItemAnswer:
    """Asks one question in a call of its own; an item that fails says why.

    Args:
        desk: where it is asked.
        place: of the question.
        query: the question.
        prompt: what asks it.

    Raises:
        UnsupportedOption, CapacityError, DeviceError: as `ask_forked`.
    """
    problem = _why_not(desk)
    if problem is not None:
        return failed(query, "single", problem)
    with prompt.submit(desk.engine, desk.options(place)) as generation:
        return _settle(desk, place, query, generation, "single")


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
    desk: Desk,
    base: Session,
    queries: Mapping[int, str],
    prompts: Mapping[int, WrittenPrompt],
    how: HowAnswered,
    changed: Mapping[str, object],
) -> dict[int, ItemAnswer]:
    """Has each question go on from the shared cells, as many at once as find cells for their answers."""
    # More would take each other's cells, and be computed again from the start.
    room = desk.engine.metrics.cells_used + desk.engine.metrics.cells_free - base.length
    longest = max(len(prompt.ids) for prompt in prompts.values()) - base.length
    width = max(1, room // (longest + desk.most_tokens(changed)))
    items: dict[int, ItemAnswer] = {}
    running: deque[tuple[int, Session, Generation]] = deque()

    def settle() -> None:
        place, branch, generation = running.popleft()
        items[place] = _settle(desk, place, queries[place], generation, how)
        branch.close()

    with ExitStack() as stack:
        for place, prompt in prompts.items():
            if len(running) >= width:
                settle()
            problem = _why_not(desk)
            if problem is not None:
                items[place] = failed(queries[place], how, problem)
                continue
            branch = stack.enter_context(base.fork())
            asked = prompt.submit_in(branch, desk.options(place, **changed))
            generation = stack.enter_context(asked)
            running.append((place, branch, generation))
        while running:
            settle()
    return items


def _settle(desk: Desk, place: int, query: str, generation: Generation, how: HowAnswered) -> ItemAnswer:
    """Waits for an answer and looks at it."""
    try:
        completion = desk.wait(generation)
    except EdgeError as error:
        return failed(query, how, str(error))
    desk.ran(generation, completion)
    return desk.item(place, query, completion, how)


def _why_not(desk: Desk) -> str | None:
    """Why nothing more may be asked."""
    if desk.allowance.is_cancelled():
        return stopped("cancelled", 0)
    return stopped("deadline", 0) if desk.allowance.is_over() else None
