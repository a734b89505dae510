"""The caller's end of a request: pieces of text as they come, in threads or in asyncio.

The engine's thread puts pieces in and never waits; any thread or event loop takes them out. It knows
nothing of how they are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.option_types import seconds
from edgesdk.engine.metrics import RequestMetrics
from edgesdk.engine.owner_process import OwnerProcess
from edgesdk.errors import EdgeError, ToolCallError

Wake = Callable[[], None]
Read = Callable[[Completion], Completion]


class Generation:
    """A request that was handed in; `Engine.submit` makes one. Read it, wait for its result, or cancel it.

    `for chunk in generation`, `async for chunk in generation`, `generation.result()` and `await generation`
    are ways to read the same stream; each piece is given out once. With several samples the pieces of
    all come mixed, `Chunk.index` tells them apart. Leaving `with generation:` early cancels it.
    """

    def __init__(
        self,
        samples: int,
        cancel: Callable[[], None],
        metrics: Callable[[int], RequestMetrics],
        read: Read | None = None,
    ) -> None:
        """Starts empty.

        Args:
            samples: how many answers there will be.
            cancel: asks the engine to end it; may be called from any thread.
            metrics: figures of one of the samples.
            read: finds tool calls in a complete answer; called by whoever takes it out.
        """
        self._cancel = cancel
        self._metrics = metrics
        self._read = read
        self._condition = threading.Condition()
        self._chunks: deque[Chunk] = deque()
        self._completions: list[Completion | None] = [None] * samples
        self._unfinished = samples
        self._ended = False
        self._error: Exception | None = None
        self._wakes: list[Wake] = []
        self._process = OwnerProcess()
        self._kept: object = None

    @property
    def done(self) -> bool:
        """Whether it has ended; pieces may still be there to be read."""
        return self._ended

    @property
    def metrics(self) -> RequestMetrics:
        """Figures of the first sample, as far as it has come."""
        return self._metrics(0)

    @property
    def all_metrics(self) -> tuple[RequestMetrics, ...]:
        """Figures of every sample."""
        return tuple(self._metrics(index) for index in range(len(self._completions)))

    def cancel(self) -> None:
        """Ends it within one step, keeping the text so far; does nothing once it has ended."""
        self._settle_here()
        if not self._ended:
            self._cancel()

    def result(self, timeout: float | None = None) -> Completion:
        """Waits for the end and returns the answer, the first of several.

        Args:
            timeout: most seconds to wait; the request goes on after that.

        Raises:
            TimeoutError: it has not ended by then.
            EdgeError: it failed.
            UnsupportedOption: `timeout` is no time.
        """
        return self.results(timeout)[0]

    def results(self, timeout: float | None = None) -> tuple[Completion, ...]:
        """Waits for the end and returns every sample; raises what `result` does."""
        most_s = seconds("timeout", timeout)
        self._settle_here()
        with self._condition:
            if not self._condition.wait_for(lambda: self._ended, most_s):
                raise TimeoutError(f"the answer is not complete after {timeout} s")
        return self._outcome()

    def __iter__(self) -> Iterator[Chunk]:
        """Pieces as they come; the last one of each sample brings its completion."""
        return self

    def __next__(self) -> Chunk:
        """Waits for the next piece."""
        self._settle_here()
        with self._condition:
            self._condition.wait_for(lambda: self._chunks or self._ended)
            chunk = self._take()
        if chunk is None:
            raise StopIteration
        return chunk

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Pieces as they come, without blocking the event loop."""
        return self

    async def __anext__(self) -> Chunk:
        """Waits for the next piece."""
        await self._wait_for(lambda: bool(self._chunks) or self._ended)
        with self._condition:
            chunk = self._take()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def __await__(self) -> Generator[object, None, Completion]:
        """Waits for the end and gives the answer; a cancelled task cancels the request."""
        return self._answer().__await__()

    def __enter__(self) -> Self:
        """Returns the request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancels what has not ended."""
        self.cancel()

    def put(self, chunk: Chunk) -> None:
        """Adds a piece; for the engine."""
        with self._condition:
            self._chunks.append(chunk)
            if chunk.completion is not None:
                self._completions[chunk.index] = chunk.completion
                self._unfinished -= 1
                if self._unfinished == 0:
                    self._end()
            self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the stream with an error, after what it holds already; for the engine."""
        with self._condition:
            if not self._ended:
                self._error = error
                self._end()
                self._wake()

    def keep(self, used: object) -> None:
        """Keeps what it works on until it has ended, whoever else forgets that; for `Session`."""
        with self._condition:
            if not self._ended:
                self._kept = used

    def _end(self) -> None:
        self._ended = True
        self._kept = None
        self._cancel = _do_nothing  # until now it has kept the engine

    def _settle_here(self) -> None:
        """In a forked child nobody goes on writing; and its lock may have been held at that moment."""
        if not self._process.here:
            self._condition = threading.Condition()
            if not self._ended:
                self._error, self._ended = self._process.error(), True
            self._process = OwnerProcess()

    def _wake(self) -> None:
        self._condition.notify_all()
        wakes, self._wakes = self._wakes, []
        for wake in wakes:
            # An event loop may close at any moment, and then has nobody left to wake; whatever else it
            # raises must not reach the engine's thread, which serves others.
            with contextlib.suppress(BaseException):
                wake()

    def _take(self) -> Chunk | None:
        if self._chunks:
            chunk = self._chunks.popleft()
            try:
                return replace(chunk, completion=self._read_calls(chunk.completion))
            except ToolCallError as error:
                self._error = error  # raised next, after the text that led to it
                return replace(chunk, completion=None)
        if self._error is not None:
            raise self._error
        return None

    def _outcome(self) -> tuple[Completion, ...]:
        if self._error is not None:
            raise self._error
        read = (self._read_calls(completion) for completion in self._completions)
        found = tuple(completion for completion in read if completion is not None)
        if len(found) != len(self._completions):
            raise EdgeError("a sample ended without a completion; please report this")
        return found

    def _read_calls(self, completion: Completion | None) -> Completion | None:
        return completion if completion is None or self._read is None else self._read(completion)

    async def _answer(self) -> Completion:
        try:
            await self._wait_for(lambda: self._ended)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._outcome()[0]

    async def _wait_for(self, holds: Callable[[], bool]) -> None:
        self._settle_here()
        loop = asyncio.get_running_loop()
        while True:
            with self._condition:
                if holds():
                    return
                woken: asyncio.Future[None] = loop.create_future()
                self._wakes.append(_waker(loop, woken))
            await woken


def _do_nothing() -> None:
    """There is nothing left to cancel."""


def _waker(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> Wake:
    """A function for any thread that ends `await woken` on its loop."""

    def finish() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake() -> None:
        loop.call_soon_threadsafe(finish)

    return wake


def read_pieces(generation: Generation) -> Iterator[Chunk]:
    """Its pieces; closing the iterator cancels it."""
    with generation:
        yield from generation
