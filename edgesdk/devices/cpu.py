"""Facts about the processor that decide speed: cores, their kinds, caches, instruction sets, memory.

Linux and Android are read from /proc and /sys, which takes a millisecond and knows Arm's features and core
types; py-cpuinfo takes more than a second there and runs other programs. It is asked where /proc is missing:
macOS and Windows. Memory comes from psutil. What a system hides stays empty.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from edgesdk.errors import UnsupportedOption

MOST_THREADS = 256
"""More than a step can use. Runtimes take any number, get slow, and 100,000 end the process in LiteRT."""

_NOTABLE = (
    ("avx2", "AVX2"),
    ("avx512f", "AVX512"),
    ("avx512_vnni", "AVX512-VNNI"),
    ("avx512_bf16", "AVX512-BF16"),
    ("avx512_fp16", "AVX512-FP16"),
    ("avx_vnni", "AVX-VNNI"),
    ("amx_int8", "AMX"),
    ("asimddp", "dotprod"),
    ("asimdhp", "FP16"),
    ("i8mm", "i8mm"),
    ("sve", "SVE"),
    ("sve2", "SVE2"),
    ("sme", "SME"),
)
# What other systems call the same: py-cpuinfo on macOS and Windows.
_ALSO_KNOWN_AS = {
    "avx512vnni": "avx512_vnni",
    "avxvnni": "avx_vnni",
    "amx-int8": "amx_int8",
    "dotprod": "asimddp",
    "feat_dotprod": "asimddp",
    "feat_i8mm": "i8mm",
    "feat_sme": "sme",
}
_CACHE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "": 1}


@dataclass(frozen=True)
class CoreGroup:
    """Cores of one kind.

    Attributes:
        cores: how many this process may use.
        capacity: relative to the fastest kind, which has 1.0.
        max_mhz: highest clock; None where the system hides it.
    """

    cores: int
    capacity: float
    max_mhz: float | None


@dataclass(frozen=True)
class Processor:
    """The processor.

    Attributes:
        name: model name.
        architecture: `x86_64`, `aarch64`, ...
        cores: cores that this process may use.
        features: instruction sets that matter for language models; empty where the system hides them.
        groups: kinds of cores, fastest first; one group where all are alike or the system hides it.
        caches: bytes by level (`L1d`, `L2`, `L3`), each the size of one cache.
        memory_bytes: of the machine; None without psutil.
        physical_cores: that these are; fewer where a core runs two threads; None where it is hidden.
    """

    name: str
    architecture: str
    cores: int
    features: tuple[str, ...]
    groups: tuple[CoreGroup, ...] = ()
    caches: dict[str, int] = field(default_factory=dict)
    memory_bytes: int | None = None
    physical_cores: int | None = None


def read_processor(root: Path = Path("/")) -> Processor:
    """Asks the system about the processor.

    Args:
        root: where proc and sys are mounted; another folder in tests.
    """
    name, present = _read_proc(root) or _ask_py_cpuinfo()
    usable = _usable_ids()
    return Processor(
        name=name or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=usable_cores(),
        features=tuple(label for flag, label in _NOTABLE if flag in present),
        groups=_core_groups(root / "sys/devices/system/cpu", usable),
        caches=_caches(root / "sys/devices/system/cpu/cpu0/cache"),
        memory_bytes=_memory_bytes(),
        physical_cores=_physical_cores(root / "sys/devices/system/cpu", usable),
    )


def lacking_flags(needed: Collection[str], root: Path = Path("/")) -> tuple[str, ...]:
    """Those instruction sets that the processor does not have, by Linux's names; none where they are hidden.

    Args:
        needed: as /proc/cpuinfo calls them.
        root: where proc is mounted; another folder in tests.
    """
    present = instruction_sets(root)
    return tuple(flag for flag in needed if flag not in present) if present else ()


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """All of the processor's, by Linux's names and in its order; empty where the system hides them.

    Args:
        root: where proc is mounted; another folder in tests.
    """
    found = _read_proc(root)
    return () if found is None else found[1]


def has_float16_arithmetic(root: Path = Path("/"), architecture: str | None = None) -> bool:
    """Whether the processor adds and multiplies float16 numbers, and does not merely store them.

    Where the system hides its instruction sets, numpy, which has asked the processor, is asked; every 64-bit
    Arm processor of other systems than Linux has it.

    Args:
        root: where proc is mounted; another folder in tests.
        architecture: as `platform.machine` has it; None for this machine's.
    """
    arm = (architecture or platform.machine()).lower() in ("aarch64", "arm64")
    flags = instruction_sets(root)
    if flags:
        return ("asimdhp" if arm else "avx512_fp16") in flags
    return arm or _numpy_knows("AVX512_SPR")


def _numpy_knows(feature: str) -> bool:
    """Whether numpy found a set of instructions; the one asked for contains AVX512-FP16."""
    try:
        from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
            __cpu_features__ as found,
        )
    except ImportError:
        return True  # the careful answer
    return bool(found.get(feature, True))


def usable_cores() -> int:
    """Cores that this process may use; the default number of threads."""
    return len(_usable_ids())


def count_threads(asked: int | None) -> int:
    """Threads to run with.

    Args:
        asked: CPU threads; None for every core that this process may use.

    Raises:
        UnsupportedOption: there would be none, or more than `MOST_THREADS`.
    """
    if asked is None:
        return usable_cores()
    if not 1 <= asked <= MOST_THREADS:
        raise UnsupportedOption(f"threads is {asked}, expected 1 to {MOST_THREADS}")
    return asked


def _usable_ids() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _read_proc(root: Path) -> tuple[str, tuple[str, ...]] | None:
    try:
        info = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return None
    model = re.search(r"^(?:model name|Hardware|Model)\s*:\s*(.*)$", info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
    return model[1] if model else "", tuple(flags[1].split()) if flags else ()


def _ask_py_cpuinfo() -> tuple[str, set[str]]:
    try:
        import cpuinfo
    except ImportError:
        return "", set()
    found = cpuinfo.get_cpu_info()
    flags = {str(flag).lower() for flag in found.get("flags", ())}
    return str(found.get("brand_raw", "")), flags | {_ALSO_KNOWN_AS[f] for f in flags & set(_ALSO_KNOWN_AS)}


def _core_groups(folder: Path, usable: tuple[int, ...]) -> tuple[CoreGroup, ...]:
    """Groups cores by what the kernel thinks of them: `cpu_capacity` on Arm, the top clock elsewhere."""
    kinds: dict[tuple[float, float | None], int] = {}
    for core in usable:
        capacity = _number(folder / f"cpu{core}/cpu_capacity")
        khz = _number(folder / f"cpu{core}/cpufreq/cpuinfo_max_freq")
        weight = capacity if capacity is not None else khz if khz is not None else 1.0
        kind = (weight, None if khz is None else khz / 1e3)
        kinds[kind] = kinds.get(kind, 0) + 1
    best = max((weight for weight, _ in kinds), default=1.0) or 1.0
    ordered = sorted(kinds.items(), key=lambda item: -item[0][0])
    return tuple(CoreGroup(count, round(weight / best, 3), mhz) for (weight, mhz), count in ordered)


def _physical_cores(folder: Path, usable: tuple[int, ...]) -> int | None:
    """How many cores the usable ids are, counting siblings once."""
    siblings = set()
    for core in usable:
        try:
            siblings.add((folder / f"cpu{core}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            return None
    return len(siblings) or None


def _caches(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for index in sorted(folder.glob("index[0-9]*")):
        try:
            level = (index / "level").read_text().strip()
            kind = (index / "type").read_text().strip()
            size = re.fullmatch(r"(\d{1,12})([KMG]?)", (index / "size").read_text().strip())
        except OSError:
            continue
        if size is not None and kind != "Instruction":
            sizes[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size[1]) * _CACHE_UNITS[size[2]]
    return sizes


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _memory_bytes() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)
