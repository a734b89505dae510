"""Runs one probe in a process of its own and reads its answer: what it says of devices, or why nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.devices.probes.answer import MARK
from edgesdk.devices.run_isolated import run_isolated

NO_ANSWER = "it gave no answer that can be read"

_MOST_ROWS = 64
_KEYS = ("device", "provider", "name", "vendor", "driver", "reason")
_CLASSES = ("cpu", "gpu", "npu")


@dataclass(frozen=True)
class Finding:
    """What a probe says of one device; as in `edgesdk.devices.device.Device`."""

    device: str
    provider: str
    name: str
    vendor: str
    driver: str | None
    memory_bytes: int | None
    reason: str | None


@dataclass(frozen=True)
class ProbeAnswer:
    """What came of one probe.

    Attributes:
        findings: one for each device that it named.
        unproven: execution providers to be tried one by one.
        reason: why there is no answer; None when there is one.
    """

    findings: tuple[Finding, ...] = ()
    unproven: tuple[str, ...] = ()
    reason: str | None = None


def run_probe(arguments: Sequence[str], time_limit_s: float) -> ProbeAnswer:
    """Runs Python in another process and reads its answer.

    Args:
        arguments: of the interpreter, e.g. `("-m", "edgesdk.devices.probes.ask_litert", "gpu")`.
        time_limit_s: seconds until the process and its children are ended.
    """
    ended = run_isolated(arguments, time_limit_s)
    # What was answered before the library failed to shut down in order still counts.
    answer = None if ended.stopped else _read_answer(ended.text)
    return answer if answer is not None else ProbeAnswer(reason=ended.reason or NO_ANSWER)


def _read_answer(text: str) -> ProbeAnswer | None:
    """The last marked line, if it is what a probe writes."""
    marked = [line for line in text.splitlines() if line.startswith(MARK)]
    if not marked:
        return None
    try:
        document = json.loads(marked[-1][len(MARK) :])
        rows, names = document["devices"], document["unproven"]
        findings = tuple(_finding(row) for row in rows[:_MOST_ROWS])
        unproven = tuple(name for name in names[:_MOST_ROWS] if isinstance(name, str))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return ProbeAnswer(findings, unproven)


def _finding(row: dict[str, object]) -> Finding:
    memory = row.get("memory_bytes")
    text = {key: value[:300] if isinstance(value := row.get(key), str) else None for key in _KEYS}
    device = text["device"] or ""
    if device not in _CLASSES:
        raise ValueError(f"{device!r} is no class of devices")
    return Finding(
        device=device,
        provider=text["provider"] or "",
        name=text["name"] or "",
        vendor=text["vendor"] or "",
        driver=text["driver"],
        memory_bytes=memory if isinstance(memory, int) and 0 < memory < 1 << 50 else None,
        reason=text["reason"],
    )
