"""How near a draft in a file is to what it is in float32, from the states of the model that runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import NO_CELLS, StepBackend, StepBuffers
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.stack_record import DRAFT, STATE
from edgesdk.bundle.step_shape import StepShape
from edgesdk.kv.step_model import steps_of
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk.model import Model
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.program import Program

_TOKENS = 128


def draft_agreement(model: Model, draft: Program, text: NDArray[np.int32]) -> float:
    """Share of equal first choices, of the draft in a file and in float32.

    Args:
        model: with the draft in its file.
        draft: its graph, with weights in float32.
        text: (n,) token ids; of the first 128 each is a place to go on from.
    """
    steps = steps_of(model.backend)
    assert steps is not None  # targets that hold drafts have backends that run steps
    runner = StepRunner(steps, model.decoder, model.full_context)
    text = text[: min(_TOKENS, runner.context, runner.token_budgets[-1])]
    given, tokens = text[:-1], text[1:]
    cells = runner.new_list()
    runner.run([StepEntry(cells, given, "all")])
    states = runner.hidden[0]
    cells.close()
    runner.close()
    assert states is not None  # the model gives them, since it has a draft
    expected = evaluate(draft.graph, draft.weights, {"tokens": tokens, STATE: states})["logits"]
    shape = max(shape for shape in steps.shapes if shape.stack == DRAFT)
    found = [
        turns_of(steps).take(_first_choices, steps, shape, tokens[at : at + shape.tokens], states[at:])
        for at in range(0, len(tokens), shape.tokens)
    ]
    return float((np.concatenate(found) == expected.argmax(axis=1)).mean())


def _first_choices(
    steps: StepBackend, shape: StepShape, tokens: NDArray[np.int32], states: NDArray[np.float32]
) -> NDArray[np.intp]:
    """The likeliest of the draft's tokens after each of some, by its number."""
    arrays: StepBuffers = steps.buffers(shape)
    count = len(tokens)
    arrays.tokens[:count], arrays.tokens[count:] = tokens, 0
    arrays.extra[STATE][:count], arrays.extra[STATE][count:] = states[:count], 0
    steps.run(shape, NO_CELLS)
    chosen: NDArray[np.intp] = arrays.logits[:count].argmax(axis=1)
    return chosen
