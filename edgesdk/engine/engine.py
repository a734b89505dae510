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
import atexit
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import numpy as np

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.tool_answers import ToolAnswers
from edgesdk.engine.batch import Batch
from edgesdk.engine.branch import Request, SessionState
from edgesdk.engine.budget import BudgetProfile, count_seats, profile_budget
from edgesdk.engine.capabilities import step_backend_of
from edgesdk.engine.loop import EngineLoop
from edgesdk.engine.metrics import EngineMetrics
from edgesdk.engine.prepare_request import prepare_request
from edgesdk.engine.request_options import RequestOptions
from edgesdk.engine.scheduler import Policy
from edgesdk.engine.session import Session
from edgesdk.engine.snapshot_key import snapshot_key
from edgesdk.engine.stream import Generation, Read
from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import StepRunner
from edgesdk.load_model import load
from edgesdk.model import Model, Prompt, Tool
from edgesdk.text.chat_template import Message

T = TypeVar("T")


class Engine:
    """Runs many requests on one model, each step of which serves them all.

    Its methods may be called from any thread; those that begin with `a` are for asyncio. Every request
    takes the options that `RequestOptions` lists. What is wrong with one is raised by the call:

    - UnsupportedOption: an option has no meaning, or the prompt is empty or holds unknown ids.
    - CapacityError: the prompt does not fit the context.
    - QueueFull: as many requests are waiting as `max_queue` says.
    - DeviceError: the engine is closed.
    """

    def __init__(
        self,
        model: Model | str | Path,
        *,
        max_queue: int = 64,
        max_running: int | None = None,
        tbt_target_ms: float | None = None,
        token_budget: int | None = None,
        prefix_cache_mb: float | None = None,
        chunked: bool = True,
        hybrid: bool = True,
        check_steps: bool = False,
    ) -> None:
        """Starts.

        Args:
            model: a bundle's folder or name, or a loaded model, which is the engine's until it is closed.
            max_queue: most requests that wait for their first step.
            max_running: most answers that run at once; None for as many as one step gives logits of.
            tbt_target_ms: limit for the time between tokens while prompts run beside them; None for four
                times the smallest step in which several answers decode. It takes about a second to find
                the budget that keeps it.
            token_budget: that budget, if it is known: most tokens of a step in which something decodes.
            prefix_cache_mb: most MiB of cells kept for prompts that begin like earlier ones; None for all
                that nothing else needs, 0 for none.
            chunked: run prompts in pieces; False is the baseline that the pieces are compared with.
            hybrid: mix prompts and decodes in a step; False is another such baseline.
            check_steps: check the accounts of the cells after every step; for tests.

        Raises:
            UnsupportedOption: the backend keeps its cache to itself, or a limit has no meaning.
            BundleError, DeviceError: as `edgesdk.load`.
        """
        for name, value in (
            ("max_queue", max_queue),
            ("max_running", max_running),
            ("token_budget", token_budget),
        ):
            if value is not None and value < 1:
                raise UnsupportedOption(f"{name} is {value}, expected 1 or more")
        for name, limit in (("tbt_target_ms", tbt_target_ms), ("prefix_cache_mb", prefix_cache_mb)):
            if limit is not None and not 0 <= limit < float("inf"):
                raise UnsupportedOption(f"{name} is {limit}, expected 0 or more")
        self._owned = not isinstance(model, Model)
        self._model = model if isinstance(model, Model) else load(model)
        try:
            backend = step_backend_of(self._model.backend, self._model.receipt.backend)
            decoder = self._model.decoder
            self._context = self._model.full_context
            self._runner = StepRunner(backend, decoder, self._context)
            self.profile: BudgetProfile | None = None
            if token_budget is None:
                self.profile = profile_budget(self._runner, decoder, tbt_target_ms)
                token_budget = self.profile.budget
        except BaseException:
            if self._owned:
                self._model.close()
            raise
        largest = self._runner.token_budgets[-1]
        budget = min(token_budget, largest)
        seats = min(max_running or budget, count_seats(self._runner, budget))
        policy = Policy(
            budget=budget,
            seats=seats,
            idle_budget=largest,
            chunked=chunked,
            hybrid=hybrid,
        )
        pool = self._runner.pool
        most = pool.capacity * pool.bytes_per_cell
        prefix_bytes = most if prefix_cache_mb is None else min(most, int(prefix_cache_mb * (1 << 20)))
        self._batch = Batch(self._runner, policy, prefix_bytes)
        self._loop = EngineLoop(self._batch, max_queue, check_steps=check_steps)
        self._closed = False
        atexit.register(self._close_at_exit)

    @property
    def model(self) -> Model:
        """What runs; use its tokenizer and templates, but do not generate with it meanwhile."""
        return self._model

    @property
    def runner(self) -> StepRunner:
        """What runs the steps; to be used within `call` only."""
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
        tools = self._tool_answers(messages, options)
        ids = self._ids(prompt, messages, options.get("tools"))
        request = prepare_request(
            self._model, self._model.context, ids, options, self.policy.seats, tools=tools
        )
        return self._hand_in(request, None if tools is None else tools.read, block=block, timeout=timeout)

    def generate(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Completion:
        """Continues a prompt; waits while the queue is full. An interrupt cancels it."""
        with self.submit(prompt, block=True, **options) as generation:
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
        return _read(self.submit(prompt, messages=messages, block=True, **options))

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

    def session(self) -> Session:
        """A sequence that keeps its cells between requests: to append, fork, rewind, save and load."""
        return self.adopt_session(lambda: SessionState(np.empty(0, np.int32)))

    def load_session(self, path: str | Path) -> Session:
        """A session from a file that `Session.save` wrote, on this or on another backend.

        Raises:
            SnapshotError: it is damaged, of another version, or of another model or recipe.
            CapacityError: there are not enough free cells.
        """
        decoder = self._model.decoder
        key = snapshot_key(self._model.bundle, self._model.receipt.variant)

        def read() -> SessionState:
            try:
                cells = load_snapshot(Path(path), self._runner, decoder, key)
            except CapacityError:
                self._batch.make_room(self._runner.pool.capacity)
                cells = load_snapshot(Path(path), self._runner, decoder, key)
            return SessionState(cells.tokens.copy(), cells)

        return self.adopt_session(read)

    def check(self) -> None:
        """Checks that every cell is accounted for; for tests.

        Raises:
            ValueError: one is lost.
        """
        self._loop.call(self._batch.check)

    def close(self, drain: bool = True) -> None:
        """Ends the engine and every stream; may be called again.

        Args:
            drain: let what was handed in come to its end; else cancel it.
        """
        self._loop.close(drain=drain)
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        self._batch.room.clear()
        self._runner.close()
        if self._owned:
            self._model.close()

    def __enter__(self) -> Self:
        """Returns the engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the engine: after an error at once, else when all is done."""
        self.close(drain=kind is None)

    async def __aenter__(self) -> Self:
        """Returns the engine."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the engine as `with` does, without blocking the event loop."""
        await asyncio.to_thread(self.close, kind is None)

    def _ids(
        self, prompt: Prompt | None, messages: Sequence[Message] | None, tools: Sequence[Tool] | None
    ) -> list[int]:
        if (prompt is None) == (messages is None):
            raise UnsupportedOption("a request has either a prompt or messages, found both or neither")
        if messages is not None:
            return self._model.render_chat(messages, tools=tools)
        return self._model.tokenize(prompt) if isinstance(prompt, str) else [int(t) for t in prompt or ()]

    def _tool_answers(
        self, messages: Sequence[Message] | None, options: RequestOptions
    ) -> ToolAnswers | None:
        tools = options.get("tools")
        if not tools:
            if options.get("tool_choice", "auto") == "required":
                raise UnsupportedOption("tool_choice is 'required', but there are no tools")
            return None
        template = self._model.chat_template
        if messages is None or template is None:
            raise UnsupportedOption("tools go with messages, for a model that has a chat template")
        return ToolAnswers(template, self._model.tokenizer, tools)

    def adopt_session(self, make: Callable[[], SessionState]) -> Session:
        """A session with a state that is made between two steps; for `Session`."""

        def adopt() -> SessionState:
            state = make()
            self._batch.sessions.add(state)
            return state

        return Session(self, self._loop.call(adopt))

    def drop_session(self, state: SessionState) -> None:
        """Takes a session's cells, after ending what is at work on it; for `Session`."""
        self._loop.post(lambda: self._batch.close_session(state))

    def rewind_session(self, state: SessionState, length: int) -> None:
        """Has a session forget its last tokens; for `Session`, between two steps."""
        self._batch.rewind_session(state, length)

    def save_session(self, state: SessionState, path: Path) -> None:
        """Writes a session to a file; for `Session`, between two steps."""
        cells = self._runner.new_list() if state.cells is None else state.cells
        if cells.length < len(state.tokens):
            raise CapacityError("the session's cells were taken by others just now; save it again")
        key = snapshot_key(self._model.bundle, self._model.receipt.variant)
        save_snapshot(path, self._runner, cells, key)

    def call(self, compute: Callable[[], T]) -> T:
        """Has something computed between two steps, in the thread that may touch the cells."""
        return self._loop.call(compute)

    def submit_in_session(
        self, ids: Sequence[int], state: SessionState, options: RequestOptions, *, answers: bool
    ) -> Generation:
        """Hands in a request that goes on with a session; for `Session`."""
        # A governor limits answers; what a session holds already may always be run, to be saved.
        context = self._model.context if answers else self._context
        request = prepare_request(self._model, context, ids, options, self.policy.seats, answers=answers)
        request.session = state
        return self._hand_in(request, None, block=True, timeout=None)

    def _hand_in(
        self, request: Request, read: Read | None, *, block: bool, timeout: float | None
    ) -> Generation:
        generation = Generation(request.samples, lambda: self._loop.cancel(request), request.metrics, read)
        request.generation = generation
        self._loop.submit(request, block=block, timeout=timeout)
        return generation

    def _close_at_exit(self) -> None:
        """A native step that is under way when the interpreter goes would crash it."""
        self.close(drain=False)


def _read(generation: Generation) -> Iterator[Chunk]:
    with generation:
        yield from generation
