"""Which process an engine's thread lives in: a forked child has the objects, but not the thread."""

from __future__ import annotations

import os

from edgesdk.errors import DeviceError


class OwnerProcess:
    """The process that made this object."""

    def __init__(self) -> None:
        """Remembers it."""
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether it is the one that asks."""
        return os.getpid() == self._pid

    def error(self) -> DeviceError:
        """What whoever asks elsewhere gets to hear, instead of waiting for ever."""
        return DeviceError(
            f"the engine lives in the process {self._pid}, this one ({os.getpid()}) was forked from it; open "
            "an engine here, or use the start method 'spawn'"
        )
