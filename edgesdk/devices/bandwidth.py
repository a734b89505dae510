"""Memory bandwidth, measured shortly: decoding one token reads every weight once, so it is the floor.

It reads, as decoding does, an array that fits no cache, with the threads that a load would use.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgesdk.devices.cpu import usable_cores

_BYTES = 128 << 20


def measure_bandwidth(threads: int | None = None, *, budget_s: float = 0.5) -> float:
    """Bytes per second that all threads together read from memory.

    Args:
        threads: None for every core that this process may use.
        budget_s: seconds to spend; at least one pass is made.

    Returns:
        The best pass: other work on the machine only takes away.
    """
    threads = threads or usable_cores()
    parts = np.array_split(np.ones(_BYTES // 8, np.int64), threads)
    best, started = 0.0, time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        while True:
            begun = time.perf_counter()
            list(pool.map(np.max, parts))  # numpy lets go of the interpreter lock while it reads
            ended = time.perf_counter()
            best = max(best, _BYTES / (ended - begun))
            if ended - started >= budget_s:
                return best
