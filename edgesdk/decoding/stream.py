"""An answer of `Model` as it is written: its pieces in turn, and a way to stop it from another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.errors import DeviceError, UnsupportedOption, quoted

Cancelled = Callable[[], bool]
"""Says whether to stop; asked before each step of the model, in the thread that reads."""


class Stream:
    """An iterator over the pieces of one answer; `Model.stream` and `Model.chat_stream` make one.

    One thread reads it, any thread may `cancel` it:

        stream = model.stream("The sea is")
        button.on_click(stream.cancel)
        for chunk in stream:
            print(chunk.text, end="")
        print(stream.completion.finish_reason)  # cancelled, if the button was quick

    Reading no further, or leaving `with stream:`, stops the model, too.
    """

    def __init__(
        self, start: Callable[[Cancelled], Iterator[Chunk]], cancelled: Cancelled | None = None
    ) -> None:
        """Starts the answer.

        Args:
            start: gives the pieces, and asks what it is given whether to stop.
            cancelled: a second opinion on that, the caller's.

        Raises:
            UnsupportedOption: `cancelled` cannot be called.
        """
        if cancelled is not None and not callable(cancelled):
            raise UnsupportedOption(
                f"cancelled is {quoted(cancelled)}, expected a function that says whether to stop, "
                "such as the method is_set of a threading.Event"
            )
        # The pieces must not know the stream: it could then not be forgotten without a search for cycles.
        self._flag = _Flag(cancelled)
        self._chunks = start(self._flag.is_set)
        self._completion: Completion | None = None

    @property
    def completion(self) -> Completion | None:
        """The whole answer; None until the last piece has been read."""
        return self._completion

    def result(self) -> Completion:
        """Reads to the end and returns the answer.

        Raises:
            DeviceError: it was closed before its end.
        """
        for _ in self:
            pass
        if self._completion is None:
            raise DeviceError("the answer was given up before its end; ask again")
        return self._completion

    def cancel(self) -> None:
        """Ends the answer, from any thread; may be called again.

        The step of the model that is under way is the last one, also while the prompt runs. Whoever reads
        then gets the last piece, with the text so far and the finish reason `cancelled`.
        """
        self._flag.cancelled = True

    def close(self) -> None:
        """Ends the answer and gives nothing more out; while another thread reads it, it is `cancel`."""
        self.cancel()
        close = getattr(self._chunks, "close", None)
        try:
            if close is not None:
                close()
        except ValueError:  # "generator already executing"
            return
        self._chunks = iter(())

    def __iter__(self) -> Self:
        """Returns the stream."""
        return self

    def __next__(self) -> Chunk:
        """The next piece, which may be empty; the last one brings the completion."""
        chunk = next(self._chunks)
        if chunk.completion is not None:
            self._completion = chunk.completion
        return chunk

    def __enter__(self) -> Self:
        """Returns the stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the stream."""
        self.close()


class _Flag:
    """Whether to stop: by the stream, or by the caller's function."""

    def __init__(self, asked: Cancelled | None) -> None:
        self.cancelled = False
        self._asked = asked

    def is_set(self) -> bool:
        return self.cancelled or (self._asked is not None and bool(self._asked()))
