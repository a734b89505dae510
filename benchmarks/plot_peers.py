"""Draws what peers.py measured: a panel for each figure and length, the fastest first, ours in colour.

python benchmarks/plot_peers.py FIGURES.json --out docs/peers.svg
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

KINDS = (("prefill_tokens_per_s", "prefill of"), ("decode_tokens_per_s", "decode after"))
_OURS, _PEER = "#1f5fa8", "#b9bec6"
_BAR_INCHES = 0.19


def draw(document: Mapping[str, Any], out: Path) -> None:
    """Writes the panels.

    Args:
        document: as peers.py writes it with `--json`.
        out: an .svg file.

    Raises:
        click.ClickException: matplotlib is not installed, or there is nothing to draw.
    """
    panels = _panels(document)
    if not panels:
        raise click.ClickException("there are no figures to draw")
    try:
        import matplotlib
    except ImportError as error:
        raise click.ClickException("the chart needs matplotlib: pip install 'edgesdk[bench]'") from error
    # Text stays text, and ids do not depend on the moment.
    settings = {"svg.hashsalt": "edgesdk", "svg.fonttype": "none", "font.size": 8}
    with matplotlib.rc_context(settings):
        from matplotlib.figure import Figure

        most = max(len(bars) for column in panels for _, bars in column)
        lines = max(len(column) for column in panels)
        size = (11, lines * (most * _BAR_INCHES + 0.45) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(lines, len(panels), squeeze=False)
        for x, column in enumerate(panels):
            for y in range(lines):
                if y < len(column):
                    _draw_panel(grid[y][x], *column[y])
                else:
                    grid[y][x].set_axis_off()
        figure.suptitle(
            f"tokens/s, median of {document['rounds']} rounds: longer is faster\n{document['machine']}",
            fontsize=9,
        )
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})


Bars = Sequence[tuple[str, float, bool]]
"""Name, tokens a second and whether it is a peer, the fastest first."""


def _panels(document: Mapping[str, Any]) -> list[list[tuple[str, Bars]]]:
    """A column for each kind of figure that was measured, with a titled panel for each length."""
    columns = []
    for key, title in KINDS:
        lengths = sorted({int(n) for row in document["rows"] for n, f in row["medians"].items() if key in f})
        column = []
        for length in lengths:
            bars = [
                (row["name"], row["medians"][str(length)][key], row["is_peer"])
                for row in document["rows"]
                if key in row["medians"].get(str(length), {})
            ]
            column.append((f"{title} {length:,} tokens", sorted(bars, key=lambda bar: -bar[1])))
        if column:
            columns.append(column)
    return columns


def _draw_panel(axes: Any, title: str, bars: Bars) -> None:
    places = range(len(bars))
    colours = [_PEER if is_peer else _OURS for _, _, is_peer in bars]
    drawn = axes.barh(places, [value for _, value, _ in bars], 0.75, color=colours)
    axes.bar_label(drawn, [f"{value:,.0f}" for _, value, _ in bars], padding=2)
    axes.set_yticks(places, [name for name, _, _ in bars])
    for label, (_, _, is_peer) in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_fontweight("normal" if is_peer else "bold")
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=9)
    axes.margins(x=0.12, y=0.02)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


@click.command()
@click.argument("figures", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", default=Path("docs/peers.svg"), show_default=True, type=click.Path(path_type=Path))
def main(figures: Path, out: Path) -> None:
    """Draws the figures of one run of peers.py."""
    draw(json.loads(figures.read_text(encoding="utf-8")), out)


if __name__ == "__main__":
    main()
