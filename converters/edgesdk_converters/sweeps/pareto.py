"""What the cells of a sweep say of each bundle on each device, and which of those nothing beats.

A point is a bundle on a device with what its tasks have measured: bytes, perplexity over the source's (or the
perplexity itself, where nothing was compared), tokens a second. One is on the front if no other of the same
source and device is at least as good in all of these and better in one (Pareto).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from edgesdk.bundle.records import JsonValue
from edgesdk_converters.sweeps.plan import CONVERT
from edgesdk_converters.sweeps.sweep_table import Row


@dataclass(frozen=True)
class Point:
    """A bundle on a device.

    Attributes:
        source: its name in the plan, as in the next four.
        transform: before quantising.
        recipe: how weights are stored.
        target: its format.
        device: where it was measured.
        size_bytes: of its weights and what else its variant needs.
        perplexity_ratio: over that of the source; None where none was measured.
        perplexity: of the text; None where none was measured.
        kl_p99_nats: divergence that 99 of 100 positions do not exceed.
        top1_agreement: with the source.
        decode_tokens_per_s: speed; None where none was measured.
        front: whether nothing beats it.
    """

    source: str
    transform: str
    recipe: str
    target: str
    device: str
    size_bytes: float
    perplexity_ratio: float | None = None
    perplexity: float | None = None
    kl_p99_nats: float | None = None
    top1_agreement: float | None = None
    decode_tokens_per_s: float | None = None
    front: bool = False

    @property
    def name(self) -> str:
        """In a plot of one source and device."""
        parts = [self.recipe, self.target]
        return " ".join(parts if self.transform == "plain" else [self.transform, *parts])

    def costs(self) -> tuple[float, ...]:
        """What should be small; unknown figures are the worst."""
        quality = self.perplexity_ratio if self.perplexity_ratio is not None else self.perplexity
        speed = self.decode_tokens_per_s
        return self.size_bytes, math.inf if quality is None else quality, -speed if speed is not None else 0.0


_Bundle = tuple[str, str, str, str]
_TAKEN = ("perplexity_ratio", "perplexity", "kl_p99_nats", "top1_agreement", "decode_tokens_per_s")
"""In the order in which `Point` has them."""


def points_of(rows: Iterable[Row]) -> list[Point]:
    """The points of a table, those on the front marked."""
    sizes: dict[_Bundle, float] = {}
    found: dict[tuple[_Bundle, str], dict[str, float]] = {}
    for row in sorted(rows, key=lambda row: row.place[-1] == "prove"):  # a plan's own texts count first
        if row.status != "done":
            continue
        source, transform, recipe, target, device, task = row.place
        bundle = (source, transform, recipe, target)
        if task == CONVERT:
            size = _number(row.figures.get("size_bytes"))
            if size is not None:
                sizes[bundle] = size
            continue
        measured = found.setdefault((bundle, device), {})
        for name in _TAKEN:
            value = _number(row.figures.get(name))
            if value is not None:
                measured.setdefault(name, value)
    points = []
    for (bundle, device), measured in found.items():
        if bundle in sizes:
            ratio, perplexity, kl, top1, speed = map(measured.get, _TAKEN)
            points.append(Point(*bundle, device, sizes[bundle], ratio, perplexity, kl, top1, speed))
    return _marked(points)


def _marked(points: Sequence[Point]) -> list[Point]:
    marked = []
    for point in points:
        rivals = [p for p in points if (p.source, p.device) == (point.source, point.device)]
        marked.append(replace(point, front=not any(_beats(rival, point) for rival in rivals)))
    return marked


def _beats(rival: Point, point: Point) -> bool:
    pairs = list(zip(rival.costs(), point.costs(), strict=True))
    return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)


def _number(value: JsonValue) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
