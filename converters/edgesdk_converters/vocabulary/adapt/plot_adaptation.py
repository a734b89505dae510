"""Draws what an adaptation did: tokens per byte before and after, and how rows of tokens were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edgesdk.bundle.write_file import write_file


class Adapted(Protocol):
    """What is drawn of an `AdaptReport`."""

    @property
    def tokens_per_byte_before(self) -> float:
        """Of the checkpoint."""

    @property
    def tokens_per_byte_after(self) -> float:
        """Of the new vocabulary."""

    @property
    def origins(self) -> Mapping[str, int]:
        """Tokens by how their rows were made."""


def plot_adaptation(report: Adapted, path: Path) -> bool:
    """Writes an SVG file; the same report gives the same bytes with one version of matplotlib.

    Args:
        report: what is drawn.
        path: of the file.

    Returns:
        Whether it was drawn: not without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with matplotlib.rc_context({"svg.hashsalt": "edgesdk", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.bar(("before", "after"), (report.tokens_per_byte_before, report.tokens_per_byte_after))
        left.set_ylabel("tokens per byte")
        right.bar(list(report.origins), list(report.origins.values()), color="tab:green")
        right.set_ylabel("tokens")
        metadata = {"Date": None, "Creator": None}
        write_file(path, lambda draft: figure.savefig(draft, format="svg", metadata=metadata))
    return True
