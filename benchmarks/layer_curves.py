"""Perplexity against removed blocks, for every ranking, on text that no ranking has seen.

    python benchmarks/layer_curves.py SOURCE --json layer-curves.json [--plot docs/layer-curves.svg]

One run over a calibration sample scores all blocks; rankings by influence, by measured loss and greedy
come from it, and five random ones to compare with. Every stack is then measured in float32 on the texts of
benchmarks/texts.py. The JSON file is written after each measurement and read at the start, so a run that
was stopped goes on, and one that was finished only draws.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from texts import TEXTS, EvaluationText

from edgesdk.errors import EdgeError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.calibration_windows import calibration_windows
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.layers.budget import Judge
from edgesdk_converters.layers.rank_layers import LayerRanking, RankOptions, rank_layers, reorder
from edgesdk_converters.layers.trial import Text, text_losses
from edgesdk_converters.quantise.calibration.calibration_text import builtin_calibration
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import SkipRequest, parse_skip
from edgesdk_converters.vocabulary.tokenizer_data import load_engine

METHODS = ("influence", "loss", "greedy")
WHOLE = "none"
COLOURS = {"influence": "tab:blue", "loss": "tab:orange", "greedy": "tab:red"}


class Curves:
    """Rankings and measured stacks, kept in a file."""

    def __init__(self, path: Path, settings: dict[str, object]) -> None:
        """Reads what is there already.

        Raises:
            click.ClickException: the file was made with other settings.
        """
        self.path = path
        self.document: dict = {"settings": settings, "rankings": {}, "measured": {}}
        if path.exists():
            self.document = json.loads(path.read_text(encoding="utf-8"))
            if self.document.get("settings") != settings:
                raise click.ClickException(f"{path} was made with other settings; give another file")

    @property
    def rankings(self) -> dict[str, list[str]]:
        """Removals of each ranking, by its name."""
        return self.document["rankings"]

    def save(self) -> None:
        """Writes the file in one piece."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path)

    def ratio(self, request: str, text: str) -> float:
        """Perplexity over that of the whole stack."""
        measured = self.document["measured"]
        return math.exp(measured[request][text]["nats"] - measured[WHOLE][text]["nats"])

    def curve(self, name: str, text: str) -> list[float]:
        """Ratios of a ranking for 1, 2, ... removed blocks."""
        return [
            self.ratio(joined(self.rankings[name][: n + 1]), text) for n in range(len(self.rankings[name]))
        ]


def joined(removals: Sequence[str]) -> str:
    """Removals as one request."""
    return request_of(removals).describe() or WHOLE


def request_of(removals: Sequence[str]) -> SkipRequest:
    """What several removals take away together."""
    found = SkipRequest()
    for part in removals:
        found |= parse_skip(part)
    return found


def rank_all(program: Program, windows: Sequence[Text], remove: int, seeds: int) -> dict[str, LayerRanking]:
    """Every ranking, from one measurement of the blocks."""
    greedy = rank_layers(program, windows, RankOptions("greedy", remove), click.echo)
    found = {"greedy": greedy}
    for method in ("influence", "loss"):
        found[method] = reorder(program, greedy, method, remove=remove)
    for seed in range(seeds):
        found[f"random {seed}"] = reorder(program, greedy, "random", remove=remove, seed=seed)
    return found


def measure(program: Program, windows: dict[str, list[Text]]) -> dict[str, dict[str, float]]:
    """Mean nats of each text, and how many positions they are of."""
    figures = {}
    for name, texts in windows.items():
        losses = text_losses(program, texts)
        figures[name] = {"nats": float(losses.mean()), "positions": len(losses)}
    return figures


