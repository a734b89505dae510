"""The report of a sweep: one HTML file that needs nothing else, with the plot, the points and every row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import MissingExtra
from edgesdk_converters.sweeps.pareto import points_of
from edgesdk_converters.sweeps.plot_pareto import plot_pareto
from edgesdk_converters.sweeps.sweep_table import PLACE, Row

_HIDDEN = frozenset(("backend", "variant", "threads", "receipt"))


def write_report(folder: Path, name: str, rows: Sequence[Row]) -> list[str]:
    """Writes `report.html`, and `pareto.svg` where there is something to draw.

    Args:
        folder: of the sweep.
        name: title.
        rows: of its table.

    Returns:
        What is missing, a line each.

    Raises:
        OSError: a file cannot be written.
    """
    from jinja2 import Environment

    points = sorted(points_of(rows), key=lambda p: (p.source, p.device, p.size_bytes))
    notes, plot = [], None
    try:
        plot = plot_pareto(points)
    except MissingExtra as error:
        notes.append(f"no plot: {error}")
    if plot is not None:
        write_file(folder / "pareto.svg", plot)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": _figure, "megabytes": lambda size: f"{size / 1e6:.2f}"}
    text = (files("edgesdk_converters.sweeps") / "report.html.txt").read_text(encoding="utf-8")
    html = environment.from_string(text).render(
        name=name,
        columns=PLACE,
        rows=[(row, _line(row)) for row in rows],
        failed=sum(row.status == "failed" for row in rows),
        points=points,
        # A plot is our own SVG; as text of the page it needs no second file. Its prolog is no part of HTML.
        plot=None if plot is None else plot.decode("utf-8")[plot.decode("utf-8").index("<svg") :],
        notes=notes,
    )
    write_file(folder / "report.html", html)
    return notes


def _line(row: Row) -> str:
    """A row's figures in one line."""
    if row.error is not None:
        return row.error
    shown = {name: value for name, value in row.figures.items() if name not in _HIDDEN}
    numbers = {name: value for name, value in shown.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {_figure(value)}" for name, value in numbers.items())


def _figure(value: JsonValue) -> str:
    """A number with four digits that say something."""
    if value is None or isinstance(value, str | bool | list | dict):
        return "-" if value is None else str(value)
    if not math.isfinite(value) or abs(value) >= 10_000:
        return f"{value:.0f}"
    return f"{value:.4g}"
