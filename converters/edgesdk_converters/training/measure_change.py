"""How a model differs from the one it was made of: bits for each byte, and how often both say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import LOWERINGS
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles
from edgesdk_converters.training.features import LearningText
from edgesdk_converters.training.frozen_target import Array, rotate_by_table, run_graph
from edgesdk_converters.training.shared_learner import changed_weights
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData


@dataclass(frozen=True)
class ModelChange:
    """What a training has changed, on texts that it did not read.

    Attributes:
        texts: what they are.
        tokens: judged.
        bits_before: bits for each byte of their text, of the model as it was.
        bits_after: of the model as it is now.
        same: share of the tokens where the likeliest is the same in both.
    """

    texts: str
    tokens: int
    bits_before: float
    bits_after: float
    same: float


class ChangeMeter:
    """Judges changes of one model; its weights are read once."""

    def __init__(self, program: Program, tokenizer: TokenizerFiles, length: int) -> None:
        """Reads the weights.

        Args:
            program: the model before its changes.
            tokenizer: the model's.
            length: most tokens of a text that are judged; longer ones are cut.
        """
        graph = program.graph
        self._engine, self._length = TokenizerData(tokenizer.tokenizer_json).engine, length
        self._weights = {value.name: jnp.asarray(program.weights.load(value.name)) for value in graph.weights}
        inputs = sequence_inputs(program, [np.zeros(length, np.int32)])
        given = {name: jnp.asarray(value) for name, value in inputs.items() if name != "tokens"}
        lowerings = {**LOWERINGS, ops.Rotate: rotate_by_table(length)}

        def judge(weights: Mapping[str, Array], tokens: Array) -> tuple[Array, Array]:
            logits = run_graph(graph, weights, {**given, "tokens": tokens}, lowerings)["logits"][:-1]
            chosen = jax.nn.log_softmax(logits, axis=-1)
            nats = -jnp.take_along_axis(chosen, tokens[1:, None], axis=-1)[:, 0]
            return nats, logits.argmax(axis=-1)

        self._judge = jax.jit(judge)

    def measure(
        self, parameters: Mapping[str, Array], texts: Sequence[LearningText], name: str
    ) -> ModelChange:
        """Judges changes.

        Args:
            parameters: with low-rank changes as `SharedLearner` has them.
            texts: of at least two tokens behind their first position, at least one text.
            name: what they are.
        """
        changed = changed_weights(self._weights, parameters)
        nats, same, count, size = np.zeros(2), 0, 0, 0
        for text in texts:
            tokens = text.tokens[: self._length]
            if (judged := slice(text.first, len(tokens) - 1)).start >= judged.stop:
                continue
            filled = np.pad(tokens, (0, self._length - len(tokens))).astype(np.int32)
            pairs = [self._judge(weights, jnp.asarray(filled)) for weights in (self._weights, changed)]
            nats += [float(each[judged].sum()) for each, _ in pairs]
            before, after = (np.asarray(likeliest)[judged] for _, likeliest in pairs)
            same += int((before == after).sum())
            count += len(before)
            size += self._bytes_of(tokens[text.first + 1 :])
        bits = nats / math.log(2) / max(size, 1)
        return ModelChange(name, count, float(bits[0]), float(bits[1]), same / max(count, 1))

    def _bytes_of(self, tokens: NDArray[np.int32]) -> int:
        return len(self._engine.decode(tokens.tolist()).encode())
