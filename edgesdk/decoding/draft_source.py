"""Where a model's drafters come from: one for its own answers, one for each engine on it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgesdk.decoding.draft import Drafter
from edgesdk.decoding.drafting import Drafting
from edgesdk.errors import DeviceError


class DraftSource:
    """Opens drafters for one model."""

    def __init__(self, first: Drafter, another: Callable[[], Drafter | None], vocab_size: int) -> None:
        """Takes over a drafter, which whoever asks first gets.

        Args:
            first: opened already, so that what is wrong with it has shown.
            another: opens one more.
            vocab_size: V, of the model that judges.
        """
        self._first: Drafter | None = first
        self._another = another
        self._vocab_size = vocab_size
        self._lock = threading.Lock()
        self._opened: list[Drafting] = []
        self._shared: Drafting | None = None
        self.name = str(first.name)
        """What drafts."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Why drafters are asked no more, a line for each reason."""
        return tuple(dict.fromkeys(drafting.note for drafting in self._opened if drafting.note is not None))

    def shared(self) -> Drafting:
        """The drafter of the model's own answers, the same for all; raises what `open` does."""
        if self._shared is None:
            with self._lock:
                if self._shared is None:
                    self._shared = self._open()
        return self._shared

    def open(self) -> Drafting:
        """A drafter, to be closed by whoever asks; `close` does it, too.

        Raises:
            EdgeError: it cannot be opened once more.
        """
        with self._lock:
            return self._open()

    def _open(self) -> Drafting:
        drafter, self._first = self._first, None
        if drafter is None:
            drafter = self._another()
        if drafter is None:
            raise DeviceError(f"{self.name} drafts no more; please report this")
        drafting = Drafting(drafter, self._vocab_size)
        self._opened.append(drafting)
        return drafting

    def close(self) -> None:
        """Closes every drafter; may be called again."""
        with self._lock:
            first, self._first = self._first, None
            if first is not None:
                Drafting(first, self._vocab_size).close()
            for drafting in self._opened:
                drafting.close()
