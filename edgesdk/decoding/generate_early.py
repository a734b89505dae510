"""The loop of an answer whose tokens may leave the model early; its figures go into the completion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from edgesdk.decoding.completion import Chunk
from edgesdk.decoding.generate import generate
from edgesdk.decoding.request_reader import AnswerRequest
from edgesdk.dispatch.exit_rule import ExitRule
from edgesdk.dispatch.exit_sequence import ExitLog, ExitSequence
from edgesdk.dispatch.exit_steps import ExitSteps


def generate_early(
    open_steps: Callable[[], ExitSteps],
    log: ExitLog,
    rule: ExitRule,
    request: AnswerRequest,
    cancelled: Callable[[], bool],
) -> Iterator[Chunk]:
    """Answers a request in segments, whose cells are this answer's alone.

    Args:
        open_steps: opens the segments, when the first piece is asked for.
        log: told what has left early.
        rule: when a token leaves.
        request: to be answered; the prompt runs through the whole model.
        cancelled: as for `generate`.

    Yields:
        What `generate` yields; the completion says how early its tokens left.
    """
    sequence = ExitSequence(open_steps(), rule)
    try:
        for chunk in generate(sequence, request.prompt, request.choosers[0], request.answers[0], cancelled):
            if chunk.completion is None:
                yield chunk
                continue
            log.add(sequence.figures)
            yield replace(chunk, completion=replace(chunk.completion, exits=sequence.figures))
    finally:
        sequence.close()
