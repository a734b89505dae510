"""A stack on sample text: what it loses without one part, computed from that part on.

One run is remembered between the halves of blocks (`edgesdk_converters.graph.replay`); without a part, the
stream before it goes on where the part has ended. Loss is the mean of -log p(next token) in nats. All
positions are scored unless the caller wants fewer: a few hundred leave a noise as large as what cheap
parts cost, and the head is cheaper than more text. Memory: one stream per half and token, the logits of
one text, and every weight in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import Array, evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.replay import Replay
from edgesdk_converters.transforms.skip_layers import residual_sum
from edgesdk_converters.transforms.skip_request import SkipRequest

Text = NDArray[np.int32]
SCORED_EVERY = 1
_NO_TEXT = "calibration got no text of two tokens; give a longer text"


class Trial:
    """One stack, run once on each text."""

    def __init__(self, program: Program, texts: Sequence[Text], scored_every: int = SCORED_EVERY) -> None:
        """Runs the stack.

        Args:
            program: the stack; its weights should be in memory.
            texts: token ids.
            scored_every: one position in so many is scored.

        Raises:
            TransformError: no text has two tokens, so there is nothing to score.
        """
        self.program = program
        self._texts: list[tuple[Replay, Text]] = []
        for text in texts:
            rows = np.arange(0, len(text) - 1, scored_every, dtype=np.int32)
            if len(rows):
                inputs = {**sequence_inputs(program, [text]), "rows": rows}
                self._texts.append((Replay(program.graph, program.weights, inputs), text[rows + 1]))
        if not self._texts:
            raise TransformError(_NO_TEXT)
        self.losses = np.concatenate([_losses(replay.result, next_) for replay, next_ in self._texts])
        """(n,) float64: nats at every scored position."""

    @property
    def loss(self) -> float:
        """Mean of `losses`."""
        return float(self.losses.mean())

    def losses_without(self, part: SkipRequest) -> NDArray[np.float64]:
        """The same for the stack without a part, whose halves follow each other."""
        before, after = self._ends(part)
        found = []
        for replay, following in self._texts:
            stream = replay.stream(replay.cut_after(before))
            found.append(_losses(replay.run(replay.cut_after(after), stream), following))
        return np.concatenate(found)

    def influence(self, part: SkipRequest) -> float:
        """Block influence: 1 - mean cosine of the stream before and after a part, over all tokens.

        (ShortGPT, arXiv 2403.03853, section 3.2, equation 1.)
        """
        before, after = self._ends(part)
        cosines = []
        for replay, _ in self._texts:
            x = replay.stream(replay.cut_after(before)).astype(np.float64)
            y = replay.stream(replay.cut_after(after)).astype(np.float64)
            norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
            cosines.append((x * y).sum(axis=-1) / np.maximum(norms, np.finfo(np.float64).tiny))
        return float(1 - np.concatenate(cosines).mean())

    def _ends(self, part: SkipRequest) -> tuple[str, str]:
        graph = self.program.graph
        return (
            residual_sum(graph, part.halves[0]).inputs[0],
            residual_sum(graph, part.halves[-1]).outputs[0],
        )


def text_losses(
    program: Program, texts: Sequence[Text], scored_every: int = SCORED_EVERY
) -> NDArray[np.float64]:
    """What `Trial.losses` would be, without remembering anything.

    Raises:
        TransformError: no text has two tokens, so there is nothing to score.
    """
    found = []
    for text in texts:
        rows = np.arange(0, len(text) - 1, scored_every, dtype=np.int32)
        if len(rows):
            inputs = {**sequence_inputs(program, [text]), "rows": rows}
            found.append(_losses(evaluate(program.graph, program.weights, inputs)["logits"], text[rows + 1]))
    if not found:
        raise TransformError(_NO_TEXT)
    return np.concatenate(found)


def _losses(logits: Array, following: Text) -> NDArray[np.float64]:
    x = logits - logits.max(axis=-1, keepdims=True)
    picked = x[np.arange(len(following)), following].astype(np.float64)
    losses: NDArray[np.float64] = np.log(np.exp(x, out=x).sum(axis=-1, dtype=np.float64)) - picked
    return losses
