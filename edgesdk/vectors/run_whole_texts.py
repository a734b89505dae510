"""Runs many texts once each where every token sees the whole of its text: a step holds a text, or several.

Short texts share a step until it is full; what a step has beyond their tokens sees itself alone. It is what
`run_texts` is for causal models, without cells: nothing is left of a step but its states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from edgesdk.backends.protocol import MASKED, NO_CELLS, Float, Int, StepBackend, StepBuffers
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.stack_record import STATES
from edgesdk.bundle.step_shape import MAIN, StepShape
from edgesdk.errors import DeviceError
from edgesdk.vectors.run_texts import RunPiece, check_lengths

FULL_TOKENS = 128
"""Of a step that holds several texts: scores cost T for every token, so more short ones would be slower."""


def run_whole_texts(
    backend: StepBackend, spec: DecoderSpec, context: int, texts: Sequence[Int]
) -> Iterator[RunPiece]:
    """Runs texts in their order.

    Args:
        backend: whose main stack gives states and has no cells.
        spec: its shape.
        context: most tokens of a text.
        texts: token ids, (n,) int32 each, n at least 1.

    Yields:
        For each text (n, W) float32, the states of all its tokens, once.

    Raises:
        CapacityError: a text does not fit the context; naming its place.
        DeviceError: the backend failed, or gave what are no finite numbers.
    """
    check_lengths(texts, context)
    shapes = sorted(shape for shape in backend.shapes if shape.stack == MAIN)
    turns = turns_of(backend)
    full = min(FULL_TOKENS, max((shape.tokens for shape in shapes), default=0))
    for places in _steps([len(text) for text in texts], full):
        held = [texts[place] for place in places]
        total = sum(len(text) for text in held)
        shape = next((shape for shape in shapes if shape.tokens >= total), None)
        if shape is None:
            raise DeviceError(f"no step of the file holds {total} tokens; convert the bundle again")
        states = turns.take(_run, backend, spec, shape, held)
        if not np.isfinite(states).all():
            raise DeviceError("the backend returned states that are not finite numbers; try another backend")
        start = 0
        for place in places:
            end = start + len(texts[place])
            yield RunPiece(place, states[start:end], True)
            start = end


def _steps(lengths: Sequence[int], full: int) -> Iterator[list[int]]:
    """Places of the texts of each step: one, or as many as fill so many tokens."""
    places: list[int] = []
    total = 0
    for place, length in enumerate(lengths):
        if places and total + length > full:
            yield places
            places, total = [], 0
        places.append(place)
        total += length
    if places:
        yield places


def _run(backend: StepBackend, spec: DecoderSpec, shape: StepShape, texts: Sequence[Int]) -> Float:
    """One step, in a turn: (n, W) states of all tokens, in an array of their own."""
    buffers = backend.buffers(shape)
    buffers.tokens[:], buffers.positions[:] = 0, 0
    start = 0
    for text in texts:
        end = start + len(text)
        buffers.tokens[start:end] = text
        buffers.positions[start:end] = np.arange(len(text))
        start = end
    _show(buffers, spec.window, [len(text) for text in texts])
    backend.run(shape, NO_CELLS)
    return cast(Float, buffers.port(STATES))[:start].copy()


def _show(buffers: StepBuffers, window: int | None, lengths: Sequence[int]) -> None:
    """Lets tokens see their own text, in layers with a window what is less than that away; padding itself."""
    for mask, reach in ((buffers.mask, None), (buffers.window_mask, window)):
        if mask is None:
            continue
        mask[:] = MASKED
        np.fill_diagonal(mask, 0)
        start = 0
        for length in lengths:
            block = mask[start : start + length, start : start + length]
            if reach is None or reach >= length:
                block[:] = 0
            else:
                places = np.arange(length)
                block[np.abs(places[:, None] - places) < reach] = 0
            start += length
