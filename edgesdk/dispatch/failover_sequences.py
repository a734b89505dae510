"""Keeps requests going on backends that keep their cache to themselves: what they held is run again.

The cells of a lost device are lost with it, so each sequence remembers its tokens. On the next candidate they
are run as one prompt, and then what failed is tried there. A token counts once its run has succeeded, so
none is lost or doubled. Movers are asked when a sequence begins, not in the middle of it: running a long
prompt again costs more than what they are for.

Sequences may be in several threads: the one that finds the backend failed changes it, and the others, whose
backend is closed under them, go on with the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.backends.protocol import Between, Float, Int, SequenceBackend, TokenSequence
from edgesdk.backends.sequence_room import OTHER_ADAPTER, check_tokens, use_gates
from edgesdk.backends.turns import Turns
from edgesdk.bundle.adapter_record import Gates
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.mover import Mover, Opener
from edgesdk.dispatch.succession import Guarded, Succession
from edgesdk.errors import CapacityError, DeviceError

T = TypeVar("T")

ModelOpener = Opener[SequenceBackend]
"""Opens a model and says what it is; raises EdgeError when it cannot."""


class FailoverModel(Guarded[SequenceBackend]):
    """Implements `SequenceBackend` over the first of several that works."""

    def __init__(
        self,
        first: SequenceBackend,
        runner: Runner,
        successors: Sequence[tuple[Runner, ModelOpener]],
        vocab_size: int,
        *,
        movers: Sequence[Mover[SequenceBackend]] = (),
        reopen: ModelOpener | None = None,
    ) -> None:
        """Starts with an open backend.

        Args:
            first: runs until it fails.
            runner: what it is, for the receipt.
            successors: with equal weights and no smaller context, in order.
            vocab_size: a token beyond it is the caller's fault, and no reason to change the device.
            movers: may ask for another backend although nothing has failed; closed with this object.
            reopen: opens the first once more, should what a mover brought fail; None if that is to raise.
        """
        self.vocab_size = vocab_size
        """Tokens of the model."""
        self.changes = 0
        """How often the backend was replaced; a sequence of an earlier one has to be run again."""
        self._turns = Turns()
        super().__init__(Succession(first, runner, successors, self._accept, movers, reopen))

    def new_sequence(self) -> FailoverSequence:
        """An empty sequence."""
        return FailoverSequence(self)

    def expect_open(self) -> None:
        """Raises DeviceError where there is no going on: it was closed, or the process is a forked child."""
        self._turns.expect_open()

    def follow_movers(self) -> None:
        """Changes the backend, if a mover asks for it; for sequences that begin."""
        self._turns.take(self._line.follow_movers)

    def open_sequence(self) -> tuple[int, TokenSequence]:
        """An empty sequence of the backend that runs now, and `changes` as it opened.

        Raises:
            DeviceError: every backend has failed.
        """
        return self._turns.take(self._open_sequence)

    def replace(self, error: Exception, changes: int) -> None:
        """Opens the next candidate, unless that has happened since.

        Args:
            error: what the backend failed with.
            changes: `self.changes` when it was asked.

        Raises:
            DeviceError: there is none left.
        """
        self._turns.take(self._replace, error, changes)

    def close(self) -> None:
        """Releases what is open."""
        self._turns.end(self._line.close)

    def _open_sequence(self) -> tuple[int, TokenSequence]:
        self._line.expect_working()
        return self.changes, self._line.backend.new_sequence()

    def _replace(self, error: Exception, changes: int) -> None:
        if changes != self.changes:
            return
        self._line.expect_working()
        self._line.replace(error)

    def _accept(self, backend: SequenceBackend) -> None:
        self.changes += 1


class FailoverSequence:
    """Implements `TokenSequence`; remembers its tokens."""

    def __init__(self, model: FailoverModel) -> None:
        """Starts empty."""
        self._model = model
        self._tokens: list[int] = []
        self._changes = -1
        self._sequence: TokenSequence | None = None
        self._gates: Gates = ()
        self._context = self._try(lambda sequence: sequence.context)

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        return self._context

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return len(self._tokens)

    def use_gates(self, gates: Gates) -> None:
        """As `protocol.GatedSequence` has it, whichever backend runs.

        Raises:
            CapacityError: it holds tokens of another adapter.
            DeviceError: it has no adapters.
        """
        if self._tokens and gates != self._gates:
            raise CapacityError(OTHER_ADAPTER)
        self._gates = gates
        self._try(lambda sequence: use_gates(sequence, gates))

    def extend(self, tokens: Int, between: Between | None = None) -> Float:
        """Appends tokens; returns (V,) float32 logits after the last, valid until the next call.

        Args:
            tokens: (n,) int32, n at least 1.
            between: as `protocol.TokenSequence` has it.

        Raises:
            CapacityError: they do not fit; nothing has changed.
            DeviceError: every backend failed, or a token is unknown; likewise.
        """
        self._check(tokens)
        logits = self._try(lambda sequence: sequence.extend(tokens, between))
        self._tokens += tokens.tolist()
        return logits

    def score(self, tokens: Int) -> Float:
        """Like `extend`, but returns the logits after each of the tokens: (n, V) float32."""
        self._check(tokens)
        logits = self._try(lambda sequence: sequence.score(tokens))
        self._tokens += tokens.tolist()
        return logits

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on; runs nothing.

        Raises:
            CapacityError: it does not hold as many.
        """
        if not 0 <= length <= len(self._tokens):
            raise CapacityError(f"cannot shorten {len(self._tokens)} tokens to {length}")
        if self._sequence is not None and self._changes == self._model.changes:
            try:
                self._sequence.truncate(length)
            except DeviceError:  # it is made anew of the tokens
                self._sequence = None
        del self._tokens[length:]

    def close(self) -> None:
        """Releases the cache."""
        if self._sequence is not None and self._changes == self._model.changes:
            self._sequence.close()
        self._sequence = None

    def _try(self, act: Callable[[TokenSequence], T]) -> T:
        """Does something on the backend of the moment, and on the next if that fails."""
        self._model.expect_open()
        if not self._tokens:
            self._model.follow_movers()
        while True:
            changes = self._model.changes
            try:
                return act(self._current())
            except NotFiniteError:  # of this request's numbers, which others need not suffer for
                raise
            except (DeviceError, MemoryError) as error:
                self._sequence = None
                self._model.replace(error, changes)

    def _current(self) -> TokenSequence:
        """This sequence on the backend that runs now, with its tokens run again if that has changed."""
        if self._sequence is None or self._changes != self._model.changes:
            self._changes, self._sequence = self._model.open_sequence()
            use_gates(self._sequence, self._gates)
            if self._tokens:
                self._sequence.extend(np.array(self._tokens, np.int32))
        return self._sequence

    def _check(self, tokens: Int) -> None:
        if len(tokens):
            check_tokens(tokens, self._model.vocab_size)
