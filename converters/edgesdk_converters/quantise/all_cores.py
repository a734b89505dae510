"""Work on parts of something by all cores, a thread each.

NumPy's products have threads of their own, which wait for each other by turning round and round: where other
programs run as well, that is processor time lost, several times what a product takes. So a product takes one
core here, and parts take all of them. It also has the same last bits then, however many cores there are.

It does not know what is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Part = TypeVar("Part")
Found = TypeVar("Found")


def on_all_cores(work: Callable[[Part], Found], parts: Iterable[Part]) -> list[Found]:
    """What work gives for each part, in their order.

    Args:
        work: must not write where another part's does, nor come here again.
        parts: of about the same size, at best.
    """
    waiting = list(parts)
    with products_on_one_core():
        if len(waiting) < 2:
            return [work(part) for part in waiting]
        return list(_pool().map(work, waiting))


@contextmanager
def products_on_one_core() -> Iterator[None]:
    """Has NumPy's products and factors inside take one core, and leaves the setting as it was."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


def usable_cores() -> int:
    """Cores that this process may run on, as `edgesdk.devices.cpu` says it, which no file here imports."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="edgesdk-parts")
