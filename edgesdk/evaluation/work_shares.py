"""What share of a step attention, the products of weights and all the rest have, and the least each can take.

The least is what memory allows, measured on this machine: products read their weights once, attention its
cells. With many new tokens arithmetic takes longer than memory, and the share of that limit is small; what a
processor's arithmetic allows depends on kernels and is not measured. Arithmetic only.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.evaluation.step_profile import OperationTime, StepProfile

_ATTENTION = frozenset({"attended", "k_new", "v_new", "mask"})


@dataclass(frozen=True)
class WorkShare:
    """One kind of work in a step.

    Attributes:
        name: `attention`, `products`, `rest`.
        count: operations.
        duration_us: their time in one run.
        share: of the profiled run.
        read_bytes: weights or cells that they read in one run.
        least_us: time to read those once at this machine's memory bandwidth.
        of_limit: the least over the time; above 1 where much of it stays in the processor's cache, None
            where nothing is read or no time was told.
    """

    name: str
    count: int
    duration_us: float
    share: float
    read_bytes: int
    least_us: float
    of_limit: float | None


def by_work(profile: StepProfile) -> list[WorkShare]:
    """Attention, products and the rest, in this order; time that no operation accounts for is in the rest."""
    groups: dict[str, list[OperationTime]] = {"attention": [], "products": [], "rest": []}
    for operation in profile.operations:
        groups[_kind(operation)].append(operation)
    read = {"attention": profile.cell_bytes, "rest": 0}
    found = []
    for name, members in groups.items():
        took = sum(operation.duration_us for operation in members)
        if name == "rest":
            took += profile.unattributed_us
        count = read.get(name, sum(operation.weight_bytes for operation in members))
        least_us = count / profile.bandwidth_bytes_per_s * 1e6
        of_limit = least_us / took if count and took > 0 else None
        share = took / profile.profiled_us
        found.append(WorkShare(name, len(members), took, share, count, least_us, of_limit))
    return found


def _kind(operation: OperationTime) -> str:
    if operation.part in _ATTENTION:
        return "attention"
    gathers = "gather" in operation.kind.lower()
    return "products" if operation.weight_bytes and not gathers else "rest"
