"""A contender of a speed comparison: a process that stays loaded and measures itself when asked.

What the process is lies in benchmarks/workers; this is its other end.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

WORKERS = Path(__file__).parent / "workers"

Figures = dict[str, float]


class ContenderError(Exception):
    """A contender ended early; says what it said last."""


class Contender:
    """A loaded process."""

    def __init__(
        self,
        name: str,
        worker: str,
        settings: Mapping[str, str | int],
        *,
        python: Path | str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts a worker and waits until it has answered its first prompt.

        Args:
            name: for tables.
            worker: file name in benchmarks/workers.
            settings: `model`, `threads`, `context`, `vocab_size`, and what the worker needs besides.
            python: interpreter of the contender's environment.
            environment: variables to set.

        Raises:
            ContenderError: it ended early.
        """
        self.name = name
        self.rounds: list[Figures] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self.process = subprocess.Popen(
            [str(python), str(WORKERS / worker), json.dumps(dict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.ready = self._read()

    def measure(self, prompt: int, new: int) -> Figures:
        """Runs a prompt of so many tokens on an empty cache, and so many more one by one.

        Raises:
            ContenderError: it ended early.
        """
        return self.ask({"prompt": prompt, "new": new})

    def ask(self, request: Mapping[str, object]) -> dict:
        """Hands a request over, and returns what the worker says to it.

        Raises:
            ContenderError: it ended early.
        """
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; what it said is read below
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self._read()

    def peak_rss_bytes(self) -> int | None:
        """Most resident memory so far, mapped files included; None where the system does not say."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) << 10 if found else None

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended with a request unread
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()

    def median(self, figure: str) -> float:
        """Median over the counted rounds."""
        return statistics.median(r[figure] for r in self.rounds)

    def spread(self, figure: str) -> tuple[float, float]:
        """Least and most."""
        values = [r[figure] for r in self.rounds]
        return min(values), max(values)

    def _read(self) -> dict:
        """The next line that is JSON: some libraries print on standard output as well."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        status = self.process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        self._errors.close()
        raise ContenderError(f"ended with status {status}: {said[-1][:300] if said else 'it said nothing'}")


def turned(contenders: Sequence[Contender], round_number: int) -> list[Contender]:
    """The order of a round, turned every time so that none always runs after the same one."""
    turn = round_number % max(1, len(contenders))
    return [*contenders[turn:], *contenders[:turn]]