def fill(curves: Curves, program: Program, windows: dict[str, list[Text]]) -> None:
    """Measures every stack that the rankings name and the file lacks, shallow cuts first."""
    measured = curves.document["measured"]
    longest = max(len(removals) for removals in curves.rankings.values())
    for count in range(longest + 1):
        for name, removals in curves.rankings.items():
            request = request_of(removals[:count])
            key = joined(removals[:count])
            if key not in measured:
                measured[key] = measure(skip_layers(program, request), windows)
                curves.save()
                ratios = ", ".join(f"{text} {curves.ratio(key, text):.3f}" for text in windows)
                click.echo(f"{name}, {count} removed ({key}): {ratios}")


def check(curves: Curves, program: Program, windows: Sequence[Text], most: float) -> None:
    """Judges the greedy ranking as a budget search does, on sample text that it has not seen.

    Args:
        curves: with the ranking.
        program: the whole stack.
        windows: of the sample, not those that ranked.
        most: the largest budget; the first stack above it is the last one measured.
    """
    removals = tuple(curves.rankings["greedy"])
    ranking = LayerRanking("greedy", "block", 0, 0, 0, 0.0, (), removals)
    judge = Judge(program, ranking, (), windows)
    points = []
    for count in range(1, len(removals) + 1):
        point = judge.measure(count)[1]
        points.append({"ratio": point.perplexity_ratio, "upper": point.upper_ratio})
        if point.upper_ratio > most:
            break
    curves.document["checked"] = points
    curves.save()


def show_budgets(curves: Curves, names: Sequence[str], budgets: Sequence[float]) -> None:
    """Prints how many blocks a search takes out within each budget, and what that costs held-out text."""
    click.echo(f"\n| budget | removed | sample, at most (95 %) | {' | '.join(names)} |")
    click.echo("|---" * (len(names) + 3) + "|")
    points = curves.document["checked"]
    for budget in budgets:
        # The search stops at the first stack above its budget.
        count = next((i for i, p in enumerate(points) if p["upper"] > budget), len(points))
        if not count:
            click.echo(
                f"| {budget:g} | refused | {points[0]['upper']:.3f} | {' | '.join('-' for _ in names)} |"
            )
            continue
        removals = curves.rankings["greedy"][:count]
        ratios = [f"{curves.ratio(joined(removals), text):.3f}" for text in names]
        cells = [f"{budget:g}", joined(removals), f"{points[count - 1]['upper']:.3f}", *ratios]
        click.echo(f"| {' | '.join(cells)} |")


def show(curves: Curves, names: Sequence[str]) -> None:
    """Prints a table that can go into a document as it is."""
    for text in names:
        random = [curves.curve(name, text) for name in curves.rankings if name.startswith("random")]
        click.echo(f"\n{text}\n| removed | {' | '.join(METHODS)} | random, median (least to most) |")
        click.echo("|---" * (len(METHODS) + 2) + "|")
        for n in range(len(curves.rankings["greedy"])):
            ratios = [f"{curves.curve(method, text)[n]:.2f}" for method in METHODS]
            drawn = [curve[n] for curve in random]
            spread = f"{statistics.median(drawn):.2f} ({min(drawn):.2f} to {max(drawn):.2f})"
            click.echo(f"| {n + 1} | {' | '.join(ratios)} | {spread} |")


