"""The target as its bundle runs it: states of many tokens a step, several times as fast as the evaluator.

A draft reads the states of a quantised bundle when it guesses, so those are the ones to learn from. log Z
needs the logits of all words, which no step gives for every token: the head's own product makes them here,
in float32. It knows no draft, no loss and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import jax
import numpy as np
from numpy.typing import NDArray

from edgesdk.load_model import load
from edgesdk.model import Model
from edgesdk_converters.graph.program import Program
from edgesdk_converters.training.features import most_read_tokens
from edgesdk_converters.training.frozen_target import HiddenStates, TargetHead

LogZ: TypeAlias = Callable[[NDArray[np.float32]], jax.Array]

_ROWS = 256
"""Of logits at once: those of a large vocabulary are some hundred megabytes."""


class RunningTarget:
    """A bundle of the target that gives states (`convert --embeddings`), opened when states are asked for.

    Attributes:
        most_tokens: of one call; no text may be longer.
        hidden_size: E.
    """

    def __init__(self, make_bundle: Callable[[], Path], program: Program, threads: int | None = None) -> None:
        """Opens nothing; `close` frees what was opened.

        Args:
            make_bundle: gives the bundle of the target, with states.
            program: the decoder of the checkpoint, before any transform.
            threads: of the bundle; None for as many as suit it.
        """
        self.most_tokens = most_read_tokens(program)
        self.hidden_size = program.spec.hidden_size
        self._make_bundle, self._program, self._threads = make_bundle, program, threads
        self._opened: tuple[Model, LogZ] | None = None

    def close(self) -> None:
        """Frees the bundle."""
        if self._opened is not None:
            self._opened[0].close()

    def _open(self) -> tuple[Model, LogZ]:
        """The bundle, and what log Z is made with, (_ROWS, E) to (_ROWS,)."""
        if self._opened is None:
            program = self._program
            head = TargetHead(program, np.arange(program.spec.vocab_size, dtype=np.int32))

            def log_z(rows: jax.Array, hidden: jax.Array) -> jax.Array:
                return jax.nn.logsumexp(head.logits(hidden, rows), axis=-1)

            model = load(self._make_bundle(), threads=self._threads)
            self._opened = model, partial(jax.jit(log_z), head.rows)
        return self._opened

    def states(self, texts: Sequence[NDArray[np.int32]]) -> list[HiddenStates]:
        """States of texts that fit into one call together.

        Args:
            texts: (n,) int32 each, `most_tokens` together at most.

        Raises:
            EdgeError: the bundle cannot be made or loaded, or the backend failed.
        """
        model, find_log_z = self._open()
        hidden = model.token_states([text.tolist() for text in texts])
        rows = np.concatenate(hidden)
        full = np.pad(rows, ((0, -len(rows) % _ROWS), (0, 0)))  # one size, compiled once
        parts = full.reshape(-1, _ROWS, full.shape[-1])
        log_z = np.concatenate([np.asarray(find_log_z(part)) for part in parts])
        ends = np.cumsum([len(text) for text in texts])
        return [
            HiddenStates(states, log_z[end - len(states) : end])
            for states, end in zip(hidden, ends.tolist(), strict=True)
        ]
