"""Draws the log of a training: the loss, and the expected acceptance of each drafted token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.write_file import write_file
from edgesdk.errors import MissingExtra
from edgesdk_converters.draw_svg import draw_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_losses(lines: Sequence[Mapping[str, float]], path: Path) -> bool:
    """Writes an SVG file; the same log gives the same bytes with one version of matplotlib.

    Args:
        lines: of the log, each with `step` and `loss`; further names with a dot are drawn beside it.
        path: of the file.

    Returns:
        Whether it was drawn: not without matplotlib, and not without lines.
    """
    if not lines:
        return False
    accepted = [name for name in lines[-1] if "." in name]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2 if accepted else 1, squeeze=False)[0]
        left, right = axes[0], axes[-1]
        steps = [line["step"] for line in lines]
        left.plot(steps, [line["loss"] for line in lines], color="tab:blue")
        left.set_ylabel("loss")
        for name in accepted:
            right.plot(steps, [line.get(name, float("nan")) for line in lines], label=name)
        if accepted:
            right.set_ylabel("expected acceptance")
            right.legend()
        for each in axes:
            each.set_xlabel("step")

    try:
        write_file(path, draw_svg(9 if accepted else 4.5, 3.4, draw))
    except MissingExtra:
        return False
    return True
