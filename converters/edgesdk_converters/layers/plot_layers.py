"""Draws a layer report: influence of each part, and perplexity against the parts removed.

The same report gives the same SVG file, byte for byte, with one version of matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.write_file import check_target, write_file
from edgesdk.errors import MissingExtra, UnsupportedOption
from edgesdk_converters.draw_svg import draw_svg
from edgesdk_converters.layers.report_layers import LayerReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_layers(report: LayerReport, path: Path) -> None:
    """Writes an SVG file.

    Args:
        report: what to draw.
        path: ends in `.svg`.

    Raises:
        UnsupportedOption: the name has another ending.
        MissingExtra: matplotlib is not installed.
    """
    check_plot(path)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _draw_scores(left, report)
        _draw_curve(right, report)
        figure.suptitle(f"{report.checkpoint}, ranked by {report.ranking.method}")

    write_file(path, draw_svg(9, 3.4, draw))


def check_plot(path: Path) -> None:
    """Refuses, before anything is measured, what could not be drawn.

    Raises:
        UnsupportedOption: the name does not end in `.svg`, or no plain file can be written there.
        MissingExtra: matplotlib is not installed.
    """
    if path.suffix.lower() != ".svg":
        raise UnsupportedOption(f"the plot {path.name!r} is no .svg file; expected for example layers.svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtra("matplotlib", "bench") from error
    try:
        check_target(path)
    except OSError as error:
        raise UnsupportedOption(f"the plot {path.name[:80]!r} cannot be written: {error.strerror}") from error


def _draw_scores(axes: Axes, report: LayerReport) -> None:
    scores = report.ranking.scores
    removed = set(report.ranking.removals)
    colours = ["tab:red" if score.part in removed else "tab:blue" for score in scores]
    axes.bar(range(len(scores)), [score.influence for score in scores], color=colours)
    every = max(1, len(scores) // 15)
    names = [score.part for score in scores[::every]]
    axes.set_xticks(range(0, len(scores), every), names, rotation=90 if report.ranking.unit == "half" else 0)
    axes.set_xlabel(f"{report.ranking.unit} (red: removed)")
    axes.set_ylabel("influence, 1 - cosine")


def _draw_curve(axes: Axes, report: LayerReport) -> None:
    for points, label, colour in (
        (report.curve, "as it is", "tab:red"),
        (report.repaired, f"repaired ({report.repair})", "tab:green"),
    ):
        if points:
            counts = [0, *(point.removed for point in points)]
            ratios = [1.0, *(point.perplexity_ratio for point in points)]
            upper = [1.0, *(point.upper_ratio for point in points)]
            axes.plot(counts, ratios, marker="o", label=label, color=colour)
            axes.fill_between(counts, ratios, upper, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("blocks removed" if report.ranking.unit == "block" else "halves removed")
    axes.set_ylabel("perplexity ratio, unseen text")
    axes.legend()
