"""Energy that the processor's package has used, from Linux's powercap (RAPL).

Often only root may read it, and virtual machines have none: then power is judged by processor time.
"""

from __future__ import annotations

from pathlib import Path


def read_joules(root: Path = Path("/sys/class/powercap")) -> float | None:
    """Energy counters of all packages together, in joules since some start; None if they cannot be read.

    Args:
        root: the powercap folder; another in tests.
    """
    total, seen = 0.0, False
    for zone in sorted(root.glob("*-rapl:*")):
        if zone.name.count(":") != 1:  # parts of a package are counted with it
            continue
        try:
            total += int((zone / "energy_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return None
        seen = True
    return total if seen else None


def joules_between(before: float | None, after: float | None) -> float | None:
    """Energy used between two readings; None where one is missing or the counter began anew."""
    if before is None or after is None or after < before:
        return None
    return after - before
