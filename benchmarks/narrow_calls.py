"""Calls of the model for each token, and speed, of every way to draft on narrow tasks and in open chat.

    python benchmarks/narrow_calls.py BUNDLE [--recipe w8-round-exact] [--forced] [--tokens 64] [--json FILE]

Tasks: `narrow_tasks.py`, with people, places and values that were not learnt from (`values`), and with topics
and forms that were not (`topics`); forms and JSON of `draft_tasks.json`, which are of another make
(`others`); and its open chat. Answers are greedy. `--forced`: each drafter alone drafts whatever it can,
worth it or not, and only calls are counted. Else drafts are as for users (`--draft lookup|trained|streams|
auto`), all ways answer each task in turn, and decode speed is that over plain decoding, from the first token
to the last: medians over tasks, by wall time and by processor time of the thread that runs the model.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
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

_FORCED = ("lookup, chains", "lookup, trees", "trained", "streams")


def tasks(each: int) -> dict[str, list[str]]:
    """What is asked, by group, so many of each."""
    groups = {
        "values": [text for _, text in apart(each, "learnt")],
        "topics": [text for _, text in apart(each, "apart", seed=2)],
    }
    others = [task.prompt for task in read_tasks(["form", "json"])]
    chat = [task.prompt for task in read_tasks(["chat"])]
    return groups | {"others": others[:: max(1, len(others) // each)][:each], "chat": chat[:each]}


def forced(model: Model) -> Iterator[tuple[str, Model]]:
    """The model with each drafter that drafts all it can."""
    for name, make in drafters(model, [], (), None):
        if name in _FORCED:
            source = DraftSource(make(), make, model.decoder.vocab_size)
            yield name, Model(model.bundle, model.backend, model.receipt, drafts=source)
            source.close()


def as_users(model: Model, threads: int, closing: ExitStack) -> dict[str, Model]:
    """The model with each kind of drafts that its bundle has."""
    variant, steps = model.bundle.variant(model.receipt.variant), steps_of(model.backend)
    names = ["lookup"]
    names += ["trained"] if has_trained_draft(variant, steps) else []
    names += ["streams"] if has_streams(variant, steps) else []
    found = {"plain": model}
    for name in [*names, "auto"]:
        found[name], source, _ = with_drafter(model, name, threads)
        closing.callback(source.close)
    return found


def count_calls(model: Model, groups: dict[str, list[str]], tokens: int) -> dict[str, dict[str, float]]:
    """Calls for each token, by group."""
    found = {}
    for group, prompts in groups.items():
        answers = [
            model.generate(
                model.render_prompt(prompt), max_tokens=tokens, temperature=0.0, repetition_penalty=1.0
            )
            for prompt in prompts
        ]
        calls, made = sum(each.steps for each in answers), sum(len(each.tokens) for each in answers)
        found[group] = {"calls": calls / made, "tokens": made}
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
                taken[name].append(
                    (answer.steps, count, wall / max(count - 1, 1), cpu / max(count - 1, 1), same)
                )
        for name, each in taken.items():
            ratios = [
                [plain[at] / one[at] for plain, one in zip(taken["plain"], each, strict=True)]
                for at in (2, 3)
            ]
            found[name][group] = {
                "calls": sum(one[0] for one in each) / sum(one[1] for one in each),
                "wall": statistics.median(ratios[0]),
                "cpu": statistics.median(ratios[1]),
                "least cpu": min(ratios[1]),
                "same": sum(one[4] for one in each),
                "of": len(each),
            }
    return found


def show(name: str, found: dict[str, dict[str, float]]) -> None:
    """Prints one way."""
    groups = (
        f"{group}: " + " ".join(f"{key} {value:.3g}" for key, value in figures.items())
        for group, figures in found.items()
    )
    click.echo(f"{name:14} " + " | ".join(groups))


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", default="w8-round-exact", show_default=True)
@click.option("--forced", "alone", is_flag=True, help="Each drafter alone, worth it or not; calls only.")
@click.option("--each", default=6, show_default=True, help="Tasks of a group.")
@click.option("--tokens", default=64, show_default=True, help="Most tokens of an answer.")
@click.option("--threads", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(
    bundle: Path, recipe: str, alone: bool, each: int, tokens: int, threads: int, json_path: Path | None
) -> None:
    """Compares ways to draft on BUNDLE."""
    groups = tasks(each)
    found: dict[str, dict[str, dict[str, float]]] = {}
    with ExitStack() as closing:
        model = closing.enter_context(edgesdk.load(bundle, recipe=recipe, threads=threads, strict=True))
        if alone:
            for name, drafted in forced(model):
                found[name] = count_calls(drafted, groups, tokens)
                show(name, found[name])
        else:
            models = as_users(model, threads, closing)
            decode(model, model.render_prompt("Hello"), 16)  # builds what is built with first use
            found = time_all(models, groups, tokens)
            for name, figures in found.items():
                show(name, figures)
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
