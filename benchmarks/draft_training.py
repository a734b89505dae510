"""Losses compared: one draft for each loss and seed on the same states of the target, at equal budget.

    python benchmarks/draft_training.py SOURCE BUNDLE FEATURES [--losses ce,kld,tvd,tvd++,kld-tvd++]
        [--seeds 3] [--steps 400] [--width 512] [--words 4096] [--numbers float32] [--work DIR]
        [--json FILE] [--plot FILE.svg]

FEATURES is `OUT/work/features` of a training (`edgesdk train draft`). Each draft learns for the same number
of steps from the same windows in an order of its seed's own, and is judged as `draft_worth.py` does: block
efficiency by task and number of drafted tokens, the mean over seeds and the least and largest. `ce` is
pretraining: the text's own tokens, and nothing of the target's distribution. Seeds go round the losses, and
figures are written after each draft; what FILE has already, with the same options, is not trained
again.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import get_args

import click
import numpy as np

from edgesdk.bundle.write_file import write_file
from edgesdk_converters.training.choose_words import choose_words
from edgesdk_converters.training.draft_batches import WINDOW, DraftBatches
from edgesdk_converters.training.draft_learner import DraftLearner, freeze
from edgesdk_converters.training.features import open_features
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.products import Numbers
from edgesdk_converters.training.recurrent_draft import DraftShape
from edgesdk_converters.training.trainer import Trainer, TrainOptions

from draft_worth import DEPTH, answer_tasks, open_target, task_features, worth_by_task  # isort: skip

Figures = dict[str, dict[str, list[tuple[float, ...]]]]
"""Loss, task, and for each seed the efficiency with 1, 2, .. drafted tokens."""


def draw(figures: Figures, path: Path) -> None:
    """Efficiency against drafted tokens, a panel for each task."""
    from matplotlib.figure import Figure

    tasks = list(next(iter(figures.values())))
    figure = Figure(figsize=(3 * len(tasks), 3.2), layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        for loss, found in figures.items():
            rows = np.array(found[task])
            axes.errorbar(
                range(1, DEPTH + 1),
                rows.mean(axis=0),
                yerr=[rows.mean(axis=0) - rows.min(axis=0), rows.max(axis=0) - rows.mean(axis=0)],
                label=loss,
            )
        axes.set_title(task)
        axes.set_xlabel("drafted tokens")
    panels[0].set_ylabel("tokens a step")
    panels[-1].legend()
    write_file(path, lambda draft: figure.savefig(draft, format="svg", metadata={"Date": None}))


def read_figures(path: Path | None, options: dict[str, object]) -> Figures:
    """What an earlier run has found; nothing without one.

    Raises:
        click.ClickException: it had other options.
    """
    if path is None or not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["options"] != options:
        raise click.ClickException(f"{path} has figures for {found['options']}, not {options}")
    figures: Figures = found["figures"]
    return figures


@click.command()
@click.argument("source")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("states", metavar="FEATURES", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--losses", default="ce,kld,tvd,tvd++,kld-tvd++", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--steps", default=400, show_default=True)
@click.option("--width", default=512, show_default=True)
@click.option("--words", default=4096, show_default=True)
@click.option("--depth", default=3, show_default=True)
@click.option("--windows", default=8, show_default=True)
@click.option("--numbers", type=click.Choice(get_args(Numbers)), default="float32", show_default=True)
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=Path("draft_worth"))
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path))
def main(
    source: str,
    bundle: Path,
    states: Path,
    losses: str,
    seeds: int,
    steps: int,
    width: int,
    words: int,
    depth: int,
    windows: int,
    numbers: Numbers,
    work: Path,
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Trains drafts for the checkpoint SOURCE on FEATURES, judges them on answers of BUNDLE."""
    work.mkdir(parents=True, exist_ok=True)
    program = open_target(source)
    answers = answer_tasks(bundle, work / "answers.jsonl", 128)
    judged = task_features(program, answers, work / "features")
    kinds = [answer.kind for answer in answers]
    features = open_features(states)
    spec = program.spec
    said = (features.tokens[s + first : s + n] for s, n, first in features.bounds.tolist())
    frozen = freeze(program, choose_words(said, (), spec.vocab_size, words))
    learning = DraftShape(spec.hidden_size, width, 1, spec.norm_eps, numbers)
    judging = DraftShape(spec.hidden_size, width, 1, spec.norm_eps)
    passes = steps * windows / DraftBatches(features, depth, 1, 0).of_a_pass
    click.echo(f"{steps} steps of {windows} windows of {WINDOW} tokens: {passes:.2f} passes")
    options = {"steps": steps, "width": width, "words": words, "depth": depth, "windows": windows}
    options |= {"numbers": numbers, "positions": len(features.tokens)}
    figures = read_figures(json_path, options)
    for seed, name in itertools.product(range(seeds), losses.split(",")):
        if all(len(rows) > seed for rows in figures.get(name, {"none": []}).values()):
            continue
        learner = DraftLearner(
            learning, frozen, DraftBatches(features, depth, windows, seed), find_loss(name), seed
        )
        with tempfile.TemporaryDirectory() as folder:
            trained = Trainer(learner, TrainOptions(steps, seed=seed), Path(folder), {}).run()
        found = worth_by_task(judging, trained, frozen, judged, kinds)
        line = "  ".join(f"{kind} {worth.efficiency[2]:.3f}" for kind, worth in found.items())
        click.echo(f"{name:14} seed {seed}  tokens a step with 3 drafted: {line}")
        for kind, worth in found.items():
            figures.setdefault(name, {}).setdefault(kind, []).append(worth.efficiency)
        if json_path is not None:
            write_file(json_path, json.dumps({"options": options, "figures": figures}, indent=1) + "\n")
    if plot is not None:
        draw(figures, plot)
    show(figures)


def show(figures: Figures) -> None:
    """Prints means, and how far seeds lie apart."""
    for name, tasks in figures.items():
        for kind, rows in tasks.items():
            means = " ".join(f"{mean:.3f}" for mean in np.mean(rows, axis=0))
            spread = np.ptp(np.array(rows)[:, 2])
            click.echo(f"{name:14} {kind:10} 1 to {DEPTH} drafted: {means}  (spread over seeds {spread:.3f})")


if __name__ == "__main__":
    main()
