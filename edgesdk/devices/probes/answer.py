"""How a probe tells what it found: one line with a mark, among whatever the vendor's library prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

MARK = "edgesdk-answer: "

Fact = str | int | None


def write_answer(devices: Sequence[Mapping[str, Fact]], unproven: Sequence[str] = ()) -> None:
    """Prints what was found, in one write.

    Args:
        devices: keys `device`, `provider`, `name`, `vendor`, `driver`, `memory_bytes`, `reason`; the last is
            why it cannot be used, or absent.
        unproven: execution providers that the package claims, each to be tried in a process of its own.
    """
    document = json.dumps({"devices": list(devices), "unproven": list(unproven)})
    sys.stdout.flush()
    sys.stdout.write(f"\n{MARK}{document}\n")
    sys.stdout.flush()
