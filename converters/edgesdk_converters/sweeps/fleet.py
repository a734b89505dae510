"""Where jobs run: the seam between the loop that plans and what carries jobs to processes or machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgesdk_converters.sweeps.job import Job


@dataclass(frozen=True)
class Ended:
    """A job that a fleet is done with.

    Attributes:
        job: as it was submitted.
        lost: why it has no outcome, in one line; None where the store has one.
        again: whether another try may do better: its process or worker died, and was not ended for
            what it does: time that runs out, output without end.
    """

    job: Job
    lost: str | None = None
    again: bool = False


class Fleet(Protocol):
    """Runs jobs; used by one thread."""

    @property
    def slots(self) -> int:
        """How many jobs it runs at once; may change while workers come and go."""

    def check(self, job: Job) -> str | None:
        """Why it can never run a job, in one line; None where it can."""

    def submit(self, job: Job) -> None:
        """Takes a job."""

    def wait(self) -> list[Ended]:
        """Jobs that have ended, at least one; there must be one that runs.

        Raises:
            DeviceError: the fleet is gone.
        """

    def close(self) -> None:
        """Ends what still runs."""
