"""Draws quality against bytes for each source and device, speed as colour, the front as a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgesdk_converters.draw_svg import draw_svg
from edgesdk_converters.sweeps.pareto import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS = 24


def plot_pareto(points: Sequence[Point]) -> bytes | None:
    """One panel for each source and device, at most 24; the same points give the same bytes.

    Args:
        points: from `points_of`.

    Returns:
        An SVG document; None where no point has a quality.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    drawn = [point for point in points if _quality(point) is not None]
    panels = sorted({(point.source, point.device) for point in drawn})[:_MOST_PANELS]
    if not panels:
        return None
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(lines, columns, squeeze=False)
        for (source, device), panel in zip(panels, axes.flat, strict=False):
            mine = [p for p in drawn if (p.source, p.device) == (source, device)]
            _draw(figure, panel, f"{source} on {device}", mine)
        for panel in axes.flat[len(panels) :]:
            panel.set_axis_off()

    return draw_svg(5.4 * columns, 4.2 * lines, draw)


def _draw(figure: Any, panel: Any, title: str, points: Sequence[Point]) -> None:
    compared = any(point.perplexity_ratio is not None for point in points)
    timed = [point for point in points if point.decode_tokens_per_s is not None]
    places = {point: (point.size_bytes / 1e6, _quality(point)) for point in points}
    untimed = [point for point in points if point.decode_tokens_per_s is None]
    panel.scatter(*_columns(untimed, places), color="#888888")
    if timed:
        speeds = [point.decode_tokens_per_s for point in timed]
        dots = panel.scatter(*_columns(timed, places), c=speeds, cmap="viridis")
        figure.colorbar(dots, ax=panel, label="decode, tokens/s")
    front = sorted((point for point in points if point.front), key=lambda point: point.size_bytes)
    panel.plot(*_columns(front, places), color="#b5521b", linewidth=0.8, zorder=0)
    for point in points:
        panel.annotate(point.name, places[point], xytext=(4, 4), textcoords="offset points", fontsize=7)
    panel.set_title(title)
    panel.set_xlabel("MB (left is smaller)")
    panel.set_ylabel("perplexity" + (", over the source's" if compared else "") + " (lower is better)")
    panel.grid(True, linewidth=0.3)
    panel.margins(0.15)


def _columns(points: Sequence[Point], places: dict[Point, Any]) -> tuple[list[float], list[float]]:
    return [places[point][0] for point in points], [places[point][1] for point in points]


def _quality(point: Point) -> float | None:
    return point.perplexity_ratio if point.perplexity_ratio is not None else point.perplexity
