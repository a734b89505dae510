"""Many requests on one model at once: the engine that servers and orchestration are built on.

    with edgesdk.Engine("bundle") as engine:
        first = engine.submit("The sea is", max_tokens=40)
        second = engine.submit(messages=[{"role": "user", "content": "Hello"}], deadline_s=5)
        for chunk in first:
            print(chunk.text, end="")
        print(second.result().text, second.metrics.ttft_ms)

It prepares requests in the caller's thread, so that what is wrong with one is raised there, and leaves
the rest to the batch and its thread.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import numpy as np

from edgesdk.bundle.adapter_record import AdapterChoice, gates_of
from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.drafting import Drafting
from edgesdk.decoding.option_names import lists_fields
from edgesdk.decoding.option_types import flag, seconds
from edgesdk.engine.batch import Batch
from edgesdk.engine.branch import Request, SessionState
from edgesdk.engine.budget import choose_policy
from edgesdk.engine.capabilities import step_backend_of
from edgesdk.engine.cell_room import CellRoom
from edgesdk.engine.engine_options import EngineKeywords, EngineOptions, split_keywords
from edgesdk.engine.generation import Generation, read_pieces
from edgesdk.engine.loop import EngineLoop
from edgesdk.engine.metrics import EngineMetrics
from edgesdk.engine.prepare_request import prepare_request, prompt_or_conversation
from edgesdk.engine.request_options import RequestOptions
from edgesdk.engine.scheduler import Policy
from edgesdk.engine.session import Session
from edgesdk.engine.session_store import SessionStore
from edgesdk.engine.snapshot_key import snapshot_key
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.kv.step_runner import StepRunner
from edgesdk.load_model import load
from edgesdk.load_options import LoadKeywords, LoadOptions
from edgesdk.model import Model
from edgesdk.plans.orchestrated import Orchestrated
from edgesdk.text.conversation import Conversation
from edgesdk.text.encode_prompt import Prompt
from edgesdk.text.messages import Message

T = TypeVar("T")


class Engine(Orchestrated):
    """Runs many requests on one model, each step of which serves them all.

    Its methods may be called from any thread; those that begin with `a` are for asyncio. Every request
    takes the options that `RequestOptions` lists. What is wrong with one is raised by the call:

    - UnsupportedOption: an option or a message has no meaning, or the prompt is empty or has unknown ids.
    - CapacityError: the prompt does not fit the context.
    - QueueFull: as many requests are waiting as `max_queue` says.
    - DeviceError: the engine is closed, or was opened by the process that this one was forked from.

    An engine that nobody refers to any more closes itself; requests keep it until they have ended.
    """

    @lists_fields(EngineOptions, LoadOptions)
    def __init__(
        self,
        model: Model | str | Path,
        loading: LoadOptions | None = None,
        **options: Unpack[EngineKeywords],
    ) -> None:
        """Starts.

        Args:
            model: a bundle's folder or name, or a loaded model, which is the engine's until it is closed.
            loading: how to load a bundle; None for the defaults.
            **options: fields of `EngineOptions`, and for a bundle those of `LoadOptions`.

        Raises:
            UnsupportedOption: the backend keeps its cache to itself, or an option has no meaning.
            BundleError, DeviceError: as `edgesdk.load`.
        """
        asked, changed = split_keywords(options)
        self._owned = not isinstance(model, Model)
        self._model = _opened(model, loading, changed)
        try:
            bundle, receipt, decoder = self._model.bundle, self._model.receipt, self._model.decoder
            formats = [variant.format for variant in bundle.manifest.variants]
            backend = step_backend_of(self._model.backend, receipt.backend, formats)
            self._context = self._model.full_context
            self._runner = StepRunner(backend, decoder, self._context)
            policy, self.profile = choose_policy(self._runner, asked)
        except BaseException:
            if self._owned:
                self._model.close()
            raise
        pool = self._runner.pool
        room = CellRoom(self._runner, asked.prefix_bytes(pool.capacity * pool.bytes_per_cell))
        self._room = room
        self._sessions = SessionStore(self._runner, decoder, room, snapshot_key(bundle, receipt.variant))
        self._drafting = None if self._model.drafts is None else self._model.drafts.open()
        self._batch = Batch(self._runner, policy, room, self._sessions, self._drafting)
        self._loop = EngineLoop(self._batch, asked.max_queue, check_steps=asked.check_steps)
        # What the thread works with knows nothing of this object, so that it can be forgotten. It closes at
        # the exit, too: a native step that is under way when the interpreter goes would crash it.
        self._forget = weakref.finalize(
            self,
            _give_up,
            self._loop,
            room,
            self._runner,
            self._drafting,
            self._model if self._owned else None,
        )

    @property
    def model(self) -> Model:
        """What runs; it may be used beside the engine, whose steps then take turns with its own."""
        return self._model

    @property
    def runner(self) -> StepRunner:
        """What runs the steps; for tests and measurements, within `call` only."""
        return self._runner

    @property
    def policy(self) -> Policy:
        """How steps are filled."""
        return self._batch.policy

    @property
    def metrics(self) -> EngineMetrics:
        """Gauges and counters, as of the last step."""
        return self._loop.metrics

    def submit(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        block: bool = False,
        timeout: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> Generation:
        """Hands a request in.

        Args:
            prompt: text, taken as it is, or token ids.
            messages: a conversation to be answered, in place of a prompt.
            block: wait while the queue is full, instead of raising QueueFull.
            timeout: most seconds to wait then.
            **options: see `RequestOptions`.

        Returns:
            The request, to be read, waited for, or cancelled.
        """
        waits, most_s = flag("block", block), seconds("timeout", timeout)
        asked = prompt_or_conversation(prompt, messages, options)
        request = prepare_request(self._model.reader, asked, options, self._model.context, self.policy.seats)
        return self._hand_in(request, block=waits, timeout=most_s)

    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Completion:
        """Continues a prompt or answers a conversation; waits while the queue is full.

        An interrupt cancels it.
        """
        with self.submit(prompt, messages=messages, block=True, **options) as generation:
            return generation.result()

    def chat(self, messages: Sequence[Message], **options: Unpack[RequestOptions]) -> Completion:
        """Answers a conversation; waits while the queue is full. An interrupt cancels it."""
        with self.submit(messages=messages, block=True, **options) as generation:
            return generation.result()

    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Iterator[Chunk]:
        """Continues a prompt or answers a conversation piece by piece; closing the iterator cancels it."""
        return read_pieces(self.submit(prompt, messages=messages, block=True, **options))

    async def agenerate(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Completion:
        """Continues a prompt or answers a conversation; cancelling the task cancels it.

        Raises:
            QueueFull: it never waits for room in the queue, which would block the event loop.
        """
        return await self.submit(prompt, messages=messages, **options)

    async def astream(
        self,
        prompt: Prompt | None = None,
        *,
        messages: Sequence[Message] | None = None,
        **options: Unpack[RequestOptions],
    ) -> AsyncIterator[Chunk]:
        """Like `stream`, for `async for`; raises QueueFull as `agenerate` does."""
        with self.submit(prompt, messages=messages, **options) as generation:
            async for chunk in generation:
                yield chunk

    def session(self, *, adapter: AdapterChoice = None) -> Session:
        """A sequence that keeps its cells between requests: to append, fork, rewind, save and load.

        Args:
            adapter: that all its tokens are run with, as in `GenerationOptions`.

        Raises:
            UnsupportedOption: there is no such adapter.
        """
        gates = gates_of(self._model.bundle.manifest.adapters, adapter)
        state = SessionState(np.empty(0, np.int32), gates=gates)
        return self.adopt_session(lambda: self._sessions.add(state))

    def load_session(self, path: str | Path, *, adapter: AdapterChoice = None) -> Session:
        """A session from a file that `Session.save` wrote, on this or on another backend.

        Args:
            path: the file.
            adapter: that the session was opened with.

        Raises:
            SnapshotError: it is damaged, of another version, or of another model, recipe or adapter.
            CapacityError: there are not enough free cells.
            UnsupportedOption: there is no such adapter.
        """
        gates = gates_of(self._model.bundle.manifest.adapters, adapter)
        return self.adopt_session(lambda: self._sessions.load(Path(path), gates))

    def check(self) -> None:
        """Checks that every cell is accounted for; for tests.

        Raises:
            ValueError: one is lost.
        """
        self._loop.call(self._batch.check)

    def close(self, drain: bool = True) -> None:
        """Ends the engine and every stream; may be called again.

        A model that was handed to it stays open.

        Args:
            drain: let what was handed in come to its end; else cancel it.

        Raises:
            DeviceError: it was opened by the process that this one was forked from, where it still runs.
        """
        self._loop.close(drain=drain, release=self._release)

    def _release(self) -> None:
        if self._forget.detach() is not None:
            _release(self._room, self._runner, self._drafting, self._model if self._owned else None)

    def __enter__(self) -> Self:
        """Returns the engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the engine: after an error at once, else when all is done; not in a forked child."""
        if self._loop.here:
            self.close(drain=kind is None)

    async def __aenter__(self) -> Self:
        """Returns the engine."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the engine as `with` does, without blocking the event loop."""
        if self._loop.here:
            await asyncio.to_thread(self.close, kind is None)

    @property
    def sessions(self) -> SessionStore:
        """What holds their cells; for `Session`, to be used within `call` only."""
        return self._sessions

    def adopt_session(self, make: Callable[[], SessionState]) -> Session:
        """A session with a state that is added to `sessions` between two steps; for `Session`."""
        return Session(self, self._loop.call(make))

    def drop_session(self, state: SessionState) -> None:
        """Takes a session's cells, after ending what is at work on it; for `Session`."""
        self._loop.post(lambda: self._batch.close_session(state))

    def call(self, compute: Callable[[], T]) -> T:
        """Has something computed between two steps, in the thread that may touch the cells."""
        return self._loop.call(compute)

    def submit_in_session(
        self,
        asked: Prompt | Conversation,
        state: SessionState,
        options: RequestOptions,
        *,
        answers: bool = True,
    ) -> Generation:
        """Hands in a request that goes on with a session; for `Session`."""
        # A governor limits answers; what a session holds already may always be run, to be saved.
        context = self._model.context if answers else self._context
        request = prepare_request(
            self._model.reader,
            asked,
            options,
            context,
            self.policy.seats,
            session=state,
            answers=answers,
        )
        return self._hand_in(request, block=True, timeout=None)

    def _hand_in(self, request: Request, *, block: bool, timeout: float | None) -> Generation:
        # It keeps the engine: whoever waits for an answer alone is not to be cancelled for that.
        read = None if request.asked.tools is None else request.asked.tools.read
        generation = Generation(request.samples, lambda: self._loop.cancel(request), request.metrics, read)
        request.generation = generation
        self._loop.submit(request, block=block, timeout=timeout)
        return generation


def _opened(model: Model | str | Path, loading: LoadOptions | None, changed: LoadKeywords) -> Model:
    if not isinstance(model, Model):
        if not isinstance(model, str | Path):
            raise UnsupportedOption(
                f"the model is {quoted(model)}, expected a bundle's folder or what edgesdk.load returns"
            )
        return load(model, loading, **changed)
    if loading is not None or changed:
        raise UnsupportedOption(
            f"{', '.join(changed) or 'loading'} cannot be changed for a model that is loaded; give it to "
            "edgesdk.load"
        )
    return model


def _give_up(
    loop: EngineLoop, room: CellRoom, runner: StepRunner, drafting: Drafting | None, model: Model | None
) -> None:
    """Closes an engine that was forgotten, or at the exit; in a forked child nothing of it is touched."""
    if loop.here:
        loop.close(drain=False, release=lambda: _release(room, runner, drafting, model))


def _release(room: CellRoom, runner: StepRunner, drafting: Drafting | None, model: Model | None) -> None:
    room.clear()
    runner.close()
    if drafting is not None:
        drafting.close()
    if model is not None:
        model.close()
