"""Draws quality against bytes from the figures of benchmarks/quality.py.

    python benchmarks/plot_quality.py FIGURES.json [MORE.json] [--out docs/quality.svg]

Needs the extra `bench` (matplotlib, and adjustText for names that do not lie on each other). The same figures
give the same file, byte for byte, with one version of both. Of rows with one name, the last file's counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import click

DRAWN = {"edgesdk": ("o", "#1f5fa8"), "llama.cpp": ("s", "#b5521b")}
_LARGEST_RATIO = 2.0
"""Rows above are named below the plot: one ruined model would flatten all others."""


def read_rows(files: Sequence[Path], skip: Sequence[str]) -> list[dict]:
    """Rows of all files, smallest first.

    Args:
        files: as `quality.py --json` writes them.
        skip: recipes that are left out.

    Raises:
        click.ClickException: a file holds something else, or the files are of different texts.
    """
    rows, texts = {}, None
    for file in files:
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            found = {name: text["sha256"] for name, text in document["texts"].items()}
            rows |= {row["name"]: row for row in document["rows"] if row["recipe"] not in skip}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise click.ClickException(
                f"{file} does not hold the figures of quality.py ({error!r})"
            ) from error
        if texts not in (None, found):
            raise click.ClickException(
                f"{file} was measured on other texts than {files[0]}; measure it again"
            )
        texts = found
    if not rows:
        raise click.ClickException("there are no rows to draw")
    return sorted(rows.values(), key=lambda row: (row["weights_bytes"], row["name"]))


def draw(rows: Sequence[dict], out: Path) -> None:
    """Writes one panel for each text.

    Args:
        rows: from `read_rows`.
        out: an .svg file.
    """
    try:
        import adjustText  # noqa: F401
        import matplotlib
    except ImportError as error:
        raise click.ClickException(f"{error.name} is not installed: pip install 'edgesdk[bench]'") from error
    matplotlib.use("svg")
    # Text stays text, and ids do not depend on the moment.
    matplotlib.rcParams.update({"svg.hashsalt": "edgesdk", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    names = list(rows[0]["texts"])
    figure, panels = pyplot.subplots(1, len(names), figsize=(6.4 * len(names), 5), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        _draw_panel(panel, name, rows)
    figure.tight_layout()
    for panel, name in zip(panels[0], names, strict=True):
        _label(panel, name, rows)
    figure.savefig(out, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _draw_panel(panel, name: str, rows: Sequence[dict]) -> None:
    inside = [r for r in rows if _ratio(r, name) <= _LARGEST_RATIO]
    outside = [r for r in rows if _ratio(r, name) > _LARGEST_RATIO]
    for kind, (marker, colour) in DRAWN.items():
        mine = [r for r in inside if r["kind"] == kind]
        panel.errorbar(
            [r["weights_bytes"] / 1e6 for r in mine],
            [_ratio(r, name) for r in mine],
            yerr=[r["texts"][name]["ratio_error"] or 0 for r in mine],
            fmt=marker,
            color=colour,
            markersize=5,
            linewidth=1,
            label=kind,
        )
    panel.set_title(name)
    panel.set_xlabel("MB of weights (left is smaller)")
    panel.set_ylabel("perplexity, over that of float32 (lower is better)")
    panel.axhline(1, color="#888888", linewidth=0.6)
    panel.grid(True, linewidth=0.3)
    panel.margins(x=0.15, y=0.15)
    panel.legend(loc="upper right")
    if outside:
        named = ", ".join(f"{r['name']} {_ratio(r, name):.2f}" for r in outside)
        panel.text(0.02, 0.02, f"above: {named}", transform=panel.transAxes, fontsize=7)


def _label(panel, name: str, rows: Sequence[dict]) -> None:
    """Names every point, in its colour, where no other name or point is."""
    from adjustText import adjust_text

    rows = [row for row in rows if _ratio(row, name) <= _LARGEST_RATIO]
    if not rows:
        return
    places = [(row["weights_bytes"] / 1e6, _ratio(row, name)) for row in rows]
    texts = [
        panel.text(
            *place,
            row["name"].removeprefix("llama.cpp ").split(" (")[0],
            fontsize=7,
            color=DRAWN[row["kind"]][1],
        )
        for place, row in zip(places, rows, strict=True)
    ]
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5}
    x, y = zip(*places, strict=True)
    # A number of rounds, not a time, which would end elsewhere on another machine.
    adjust_text(texts, x, y, ax=panel, arrowprops=line, expand=(1.3, 2), iter_lim=500)


def _ratio(row: dict, name: str) -> float:
    ratio = row["texts"][name]["perplexity_ratio"]
    return ratio if math.isfinite(ratio) else math.inf


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", default=Path("docs/quality.svg"), show_default=True, type=click.Path(path_type=Path))
@click.option("--skip", default="f32,f16", show_default=True, help="recipes that are left out")
def main(files: tuple[Path, ...], out: Path, skip: str) -> None:
    """Draws perplexity ratio against bytes, one panel for each text."""
    draw(read_rows(files, skip.split(",")), out)


if __name__ == "__main__":
    main()