def draw(curves: Curves, names: Sequence[str], path: Path) -> None:
    """Writes an SVG file with one panel for each text.

    Raises:
        click.ClickException: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise click.ClickException("matplotlib is not installed; pip install matplotlib") from error
    with matplotlib.rc_context({"svg.hashsalt": "edgesdk", "svg.fonttype": "none", "font.size": 9}):
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter, ScalarFormatter

        figure = Figure(figsize=(4.6 * len(names), 3.6), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, text in zip(panels, names, strict=True):
            random = np.array([curves.curve(n, text) for n in curves.rankings if n.startswith("random")])
            counts = range(1, random.shape[1] + 1)
            panel.fill_between(counts, random.min(0), random.max(0), color="#999999", alpha=0.3, linewidth=0)
            middle = np.median(random, axis=0)
            panel.plot(counts, middle, color="#777777", label=f"random, {len(random)} seeds")
            for method in METHODS:
                panel.plot(
                    counts, curves.curve(method, text), marker="o", label=method, color=COLOURS[method]
                )
            panel.set(title=text, xlabel="blocks removed", yscale="log")
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.set_yticks([1, 1.5, 2, 3, 5, 10, 20, 50, 100])
            panel.set_ylim(1, 1.1 * float(random.max()))
            panel.grid(True, linewidth=0.3)
        panels[0].set_ylabel("perplexity, over the whole stack's")
        panels[0].legend(loc="upper left", frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def held_out(
    checkpoint: Checkpoint, texts: dict[str, EvaluationText], tokens: int, window: int
) -> dict[str, list[Text]]:
    """Windows of every text in the model's own tokens."""
    engine, record = load_engine(checkpoint.tokenizer.tokenizer_json), checkpoint.tokenizer.record
    start = [record.bos_id] if record.add_bos and record.bos_id is not None else []
    return {
        name: text.windows(lambda s: engine.encode(s, add_special_tokens=False).ids, tokens, window, start)
        for name, text in texts.items()
    }


@click.command()
@click.argument("source")
@click.option("--json", "json_file", required=True, type=click.Path(path_type=Path), help="figures")
@click.option("--plot", type=click.Path(path_type=Path), help="draw into this .svg file")
@click.option("--remove", default=8, show_default=True, help="blocks to remove, one after the other")
@click.option("--seeds", default=5, show_default=True, help="random rankings")
@click.option("--rank-tokens", default=2048, show_default=True, help="calibration tokens to rank on")
@click.option("--tokens", default=1024, show_default=True, help="scored positions of each text, about")
@click.option("--window", default=256, show_default=True, help="tokens that are scored together")
@click.option("--budgets", default="1.05,1.1,1.2,1.3,1.5", show_default=True, help="perplexity ratios")
def main(
    source: str,
    json_file: Path,
    plot: Path | None,
    remove: int,
    seeds: int,
    rank_tokens: int,
    tokens: int,
    window: int,
    budgets: str,
) -> None:
    """Prints perplexity ratios for 1, 2, ... removed blocks by each ranking."""
    try:
        checkpoint, sample = open_checkpoint(source), builtin_calibration()
        spec = read_spec(checkpoint.config)
        weights = ResidentWeights(weights_for(checkpoint, spec))
        program = Program(spec, build_decoder(spec), weights)
        texts = {name: make() for name, make in TEXTS.items()}
        windows = held_out(checkpoint, texts, tokens, window)
        settings: dict[str, object] = {
            "source": {"location": checkpoint.source.location, "sha256": _digest(checkpoint)},
            "ranked_on": {"name": sample.name, "sha256": sample.sha256, "tokens": rank_tokens},
            "texts": {name: {"origin": t.origin, "sha256": t.sha256} for name, t in texts.items()},
            "remove": remove,
            "seeds": seeds,
            "positions": {name: sum(len(w) - 1 for w in found) for name, found in windows.items()},
        }
        curves = Curves(json_file, settings)
        if not curves.rankings:
            ranked = rank_all(
                program, calibration_windows(checkpoint, sample, window, rank_tokens), remove, seeds
            )
            curves.rankings.update({name: list(found.removals) for name, found in ranked.items()})
            curves.save()
        fill(curves, program, windows)
        limits = sorted(float(budget) for budget in budgets.split(","))
        if "checked" not in curves.document:
            # As much again of the sample as the ranking has seen.
            more = calibration_windows(checkpoint, sample, window, 2 * rank_tokens)[rank_tokens // window :]
            check(curves, program, more, limits[-1])
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    show(curves, list(texts))
    show_budgets(curves, list(texts), limits)
    if plot is not None:
        draw(curves, list(texts), plot)


def _digest(checkpoint: Checkpoint) -> str:
    digests = "".join(file.sha256 for file in checkpoint.source.files)
    return hashlib.sha256(digests.encode()).hexdigest()


if __name__ == "__main__":
    main()
