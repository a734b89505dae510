"""Facts about the processor that decide speed: cores this process may use, instruction sets."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_NOTABLE = (
    ("avx2", "AVX2"),
    ("avx512f", "AVX512"),
    ("avx512_vnni", "AVX512-VNNI"),
    ("avx_vnni", "AVX-VNNI"),
    ("amx_int8", "AMX"),
    ("asimddp", "dotprod"),
    ("i8mm", "i8mm"),
    ("sve", "SVE"),
    ("sme", "SME"),
)


@dataclass(frozen=True)
class Processor:
    """The processor.

    Attributes:
        name: model name.
        architecture: `x86_64`, `aarch64`, ...
        cores: cores that this process may use.
        features: instruction sets that matter for language models; empty where the system hides them.
    """

    name: str
    architecture: str
    cores: int
    features: tuple[str, ...]


def read_processor() -> Processor:
    """Asks the system about the processor."""
    try:
        info = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        info = ""
    model = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return Processor(
        name=model[1] if model else platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=usable_cores(),
        features=tuple(label for flag, label in _NOTABLE if flag in present),
    )


def usable_cores() -> int:
    """Cores that this process may use; the default number of threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
