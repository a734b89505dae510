"""The table of a sweep: a row for each cell, with figures and provenance, in one SQLite file.

    SELECT recipe, size_bytes, perplexity_ratio FROM cells WHERE task = 'evaluate' AND status = 'done'

`pandas.read_sql("SELECT * FROM cells", sqlite3.connect("sweep.sqlite"))` has it as a data frame. One process
writes, a row at a time, while others read. The table is made from the store's outcomes and can be made again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import BundleError
from edgesdk_converters.sweeps.drive import FinishedCell

PLACE = ("source", "transform", "recipe", "target", "device", "task")
FIGURES = (
    "size_bytes",
    "perplexity",
    "reference_perplexity",
    "perplexity_ratio",
    "kl_nats",
    "kl_p99_nats",
    "top1_agreement",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "ttft_ms",
    "load_ms",
    "peak_rss_bytes",
    "kept_share",
)
"""Figures with a column; all are in the column `figures`, as JSON."""
_MADE = ("started_at", "wall_s", "host", "processor", "python", "edgesdk")
_TEXTS = ("status", "error", "backend", "variant", "key", "source_digest", "started_at", "host", "processor")
COLUMNS = (
    *PLACE,
    "status",
    "error",
    *FIGURES,
    "backend",
    "variant",
    "key",
    "source_digest",
    *_MADE,
    "options",
    "figures",
    "provenance",
    "run",
)


@dataclass(frozen=True)
class Row:
    """One row, as a report reads it.

    Attributes:
        place: source, transform, recipe, target, device, task.
        status: `done` or `failed`.
        error: why it failed.
        figures: what was measured.
        made: provenance.
    """

    place: tuple[str, str, str, str, str, str]
    status: str
    error: str | None
    figures: dict[str, JsonValue]
    made: dict[str, JsonValue]


class SweepTable:
    """The table in a file."""

    def __init__(self, path: Path, run: str) -> None:
        """Opens a table, or makes one.

        Args:
            path: of the file.
            run: tells the rows of this run from those of earlier ones.

        Raises:
            BundleError: the file is something else.
        """
        self._path, self._run = path, run
        if path.exists() and not path.is_file():
            raise BundleError(f"{path} is no file; give another folder for the sweep")
        try:
            self._connection = sqlite3.connect(path, isolation_level=None)
        except sqlite3.DatabaseError as error:
            raise BundleError(f"{path} cannot be opened ({error}); give another folder") from error
        try:
            # A row may be lost with the machine, never with the process, and is made again from the store.
            self._connection.execute("PRAGMA synchronous = OFF")
            kinds = ", ".join(f"{name} {_kind(name)}" for name in COLUMNS)
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS cells ({kinds}, PRIMARY KEY ({', '.join(PLACE)}))"
            )
            found = tuple(row[1] for row in self._connection.execute("PRAGMA table_info(cells)"))
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise BundleError(f"{path} is no table of a sweep ({error}); remove it and run again") from error
        if found != COLUMNS:
            self._connection.close()
            raise BundleError(f"{path} is the table of another version of edgesdk; remove it and run again")

    def add(self, row: FinishedCell) -> None:
        """Writes a row; what the table said of the cell before is replaced."""
        cell, outcome = row.cell, row.outcome
        made, figures = outcome.made, outcome.figures
        texts = {
            "status": outcome.status,
            "error": outcome.error,
            "backend": _scalar(figures.get("backend")),
            "variant": _scalar(figures.get("variant")),
            "key": outcome.key,
            "source_digest": cell.source_digest,
            "options": json.dumps(to_json(cell.jobs[-1].options)) if cell.jobs else "{}",
            "figures": json.dumps(to_json(figures)),
            "provenance": json.dumps(to_json(made)),
            "run": self._run,
        }
        values = dict(zip(PLACE, cell.place, strict=True)) | {
            name: _scalar(figures.get(name)) for name in FIGURES
        }
        values |= {name: _scalar(made.get(name)) for name in _MADE} | texts
        marks = ", ".join("?" * len(COLUMNS))
        self._execute(f"INSERT OR REPLACE INTO cells VALUES ({marks})", [values[name] for name in COLUMNS])

    def finish(self) -> None:
        """Removes the rows of cells that the plan does not have any more."""
        self._execute("DELETE FROM cells WHERE run != ?", (self._run,))

    def _execute(self, command: str, values: Sequence[JsonValue]) -> None:
        """Raises BundleError where the file is locked, read-only, damaged or on a full disk."""
        try:
            self._connection.execute(command, values)
        except sqlite3.DatabaseError as error:
            raise BundleError(
                f"{self._path} cannot be written ({error}); close what reads it, or remove it, and run again"
            ) from error

    def __enter__(self) -> Self:
        """The table."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self._connection.close()


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of a table, in the order of their places.

    Raises:
        BundleError: the file is no table of a sweep.
    """
    if not path.is_file():
        raise BundleError(f"{path} is not there; run the sweep first")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    order = ", ".join(PLACE)
    try:
        query = f"SELECT {order}, status, error, figures, provenance FROM cells ORDER BY {order}"
        for *place, status, error, figures, made in connection.execute(query):
            yield Row(tuple(place), status, error, json.loads(figures), json.loads(made))
    except (sqlite3.DatabaseError, ValueError) as failure:
        raise BundleError(f"{path} is no table of a sweep ({failure}); run the sweep again") from failure
    finally:
        connection.close()


def _scalar(value: JsonValue) -> JsonValue:
    """What a column holds; an outcome is a file that others may have written."""
    return None if isinstance(value, list | dict) else value


def _kind(name: str) -> str:
    if name in FIGURES or name == "wall_s":
        return "REAL"
    return "TEXT NOT NULL" if name in PLACE else "TEXT"
