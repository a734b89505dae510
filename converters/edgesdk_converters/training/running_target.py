"""The target as its bundle runs it: states of many tokens a step, several times as fast as the evaluator.

A draft reads the states of a quantised bundle when it guesses, so those are the ones to learn from. log Z
needs the logits of all words, which no step gives for every token: the head's own product makes them here,
in float32. It knows no draft, no loss and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

from edgesdk.load_model import load
from edgesdk_converters.graph.program import Program
from edgesdk_converters.training.frozen_target import HiddenStates, TargetHead

_MOST_TOKENS = 1024
_ROWS = 256
"""Of logits at once: those of a large vocabulary are some hundred megabytes."""


class RunningTarget:
    """A bundle of the target that gives states (`convert --embeddings`).

    Attributes:
        most_tokens: of one call; no text may be longer.
        hidden_size: E.
    """

    def __init__(self, bundle: Path, program: Program, threads: int | None = None) -> None:
        """Loads the bundle; `close` frees it.

        Args:
            bundle: of the target, with states.
            program: the decoder of the checkpoint, before any transform.
            threads: of the bundle; None for as many as suit it.

        Raises:
            EdgeSdkError: the bundle cannot be loaded.
        """
        self._model = load(bundle, threads=threads)
        self.most_tokens = min(_MOST_TOKENS, self._model.context)
        self.hidden_size = program.spec.hidden_size
        head = TargetHead(program, np.arange(program.spec.vocab_size, dtype=np.int32))

        def log_z(rows: jax.Array, hidden: jax.Array) -> jax.Array:
            return jax.nn.logsumexp(head.logits(hidden, rows), axis=-1)

        self._rows, self._run = head.rows, jax.jit(log_z)

    def close(self) -> None:
        """Frees the bundle."""
        self._model.close()

    def states(self, texts: Sequence[NDArray[np.int32]]) -> list[HiddenStates]:
        """States of texts that fit into one call together.

        Args:
            texts: (n,) int32 each, `most_tokens` together at most.

        Raises:
            DeviceError: the backend failed.
        """
        hidden = self._model.token_states([text.tolist() for text in texts])
        rows = np.concatenate(hidden)
        full = np.pad(rows, ((0, -len(rows) % _ROWS), (0, 0)))  # one size, compiled once
        parts = full.reshape(-1, _ROWS, full.shape[-1])
        log_z = np.concatenate([np.asarray(self._run(self._rows, part)) for part in parts])
        ends = np.cumsum([len(text) for text in texts])
        return [
            HiddenStates(states, log_z[end - len(states) : end])
            for states, end in zip(hidden, ends.tolist(), strict=True)
        ]
