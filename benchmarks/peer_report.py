"""What a comparison of peers found: rows, and tables that can go into a document as they are."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import click

TTFT_PROMPT = 512
"""Length of the prompt whose time to first token is shown, or else the longest that was measured."""


@dataclass
class Row:
    """One contender.

    Attributes:
        name: of the contender.
        is_peer: whether ratios are against it.
        reason: why there are no figures, or no more.
        version: of its library.
        file_bytes: weights on disk.
        peak_rss_bytes: most resident memory.
        loads: milliseconds to the first token of 32, by `cold` and `warm`.
        figures: rounds by prompt length and figure.
    """

    name: str
    is_peer: bool
    reason: str | None = None
    version: str | None = None
    file_bytes: int | None = None
    peak_rss_bytes: int | None = None
    loads: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, prompt: int, figures: dict[str, float]) -> None:
        """Counts a round."""
        for name, value in figures.items():
            self.figures.setdefault(prompt, {}).setdefault(name, []).append(value)

    def median(self, prompt: int, figure: str) -> float | None:
        """Over the rounds; None where it was not measured."""
        values = self.figures.get(prompt, {}).get(figure)
        return statistics.median(values) if values else None

    def roofline_share(self, prompt: int, bandwidth: float) -> float | None:
        """Of decoding: the time to read the weights' file once over the time of a token."""
        decode = self.median(prompt, "decode_tokens_per_s")
        return None if decode is None or not self.file_bytes else decode * self.file_bytes / bandwidth

    def as_json(self, bandwidth: float) -> dict[str, object]:
        """All of it, with medians and shares."""
        medians = {
            str(prompt): {name: statistics.median(values) for name, values in figures.items()}
            for prompt, figures in self.figures.items()
        }
        shares = {str(prompt): self.roofline_share(prompt, bandwidth) for prompt in self.figures}
        return {
            "name": self.name,
            "is_peer": self.is_peer,
            "reason": self.reason,
            "version": self.version,
            "file_bytes": self.file_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "load_to_first_token_ms": self.loads,
            "rounds": {str(prompt): figures for prompt, figures in self.figures.items()},
            "medians": medians,
            "roofline_share": shares,
        }


def show(rows: Sequence[Row], prefill: Sequence[int], decode: Sequence[int], bandwidth: float) -> None:
    """Prints three tables and the reasons of those without figures."""
    _show_rates(rows, prefill, "prefill_tokens_per_s", "prefill tokens/s")
    _show_rates(rows, decode, "decode_tokens_per_s", "decode tokens/s after", bandwidth)
    lengths = sorted({prompt for row in rows for prompt in row.figures})
    ttft = TTFT_PROMPT if TTFT_PROMPT in lengths else max(lengths, default=0)
    click.echo(
        f"| | first token of {ttft}, ms | load to first token of 32, cold, ms | warm, ms "
        "| peak MB | files MB |"
    )
    click.echo("|---|---|---|---|---|---|")
    for row in rows:
        cells = [
            _spread(row.figures.get(ttft, {}).get("ttft_ms", [])),
            _spread(row.loads.get("cold", [])),
            _spread(row.loads.get("warm", [])),
            _megabytes(row.peak_rss_bytes),
            _megabytes(row.file_bytes),
        ]
        click.echo(f"| {row.name} | {' | '.join(cells)} |")
    click.echo("")
    for row in rows:
        if row.reason is not None:
            click.echo(f"{row.name}: {row.reason}")


def _show_rates(
    rows: Sequence[Row], prompts: Sequence[int], figure: str, title: str, bandwidth: float | None = None
) -> None:
    """A table of one figure at several lengths, each with the ratio to the best peer."""
    heads, best = [], {}
    for prompt in prompts:
        heads += [f"{title} {prompt}", "ratio", *(["roofline"] if bandwidth else [])]
        best[prompt] = max(_known(row.median(prompt, figure) for row in rows if row.is_peer), default=None)
    click.echo(f"| | {' | '.join(heads)} |")
    click.echo("|---" * (len(heads) + 1) + "|")
    for row in rows:
        cells = []
        for prompt in prompts:
            middle, top = row.median(prompt, figure), best[prompt]
            cells.append(_spread(row.figures.get(prompt, {}).get(figure, [])))
            cells.append("-" if middle is None or not top else f"{middle / top:.2f}")
            if bandwidth:
                share = row.roofline_share(prompt, bandwidth)
                cells.append("-" if share is None else f"{share:.0%}")
        click.echo(f"| {row.name} | {' | '.join(cells)} |")
    click.echo("")


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def _megabytes(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.0f}"
