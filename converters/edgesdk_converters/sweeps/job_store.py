"""The folder of a sweep: bundles, outcomes and scored positions by the keys of their jobs.

    bundles/KEY/           a bundle
    outcomes/KE/KEY.json   what came of a job, with a checksum
    positions/KEY.npz      scored positions of a shard
    locks/KEY.lock         held by the process that does the job
    journal.jsonl          a line when a job begins and when its outcome stands

An outcome appears whole, by a rename, and is what makes a job done: whoever is killed before has done
nothing, whoever is killed afterwards has lost nothing. Workers on other machines see the folder under the
same path, by a file system that has locks. It does not know what jobs do.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgesdk.bundle.checked_json import read_checked, write_checked
from edgesdk.bundle.file_lock import FileLock
from edgesdk.bundle.records import to_json
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import BundleError
from edgesdk.evaluation.agreement import ScoredPositions
from edgesdk_converters.sweeps.job import Outcome

_LIMIT_BYTES = 64 << 20
_ARRAYS = ("loss", "reference_loss", "kl", "same")


class JobStore:
    """What a sweep has made so far."""

    def __init__(self, folder: Path) -> None:
        """Takes a folder, which is made when something is written."""
        self.folder = folder

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            OSError: one cannot be made.
        """
        for name in ("bundles", "outcomes", "positions", "locks"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def bundle(self, key: str) -> Path:
        """Where the bundle of a conversion is, or will be."""
        return self.folder / "bundles" / key

    def lock(self, key: str) -> FileLock:
        """Held while a job is done, so that no two processes do it at once."""
        return FileLock(self.folder / "locks" / f"{key}.lock")

    def read_outcome(self, key: str) -> Outcome | None:
        """What came of a job; None where it was not done, or its record is damaged."""
        found = Outcome.from_json(read_checked(self._outcome(key), _LIMIT_BYTES))
        return found if found is not None and found.key == key else None

    def write_outcome(self, outcome: Outcome) -> None:
        """Makes a job done.

        Raises:
            OSError: it cannot be written; the job is not done then.
        """
        write_checked(self._outcome(outcome.key), to_json(outcome), bounded=False)

    def forget(self, key: str) -> None:
        """A job that failed is to be done again."""
        self._outcome(key).unlink(missing_ok=True)

    def write_positions(self, key: str, scored: ScoredPositions) -> None:
        """Keeps what a shard has scored.

        Raises:
            OSError: it cannot be written.
        """

        def save(path: Path) -> None:
            with path.open("wb") as stream:
                np.savez(stream, **{name: getattr(scored, name) for name in _ARRAYS})

        write_file(self._positions(key), save)

    def read_positions(self, key: str) -> ScoredPositions:
        """What a shard has scored.

        Raises:
            BundleError: it is not there, or damaged.
        """
        path = self._positions(key)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return ScoredPositions(*(arrays[name] for name in _ARRAYS))
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(
                f"{path} holds no scored positions; remove the folder {self.folder} and run again"
            ) from error

    def note(self, key: str, event: str) -> None:
        """Adds a line to the journal; one write, so that lines of several processes stay whole."""
        line = {"key": key, "event": event, "pid": os.getpid(), "time": time.time()}
        handle = os.open(self.folder / "journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, (json.dumps(line) + "\n").encode())
        finally:
            os.close(handle)

    def _outcome(self, key: str) -> Path:
        return self.folder / "outcomes" / key[:2] / f"{key}.json"

    def _positions(self, key: str) -> Path:
        return self.folder / "positions" / f"{key}.npz"
