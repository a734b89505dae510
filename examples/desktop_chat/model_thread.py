"""The model's own thread: it loads, answers and closes there, and tells the window by signals.

Everything that waits for the model happens here, so the window never does. A step of the model lets other
threads run (docs/threads.md); what is left to do is to touch widgets in the window's thread only, which
Qt's queued signals take care of.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from PySide6.QtCore import QObject, Signal

import edgesdk

TOKEN_BUDGET = 128
"""Of an engine for one conversation: there is nobody whose answer a prompt could hold up."""


@dataclass(frozen=True)
class Ask:
    """A question.

    Attributes:
        turn: number of the answer's turn, which comes back with every signal.
        messages: the conversation up to the question.
        temperature: 0 for the likeliest words.
        max_tokens: most tokens of the answer.
    """

    turn: int
    messages: list[dict[str, str]]
    temperature: float
    max_tokens: int


class Answer(Protocol):
    """What `Model.chat_stream` and `Engine.submit` have in common."""

    def __iter__(self) -> Iterator[edgesdk.Chunk]:
        """Pieces as they come."""

    def cancel(self) -> None:
        """Ends it within a step, from any thread."""


class ModelThread(QObject):
    """Loads one model at a time and answers one question at a time."""

    loading = Signal(str)
    """A name or folder."""
    ready = Signal(str)
    """The receipt."""
    failed = Signal(str)
    """The model cannot be loaded: one line."""
    piece = Signal(int, str)
    """Turn and text."""
    ended = Signal(int, str, object)
    """Turn, why it is not whole (empty if it is), and the `Completion` where there is one."""

    def __init__(self) -> None:
        """Starts the thread, which waits."""
        super().__init__()
        self._jobs: queue.Queue[tuple[str, int] | Ask | None] = queue.Queue()
        self._lock = threading.Lock()
        self._answer: Answer | None = None
        self._stopped = False
        self._model: edgesdk.Model | None = None
        self._engine: edgesdk.Engine | None = None
        self._thread = threading.Thread(target=self._work, name="model")
        self._thread.start()

    def load(self, bundle: str, threads: int) -> None:
        """Loads a model in place of the one that is loaded; `threads` 0 for every core."""
        self.stop()
        self._jobs.put((bundle, threads))

    def ask(self, asked: Ask) -> None:
        """Has a question answered; `ended` follows in any case."""
        with self._lock:
            self._stopped = False
        self._jobs.put(asked)

    def stop(self) -> None:
        """Ends the answer that is written, also while its prompt is read."""
        with self._lock:
            self._stopped = True
            if self._answer is not None:
                self._answer.cancel()

    def close(self) -> None:
        """Stops, and waits until the model is closed."""
        self.stop()
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, Ask):
                self._respond(job)
            else:
                self._open(*job)
        self._release()

    def _release(self) -> None:
        if self._engine is not None:
            self._engine.close(drain=False)
        if self._model is not None:
            self._model.close()
        self._engine = self._model = None

    def _open(self, bundle: str, threads: int) -> None:
        self._release()
        self.loading.emit(bundle)
        try:
            self._model = edgesdk.load(bundle, threads=threads or None)
        except edgesdk.EdgeError as error:
            self.failed.emit(str(error))
            return
        # Read now, not with the first question: the tokenizer's library holds Python's lock while it reads.
        self._model.tokenize("")
        # The engine keeps the cells of earlier turns: an edited question runs from where it differs. There is
        # none where the backend keeps its cache to itself: every answer reads the whole conversation then.
        with contextlib.suppress(edgesdk.UnsupportedOption):
            self._engine = edgesdk.Engine(self._model, token_budget=TOKEN_BUDGET)
        self.ready.emit(str(self._model.receipt))

    def _respond(self, asked: Ask) -> None:
        why, completion = "stopped", None
        try:
            answer = self._begin(asked)
            for chunk in answer or ():
                if chunk.text:
                    self.piece.emit(asked.turn, chunk.text)
                completion = chunk.completion
        except edgesdk.EdgeError as error:  # a conversation that has become too long, say
            why = str(error)
        with self._lock:
            self._answer = None
        if completion is not None:
            whys = {"stop": "", "length": f"cut after {completion.new_tokens} tokens", "cancelled": "stopped"}
            why = whys.get(completion.finish_reason, completion.finish_reason)
        self.ended.emit(asked.turn, why, completion)

    def _begin(self, asked: Ask) -> Answer | None:
        """An answer that `stop` can reach; None if it came first."""
        if self._model is None:
            raise edgesdk.DeviceError("no model is loaded; choose or import one")
        # The prompt is tokenised here, before there is anything to cancel; that takes milliseconds.
        answer: Answer
        if self._engine is not None:
            answer = self._engine.submit(
                messages=asked.messages, temperature=asked.temperature, max_tokens=asked.max_tokens
            )
        else:
            answer = self._model.chat_stream(
                asked.messages, temperature=asked.temperature, max_tokens=asked.max_tokens
            )
        with self._lock:
            if self._stopped:
                answer.cancel()
                return None
            self._answer = answer
        return answer
