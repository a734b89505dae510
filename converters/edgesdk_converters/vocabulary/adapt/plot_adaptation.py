"""Draws what an adaptation did: tokens per byte before and after, and how rows of tokens were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.write_file import write_file
from edgesdk.errors import MissingExtra
from edgesdk_converters.draw_svg import draw_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_adaptation(before: float, after: float, origins: Mapping[str, int], path: Path) -> bool:
    """Writes an SVG file; the same numbers give the same bytes with one version of matplotlib.

    Args:
        before: tokens per byte of the checkpoint.
        after: of the new vocabulary.
        origins: tokens by how their rows were made.
        path: of the file.

    Returns:
        Whether it was drawn: not without matplotlib.
    """

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.bar(("before", "after"), (before, after))
        left.set_ylabel("tokens per byte")
        right.bar(list(origins), list(origins.values()), color="tab:green")
        right.set_ylabel("tokens")

    try:
        write_file(path, draw_svg(7, 2.8, draw))
    except MissingExtra:
        return False
    return True
