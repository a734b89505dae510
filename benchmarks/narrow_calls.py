"""Calls of the model for each token, and speed, of every way to draft on narrow tasks and in open chat.

    python benchmarks/narrow_calls.py BUNDLE [--recipe w8-round-exact] [--each 6] [--tokens 64] [--json FILE]

Tasks: `narrow_tasks.py`, with people, places and values that were not learnt from (`values`), and with topics
and forms that were not (`topics`); forms and JSON of `draft_tasks.json`, which are of another make
(`others`); and its open chat. Answers are greedy. Drafts are as for users (`--draft lookup|trained|streams|
auto`), and beside them streams and the trained draft alone, drafting whatever they can, worth it or not
(`all of`). All ways answer each task in turn, the order changing with every task. Decode speed is that over
plain decoding, from the first token to the last: medians over tasks, by wall time and by processor time of
the thread that runs the model.
"""

from __future__ import annotations

import json
import statistics
from contextlib import ExitStack
from pathlib import Path

import click
from draft_identity import drafters
from drafts import decode, read_tasks, with_drafter
from narrow_tasks import apart

import edgesdk
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.open_streams import has_streams
from edgesdk.drafts.trained_draft import has_trained_draft
from edgesdk.kv.step_model import steps_of
from edgesdk.model import Model

_FORCED = ("trained", "streams")


def tasks(each: int) -> dict[str, list[str]]:
    """What is asked, by group, so many of each."""
    groups = {
        "values": [text for _, text in apart(each, "learnt")],
        "topics": [text for _, text in apart(each, "apart", seed=2)],
    }
    others = [task.prompt for task in read_tasks(["form", "json"])]
    chat = [task.prompt for task in read_tasks(["chat"])]
    return groups | {"others": others[:: max(1, len(others) // each)][:each], "chat": chat[:each]}


def ways(model: Model, threads: int, closing: ExitStack) -> dict[str, Model]:
    """The model with each kind of drafts that its bundle has."""
    variant, steps = model.bundle.variant(model.receipt.variant), steps_of(model.backend)
    names = ["lookup"]
    names += ["trained"] if has_trained_draft(variant, steps) else []
    names += ["streams"] if has_streams(variant, steps) else []
    found = {"plain": model}
    for name in [*names, "auto"]:
        found[name], source, _ = with_drafter(model, name, threads)
        closing.callback(source.close)
    for name, make in drafters(model, [], (), None):
        if name in _FORCED:
            source = DraftSource(make(), make, model.decoder.vocab_size)
            closing.callback(source.close)
            found[f"all of {name}"] = Model(model.bundle, model.backend, model.receipt, drafts=source)
    return found


def time_all(
    models: dict[str, Model], groups: dict[str, list[str]], tokens: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Calls for each token and decode speed over plain decoding, by way and group; same answers, counted."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in models}
    for group, prompts in groups.items():
        taken: dict[str, list[tuple[int, int, float, float, bool]]] = {name: [] for name in models}
        for number, prompt in enumerate(prompts):
            ids = models["plain"].render_prompt(prompt)
            order = list(models)[number % len(models) :] + list(models)[: number % len(models)]
            answers = {name: decode(models[name], ids, tokens) for name in order}
            for name, (answer, wall, cpu) in answers.items():
                same = answer.tokens == answers["plain"][0].tokens
                count = len(answer.tokens)
                each = max(count - 1, 1)
                taken[name].append((answer.steps, count, wall / each, cpu / each, same))
        for name, rows in taken.items():
            pairs = list(zip(taken["plain"], rows, strict=True))
            found[name][group] = {
                "calls": sum(row[0] for row in rows) / sum(row[1] for row in rows),
                "tokens": sum(row[1] for row in rows),
                "ms": 1000 * statistics.median(row[2] for row in rows),
                "wall": statistics.median(plain[2] / row[2] for plain, row in pairs),
                "cpu": statistics.median(plain[3] / row[3] for plain, row in pairs),
                "same": sum(row[4] for row in rows),
                "of": len(rows),
            }
            figures = " ".join(f"{key} {value:.3g}" for key, value in found[name][group].items())
            click.echo(f"{group:7} {name:14} {figures}")
    return found


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", default="w8-round-exact", show_default=True)
@click.option("--each", default=6, show_default=True, help="Tasks of a group.")
@click.option("--tokens", default=64, show_default=True, help="Most tokens of an answer.")
@click.option("--threads", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(bundle: Path, recipe: str, each: int, tokens: int, threads: int, json_path: Path | None) -> None:
    """Compares ways to draft on BUNDLE."""
    with ExitStack() as closing:
        model = closing.enter_context(edgesdk.load(bundle, recipe=recipe, threads=threads, strict=True))
        models = ways(model, threads, closing)
        decode(model, model.render_prompt("Hello"), 16)  # builds what is built with first use
        found = time_all(models, tasks(each), tokens)
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
