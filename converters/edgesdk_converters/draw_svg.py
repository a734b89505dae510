"""Draws an SVG document: what is drawn and the version of matplotlib decide every byte of it.

It knows no report; each has a file of its own that says what is drawn of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgesdk.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_svg(width: float, height: float, draw: Callable[[Figure], object]) -> bytes:
    """An SVG document.

    Args:
        width: in inches.
        height: likewise.
        draw: puts everything into the figure.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib

        # Figure, not pyplot: no window system is asked for, and nothing stays behind.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "bench") from error
    # Text stays text, and ids do not depend on the moment.
    with matplotlib.rc_context({"svg.hashsalt": "edgesdk", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
