"""Who may ask for a change of what runs although nothing has failed: the seam between them and failover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from edgesdk.devices.receipt import Incident, IncidentKind, Runner


class Closable(Protocol):
    """Something that is opened and closed: steps or a model."""

    def close(self) -> None:
        """Releases it."""


M = TypeVar("M", bound=Closable)

Opener = Callable[[], tuple[Runner, M]]
"""Opens something and says what it is, its provider included; raises EdgeError when it cannot."""


@dataclass(frozen=True)
class Move(Generic[M]):
    """What is to run from now on.

    Attributes:
        runner: what it is.
        backend: open; whoever takes the move closes it.
        reason: one line, for the receipt.
        kind: likewise.
        reopen: opens it once more, should what comes after it fail.
        threads: CPU threads that it runs with.
    """

    runner: Runner
    backend: M
    reason: str
    kind: IncidentKind
    reopen: Opener[M]
    threads: int


class Mover(Protocol[M]):
    """Asked before every step, so it answers at once; what takes long it does in a thread."""

    def poll(self, runner: Runner) -> Move[M] | Incident | None:
        """What is to change now, each change once; None when there is nothing.

        Args:
            runner: what runs.
        """

    def failed(self, runner: Runner) -> None:
        """Told what has failed and must not be opened again."""

    def close(self) -> None:
        """Ends it, and closes what nobody has taken."""
