"""The thread that drives a batch: whoever wants something of it leaves a command.

Commands are carried out between two steps, so nothing takes longer to be heard than the step that is
under way. Only this thread touches the model, the cells and the branches.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from edgesdk.engine.batch import Batch
from edgesdk.engine.branch import Request
from edgesdk.engine.failure import as_edge_error, describe
from edgesdk.engine.log import write_log
from edgesdk.engine.owner_process import OwnerProcess
from edgesdk.errors import DeviceError, QueueFull

T = TypeVar("T")


class EngineLoop:
    """Runs a batch in a thread of its own."""

    def __init__(self, batch: Batch, max_queue: int, *, check_steps: bool = False) -> None:
        """Starts the thread.

        Args:
            batch: nobody else may touch it from now on.
            max_queue: most requests that wait for their first step.
            check_steps: check the accounts of the cells after every step; for tests.
        """
        self._batch = batch
        self.metrics = batch.metrics()
        """Gauges and counters as of the last step; those of the batch are its own thread's."""
        self._max_queue = max_queue
        self._check_steps = check_steps
        self._condition = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._queued: set[Request] = set()
        self._closing = False
        self._drain = True
        self._failure: DeviceError | None = None
        self._process = OwnerProcess()
        self._release: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._work, name="edgesdk-engine", daemon=True)
        self._thread.start()

    @property
    def here(self) -> bool:
        """Whether its thread is in this process, not in the one that this was forked from."""
        return self._process.here

    def submit(self, request: Request, *, block: bool, timeout: float | None) -> None:
        """Hands a request in.

        Args:
            request: new.
            block: wait while the queue is full.
            timeout: most seconds to wait; None for as long as it takes.

        Raises:
            QueueFull: the queue is full.
            DeviceError: the engine is closed.
        """
        self._settle_here()
        with self._condition:
            if block:
                self._condition.wait_for(
                    lambda: self._closing or len(self._queued) < self._max_queue, timeout
                )
            self._expect_open()
            if len(self._queued) >= self._max_queue:
                raise QueueFull(
                    f"{self._max_queue} requests are waiting already; try again later, wait with block=True, "
                    "or raise max_queue"
                )
            self._queued.add(request)
            self._commands.append(lambda: self._batch.add(request))
            self._condition.notify_all()

    def cancel(self, request: Request) -> None:
        """Ends a request before the next step."""
        self._settle_here()
        with self._condition:
            if not request.ended:
                self._commands.append(lambda: self._batch.end(request, "cancelled"))
                self._condition.notify_all()

    def post(self, act: Callable[[], None]) -> None:
        """Has something done between two steps, without waiting for it; nothing once it is closed."""
        self._settle_here()
        with self._condition:
            if not self._closing:
                self._commands.append(act)
                self._condition.notify_all()

    def call(self, compute: Callable[[], T]) -> T:
        """Has something computed between two steps and waits for it.

        Raises:
            DeviceError: the engine is closed.
        """
        future: Future[T] = Future()

        def act() -> None:
            try:
                future.set_result(compute())
            except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
                future.set_exception(error)

        if threading.current_thread() is self._thread:
            return compute()
        self._settle_here()
        with self._condition:
            self._expect_open()
            self._commands.append(act)
            self._condition.notify_all()
        return future.result()

    def close(self, *, drain: bool, release: Callable[[], None]) -> None:
        """Ends the thread; may be called again.

        Args:
            drain: let everything that was handed in come to its end; else cancel it.
            release: what the thread needs until its end; called once it has ended, or by itself if it is the
                thread that closes. Does nothing when it is called again.

        Raises:
            DeviceError: another process opened it; nothing is touched.
        """
        if not self._process.here:
            raise self._process.error()
        with self._condition:
            self._closing = True
            self._drain = self._drain and drain
            self._condition.notify_all()
        if threading.current_thread() is self._thread:
            self._release = release
        else:
            self._thread.join()
            release()

    def _settle_here(self) -> None:
        """In a forked child, where its thread is not, it is closed; its lock may have been held then."""
        if not self._process.here and self._failure is None:
            self._condition = threading.Condition()
            self._closing = True
            self._failure = self._process.error()

    def _expect_open(self) -> None:
        if self._failure is not None:
            raise as_edge_error(self._failure, "the engine")
        if self._closing:
            raise DeviceError("the engine is closed; open a new one")

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                self._obey()
                self._batch.end_overdue()
                if not self._drain:
                    break
                if not self._batch.idle:
                    self._batch.step()
                self.metrics = self._batch.metrics()
                if self._check_steps:
                    self._batch.check()
                self._admit_callers()
        except BaseException as error:  # noqa: BLE001 - the thread's end must not leave anybody waiting
            write_log(logging.ERROR, "the engine stopped", error=describe(error))
            self._give_up(error)
        finally:
            self._refuse_all()
            if self._release is not None:
                self._release()

    def _wait_for_work(self) -> bool:
        """Sleeps while there is nothing to do; False once it is closed and all is done."""
        with self._condition:
            if self._batch.idle:
                self._condition.wait_for(lambda: self._commands or self._closing)
            return bool(self._commands) or not self._batch.idle or not self._closing

    def _obey(self) -> None:
        while True:
            with self._condition:
                if not self._commands:
                    return
                command = self._commands.popleft()
            # Whoever waits for a command then sees the figures of everything before it.
            self.metrics = self._batch.metrics()
            try:
                command()
            except BaseException as error:  # noqa: BLE001 - a call's own are raised where it was made
                write_log(logging.ERROR, "a command failed", error=describe(error))

    def _admit_callers(self) -> None:
        """Lets those go on who waited for room in the queue."""
        with self._condition:
            left = {request for request in self._queued if request.queued}
            if len(left) < len(self._queued):
                self._queued = left
                self._condition.notify_all()

    def _give_up(self, error: BaseException) -> None:
        failure = DeviceError(f"the engine stopped: {describe(error)}; open a new one")
        failure.__cause__ = error
        with self._condition:
            self._closing = True
            self._failure = failure
        for request in {*self._batch.requests, *self._queued}:
            request.ended = True
            request.generation.fail(as_edge_error(failure, "the engine"))

    def _refuse_all(self) -> None:
        """Carries out what came at the last moment, so that nobody waits for it."""
        with self._condition:
            self._closing = True
            commands = list(self._commands)
            self._commands.clear()
            self._queued.clear()
            self._condition.notify_all()
        for command in commands:
            try:
                command()
            except BaseException as error:  # noqa: BLE001 - as above
                write_log(logging.ERROR, "a last command failed", error=describe(error))
        for request in tuple(self._batch.requests):
            if not request.ended:
                self._batch.end(request, "cancelled")
        self.metrics = self._batch.metrics()
