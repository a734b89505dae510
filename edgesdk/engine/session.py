"""A sequence that outlives its requests: a conversation that does not run a token twice.

Its cells stay while nobody else needs them. An idle session gives way before anything that runs is
preempted, and is then computed again with its next request.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from edgesdk.decoding.completion import Completion
from edgesdk.engine.branch import SessionState
from edgesdk.engine.request_options import RequestOptions
from edgesdk.engine.stream import Generation
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption
from edgesdk.model import Prompt

if TYPE_CHECKING:
    from edgesdk.engine.engine import Engine

T = TypeVar("T")


class Session:
    """Tokens with their cells; `Engine.session` makes one.

    One request at a time may work on it; anything else meanwhile raises UnsupportedOption.
    """

    def __init__(self, engine: Engine, state: SessionState) -> None:
        """Belongs to an engine.

        Args:
            engine: runs its requests.
            state: known to the engine.
        """
        self._engine = engine
        self._state = state
        self._closed = False
        # A session that is forgotten instead of closed must not keep its cells.
        self._forget = weakref.finalize(self, engine.drop_session, state)
        self._forget.atexit = False

    @property
    def tokens(self) -> tuple[int, ...]:
        """Every token it holds, of prompts and answers."""
        return tuple(self._state.tokens.tolist())

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return len(self._state.tokens)

    def append(self, text: Prompt) -> None:
        """Adds text or token ids and runs them, so that an answer can follow without delay.

        Raises:
            CapacityError: they do not fit.
        """
        with self._submit(text, {}, answers=False) as generation:
            generation.result()

    def submit(self, prompt: Prompt = (), **options: Unpack[RequestOptions]) -> Generation:
        """Adds a prompt, which may be empty, and an answer to it.

        Raises:
            UnsupportedOption: more than one sample is asked for (fork the session instead), or as `Engine`.
        """
        return self._submit(prompt, options, answers=True)

    def generate(self, prompt: Prompt = (), **options: Unpack[RequestOptions]) -> Completion:
        """Like `submit`, and waits for the answer."""
        with self.submit(prompt, **options) as generation:
            return generation.result()

    def fork(self) -> Session:
        """A second session with the same tokens, which share their cells."""

        def copy() -> SessionState:
            cells = self._state.cells
            return SessionState(self._state.tokens.copy(), None if cells is None else cells.fork())

        return self._engine.adopt_session(lambda: self._exclusively(copy))

    def rewind(self, length: int) -> None:
        """Forgets all tokens from `length` on.

        Raises:
            CapacityError: it does not hold as many.
        """

        if not 0 <= length <= self.length:
            raise CapacityError(f"cannot rewind a session of {self.length} tokens to {length}")
        self._change(lambda: self._engine.rewind_session(self._state, length))

    def save(self, path: str | Path) -> None:
        """Writes it to a file, which any backend goes on with: `Engine.load_session`.

        Tokens that have not been run yet, such as the last one of an answer, are run first.

        Raises:
            SnapshotError: it is empty, has lost its beginning to a window, or cannot be written.
            CapacityError: others took its cells in the meantime; try again.
        """
        cells = self._state.cells
        if self.length and (cells is None or cells.length < self.length):
            self.append(())
        self._engine.call(
            lambda: self._exclusively(lambda: self._engine.save_session(self._state, Path(path)))
        )

    def close(self) -> None:
        """Gives the cells back; a request at work on it is cancelled first. May be called again."""
        self._closed = True
        self._forget()

    def __enter__(self) -> Self:
        """Returns the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the session."""
        self.close()

    def _submit(self, prompt: Prompt, options: RequestOptions, *, answers: bool) -> Generation:
        if options.get("n", 1) != 1:
            raise UnsupportedOption(f"n is {options['n']}, expected 1 in a session; fork the session instead")
        if options.get("tools") or options.get("tool_choice", "auto") != "auto":
            raise UnsupportedOption("a session takes prompts without tools; use Engine.chat for them")
        if options.get("template_variables"):
            raise UnsupportedOption("template variables go with messages; this request has a plain prompt")
        if self._closed:
            raise DeviceError("the session is closed; open a new one")
        self._change(self._mark_busy)
        try:
            if isinstance(prompt, str):
                encode = self._engine.model.tokenizer.encode
                ids = encode(prompt, add_bos=None if self.length == 0 else False)
            else:
                ids = [int(token) for token in prompt]
            return self._engine.submit_in_session(
                [*self._state.tokens.tolist(), *ids], self._state, options, answers=answers
            )
        except BaseException:
            self._state.busy = False
            raise

    def _mark_busy(self) -> None:
        self._state.busy = True

    def _change(self, act: Callable[[], None]) -> None:
        self._engine.call(lambda: self._exclusively(act))

    def _exclusively(self, act: Callable[[], T]) -> T:
        """Does something to the state, in the engine's thread, if no request is at work on it."""
        if self._closed:
            raise DeviceError("the session is closed; open a new one")
        if self._state.busy:
            raise UnsupportedOption("a request is at work on the session; wait for it, or cancel it first")
        return act()
