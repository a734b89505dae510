"""A sequence that outlives its requests: a conversation that does not run a token twice.

Its cells stay while nobody else needs them. An idle session gives way before anything that runs is
preempted, and is then computed again with its next request.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar, Unpack

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.option_types import whole_number
from edgesdk.engine.branch import SessionState
from edgesdk.engine.generation import Generation, read_pieces
from edgesdk.engine.prepare_request import prompt_or_conversation
from edgesdk.engine.request_options import RequestOptions
from edgesdk.engine.session_store import SessionStore
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption, quoted
from edgesdk.text.conversation import Conversation
from edgesdk.text.encode_prompt import Prompt
from edgesdk.text.messages import Message

T = TypeVar("T")


class SessionHost(Protocol):
    """What a session asks of the engine that it belongs to."""

    @property
    def sessions(self) -> SessionStore:
        """The open sessions; to be touched between two steps only."""

    def call(self, compute: Callable[[], T]) -> T:
        """Has something computed between two steps."""

    def adopt_session(self, make: Callable[[], SessionState]) -> Session:
        """A session with a state that is added to `sessions` between two steps."""

    def drop_session(self, state: SessionState) -> None:
        """Takes a session's cells, after ending what is at work on it."""

    def submit_in_session(
        self,
        asked: Prompt | Conversation,
        state: SessionState,
        options: RequestOptions,
        *,
        answers: bool = True,
    ) -> Generation:
        """Hands in a request that goes on with a session."""


class Session:
    """Tokens with their cells; `Engine.session` makes one.

    One request at a time may work on it; anything else meanwhile raises UnsupportedOption.
    """

    def __init__(self, engine: SessionHost, state: SessionState) -> None:
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
        with self._submit(text, None, {}, answers=False) as generation:
            generation.result()

    def submit(
        self,
        prompt: Prompt = (),
        *,
        messages: Sequence[Message] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Generation:
        """Adds a prompt, which may be empty, and an answer to it; or answers a conversation.

        A conversation is given whole each time, as to `Engine.chat`, and only what is new of it is run: the
        session forgets the tokens that the conversation does not begin with, and gets the rest.

        Args:
            prompt: text, taken as it is, or token ids, added to what the session holds.
            messages: a whole conversation to be answered, in place of a prompt.
            **options: see `RequestOptions`; tools go with messages.

        Raises:
            UnsupportedOption: more than one sample is asked for (fork the session instead), or as `Engine`.
        """
        return self._submit(prompt, messages, options, answers=True)

    def generate(
        self,
        prompt: Prompt = (),
        *,
        messages: Sequence[Message] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Completion:
        """Like `submit`, and waits for the answer."""
        with self.submit(prompt, messages=messages, **options) as generation:
            return generation.result()

    def stream(
        self,
        prompt: Prompt = (),
        *,
        messages: Sequence[Message] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Iterator[Chunk]:
        """Like `submit`, piece by piece; closing the iterator cancels it."""
        return read_pieces(self.submit(prompt, messages=messages, **options))

    def fork(self) -> Session:
        """A second session with the same tokens, which share their cells."""

        def copy() -> SessionState:
            cells = self._state.cells
            copied = SessionState(
                self._state.tokens.copy(), None if cells is None else cells.fork(), gates=self._state.gates
            )
            return self._engine.sessions.add(copied)

        return self._engine.adopt_session(lambda: self._exclusively(copy))

    def rewind(self, length: int) -> None:
        """Forgets all tokens from `length` on.

        Raises:
            CapacityError: it does not hold as many.
        """
        length = whole_number("length", length, 0)
        if length > self.length:
            raise CapacityError(f"cannot rewind a session of {self.length} tokens to {length}")
        self._change(lambda: self._engine.sessions.rewind(self._state, length))

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
            lambda: self._exclusively(lambda: self._engine.sessions.save(self._state, Path(path)))
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

    def _submit(
        self,
        prompt: Prompt,
        messages: Sequence[Message] | None,
        options: RequestOptions,
        *,
        answers: bool,
    ) -> Generation:
        if whole_number("n", options.get("n", 1), 1) != 1:
            found = quoted(options["n"])
            raise UnsupportedOption(f"n is {found}, expected 1 in a session; fork the session instead")
        if self._closed:
            raise DeviceError("the session is closed; open a new one")
        self._change(self._mark_busy)
        try:
            if messages is not None and isinstance(prompt, str | tuple | list) and not prompt:
                asked = prompt_or_conversation(None, messages, options)
            else:
                asked = prompt_or_conversation(prompt, messages, options)
            generation = self._engine.submit_in_session(asked, self._state, options, answers=answers)
        except BaseException:
            self._state.busy = False
            raise
        # Who waits for an answer alone is not to lose it because nobody holds its session.
        generation.keep(self)
        return generation

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
