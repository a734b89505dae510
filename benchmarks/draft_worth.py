"""What trained drafts would bring, by task: block efficiency on greedy answers of the target.

    python benchmarks/draft_worth.py SOURCE BUNDLE DRAFT.. [--work DIR] [--tokens 128] [--json FILE]

The tasks are `draft_training_tasks.json`: chat, summaries, code, and German, which no draft of ours has
learnt. The target answers once (BUNDLE, greedy) and runs once over its answers (SOURCE in float32 under
jax); then each draft is judged: tokens that a step of the target gives with 1 to 5 drafted tokens, the share
of positions at which the first guesses are all right, and how likely a drawn token is kept. No time is
measured here; that is `drafts.py`. Answers and states stay in --work and are not made again.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
import jax.numpy as jnp
import numpy as np

from edgesdk.bundle.write_file import write_file
from edgesdk.engine.engine import Engine
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import DraftCheckpoint, read_draft
from edgesdk_converters.graph.program import Program
from edgesdk_converters.training.draft_learner import Frozen, freeze
from edgesdk_converters.training.features import Features, LearningText, collect_features
from edgesdk_converters.training.frozen_target import FrozenTarget
from edgesdk_converters.training.measure_draft import DraftWorth, measure_draft
from edgesdk_converters.training.recurrent_draft import DraftShape, Parameters
from edgesdk_converters.training.teach_texts import TaughtText, read_texts

TASKS = Path(__file__).parent / "draft_training_tasks.json"
DEPTH = 5
_TOKENS = 512


def open_target(source: str) -> Program:
    """The decoder of a checkpoint."""
    return read_program(open_checkpoint(source))


def answer_tasks(bundle: Path, path: Path, tokens: int) -> list[TaughtText]:
    """Greedy answers to all tasks, made once."""
    if path.exists():
        return read_texts(path)
    tasks: dict[str, list[str]] = json.loads(TASKS.read_text(encoding="utf-8"))
    asked = [(kind, prompt) for kind, prompts in tasks.items() for prompt in prompts]
    with Engine(bundle, threads=1, max_running=8) as engine:
        prompts = [engine.model.render_prompt(prompt) for _, prompt in asked]
        options = {"max_tokens": tokens, "temperature": 0.0, "repetition_penalty": 1.0}
        handed = [engine.submit(ids, block=True, **options) for ids in prompts]
        answers = [
            TaughtText(number, kind, list(ids), list(generation.result().tokens), 0.0, 0)
            for number, ((kind, _), ids, generation) in enumerate(zip(asked, prompts, handed, strict=True))
        ]
    write_file(path, "".join(json.dumps(dataclasses.asdict(answer)) + "\n" for answer in answers))
    return answers


def task_features(program: Program, answers: list[TaughtText], folder: Path) -> Features:
    """States of the target over its answers."""
    texts = [LearningText(np.array(a.prompt + a.answer, np.int32), len(a.prompt) - 1) for a in answers]
    return collect_features(FrozenTarget(program, _TOKENS), texts, folder, "tasks")


def worth_by_task(
    shape: DraftShape, parameters: Parameters, frozen: Frozen, features: Features, kinds: list[str]
) -> dict[str, DraftWorth]:
    """What a draft is worth on each kind of task."""
    return {
        kind: measure_draft(
            shape, parameters, frozen, features, [i for i, each in enumerate(kinds) if each == kind], DEPTH
        )
        for kind in dict.fromkeys(kinds)
    }


def show(name: str, found: dict[str, DraftWorth]) -> None:
    """Prints one draft."""
    click.echo(name)
    click.echo(
        f"  {'task':10} texts tokens | tokens a step, 1 to {DEPTH} drafted | all right | kept if drawn"
    )
    for kind, worth in found.items():
        figures = (worth.efficiency, worth.right, worth.kept)
        columns = " | ".join(" ".join(f"{each:.2f}" for each in figure) for figure in figures)
        click.echo(f"  {kind:10} {worth.texts:5} {worth.tokens:6} | {columns}")


def shape_of(draft: DraftCheckpoint) -> DraftShape:
    """Sizes of a draft that was read."""
    config = draft.config
    return DraftShape(config.hidden_size, config.width, config.layers, config.norm_eps)


@click.command()
@click.argument("source")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument(
    "drafts", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=Path("draft_worth"))
@click.option("--tokens", default=128, show_default=True, help="Most tokens of an answer.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(
    source: str, bundle: Path, drafts: tuple[Path, ...], work: Path, tokens: int, json_path: Path | None
) -> None:
    """Judges each of DRAFTS, trained for the checkpoint SOURCE, on answers of BUNDLE."""
    work.mkdir(parents=True, exist_ok=True)
    program = open_target(source)
    answers = answer_tasks(bundle, work / "answers.jsonl", tokens)
    features = task_features(program, answers, work / "features")
    kinds = [answer.kind for answer in answers]
    document = {}
    for folder in drafts:
        draft = read_draft(folder)
        parameters = {name: jnp.asarray(value) for name, value in draft.tensors.items()}
        found = worth_by_task(shape_of(draft), parameters, freeze(program, draft.vocabulary), features, kinds)
        show(str(folder), found)
        document[str(folder)] = {kind: dataclasses.asdict(worth) for kind, worth in found.items()}
    if json_path is not None:
        write_file(json_path, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
