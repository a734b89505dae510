"""A job: one piece of a sweep's work, known by what it is made from, so that none is done twice.

A job's key is the SHA-256 of what its result depends on: its kind, digests of its files, its options, the
keys of what it needs, and the version of edgesdk. Paths, the number of workers and the plan's name are no
part of it. It does not know what a kind does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import UnsupportedOption
from edgesdk.version import read_version

JobKind = Literal["convert", "prove", "score", "evaluate", "bench", "sustained", "harness"]
Status = Literal["done", "failed"]


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        key: 64 hexadecimal digits (`address`).
        kind: what is done.
        label: for people, one line.
        options: how it is done, as JSON; may hold paths of this machine.
        needs: keys of jobs whose results it reads; the first one's is a bundle, but for a conversion.
        alone: nothing else of any sweep runs on the machine meanwhile, since it measures time.
        timeout_s: seconds until it is ended, what it waits for others included; nothing ends it where it runs
            in the very process that asks.
        worker: resource that a worker of the fleet must offer; None for any.
    """

    key: str
    kind: JobKind
    label: str
    options: Mapping[str, JsonValue]
    needs: tuple[str, ...] = ()
    alone: bool = False
    timeout_s: float = 14400.0
    worker: str | None = None

    def to_text(self) -> str:
        """As JSON, for a process of its own."""
        return json.dumps(to_json(self))

    @classmethod
    def from_text(cls, text: str) -> Job:
        """What `to_text` wrote.

        Raises:
            UnsupportedOption: it is something else.
        """
        try:
            document = json.loads(text)
            document["needs"] = tuple(document["needs"])
            job = cls(**document)
        except (ValueError, TypeError, KeyError) as error:
            raise UnsupportedOption("that is no job of a sweep; run `edgesdk sweep` instead") from error
        if job.kind not in get_args(JobKind):
            raise UnsupportedOption(f"there is no job {job.kind!r}; expected {', '.join(get_args(JobKind))}")
        return job


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        key: of the job.
        status: `done` or `failed`.
        error: why it failed, in one line; None where it did not.
        figures: what was measured, by name.
        made: when, where and with what: provenance.
    """

    key: str
    status: Status
    error: str | None = None
    figures: dict[str, JsonValue] = field(default_factory=dict)
    made: dict[str, JsonValue] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: JsonValue) -> Outcome | None:
        """An outcome that was written as JSON; None where it is none."""
        if not isinstance(document, dict) or document.get("status") not in get_args(Status):
            return None
        key, error = document.get("key"), document.get("error")
        figures, made = document.get("figures"), document.get("made")
        if not isinstance(key, str) or not isinstance(figures, dict) or not isinstance(made, dict):
            return None
        if not all(map(_fits_a_column, (*figures.values(), *made.values(), error))):
            return None
        return cls(
            key, cast(Status, document["status"]), None if error is None else str(error), figures, made
        )


def _fits_a_column(value: JsonValue) -> bool:
    """Whether it is no whole number that SQLite has no room for, nor a text that is none."""
    if isinstance(value, str):
        return value.isascii() or value.encode("utf-8", "replace").decode() == value
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


def address(kind: JobKind, identity: Mapping[str, JsonValue], needs: tuple[str, ...] = ()) -> str:
    """The key of a job.

    Args:
        kind: what is done.
        identity: all that its result depends on, files as digests.
        needs: keys of what it reads, where those are not in `identity` already.
    """
    document = {"edgesdk": read_version(), "kind": kind, "identity": identity, "needs": list(needs)}
    text = json.dumps(to_json(document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
