"""What drafts bring: answers with and without, in turn, on tasks that copy and on open questions.

    python benchmarks/drafts.py BUNDLE [--recipe w8] [--draft auto] [--tokens 160] [--rounds 3] [--json FILE]

The tasks are `draft_tasks.json`: summaries with quotations, edits of code and text, forms, JSON of a text,
the same JSON under a schema, and open chat; by name (`--kinds summary,code,german`) also those of
`draft_training_tasks.json`. Answers are greedy. Both models share one backend, so that
nothing but drafts differs, and each task's answers are made in turn, the order changing with every round.
Earlier answers are not looked up in: each task is asked several times.

With `--peer PYTHON MODEL.gguf`, the interpreter of an environment with llama-cpp-python, its prompt lookup
answers the same prompts straight afterwards, beside its own plain answers (tasks without schema).

The figure is decode speed, from the first token to the last: in wall time, and in processor time of the one
thread that runs the model (`--threads 1`), which other work on the machine changes less. An answer of each
kind counts once: medians over tasks of the best ratio of rounds would flatter, so it is the median over tasks
of medians over rounds.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Collection
from pathlib import Path

import click
from contender import Contender

import edgesdk
from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.open_drafter import RunningVariant, open_drafter
from edgesdk.kv.step_model import steps_of
from edgesdk.model import Model

TASKS = Path(__file__).parent / "draft_tasks.json"
TRAINING_TASKS = Path(__file__).parent / "draft_training_tasks.json"
COPYING = ("quotes", "edit", "form", "json")
SCHEMA = "schema"


@dataclasses.dataclass
class Task:
    """What is asked.

    Attributes:
        kind: of the task.
        prompt: of the user.
        json_schema: that the answer must follow, if any.
    """

    kind: str
    prompt: str
    json_schema: dict[str, JsonValue] | None = None


@dataclasses.dataclass
class TaskResult:
    """One task.

    Attributes:
        kind: of the task.
        prompt_tokens: of the prompt.
        tokens: of the answer.
        same: whether both answers are the same.
        wall_ratios: decode speed with drafts over that without, by round.
        cpu_ratios: the same by processor time.
        steps: steps of the model with drafts.
        plain_steps: without; fewer than tokens where a grammar forces some.
        drafted: tokens drafted.
        kept: of these those that the answer has.
        peer: decode speed of llama.cpp with its lookup over that without, and its plain speed over ours.
    """

    kind: str
    prompt_tokens: int
    tokens: int
    same: bool
    wall_ratios: list[float]
    cpu_ratios: list[float]
    steps: int
    plain_steps: int
    drafted: int
    kept: int
    peer: dict[str, float] | None = None


def read_tasks(kinds: Collection[str]) -> list[Task]:
    """The tasks of some kinds, or of all of `TASKS` where none is named; those of JSON once more with their
    schemas.
    """
    found = json.loads(TASKS.read_text(encoding="utf-8"))
    schemas = found.pop("schemas of json")
    tasks = [Task(kind, prompt) for kind, prompts in found.items() for prompt in prompts]
    tasks += [Task(SCHEMA, *each) for each in zip(found["json"], schemas, strict=True)]
    others: dict[str, list[str]] = json.loads(TRAINING_TASKS.read_text(encoding="utf-8"))
    named = [kind for kind in others if kind in kinds and kind not in found]
    tasks += [Task(kind, prompt) for kind in named for prompt in others[kind]]
    return [task for task in tasks if not kinds or task.kind in kinds]


def decode(
    model: Model, ids: list[int], tokens: int, schema: dict[str, JsonValue] | None = None
) -> tuple[edgesdk.Completion, float, float]:
    """An answer, and the seconds after its first token: of the clock, and of this thread's processor."""
    wall = cpu = 0.0
    completion = None
    for chunk in model.stream(
        ids, max_tokens=tokens, temperature=0.0, repetition_penalty=1.0, json_schema=schema
    ):
        if not wall:
            wall, cpu = time.perf_counter(), time.thread_time()
        completion = chunk.completion
    assert completion is not None
    return completion, time.perf_counter() - wall, time.thread_time() - cpu


def ask_peer(peer: Contender, ids: list[int], tokens: int, ours_s: float) -> dict[str, float]:
    """The figures of `TaskResult.peer`.

    Args:
        peer: llama.cpp.
        ids: the prompt.
        tokens: most of an answer.
        ours_s: our plain processor time of a token.
    """
    found = peer.ask({"prompt": ids, "new": tokens})
    plain, count = found["plain"], max(1, found["plain"]["tokens"] - 1)
    figures = {"peer's plain speed": ours_s * count / plain["cpu_s"]}
    for way, each in found.items():
        if way != "plain":
            share = max(1, each["tokens"] - 1) / count
            for kind in ("wall", "cpu"):
                figures[f"peer's {way}, {kind}"] = share * plain[f"{kind}_s"] / each[f"{kind}_s"]
    return figures


def run_task(
    task: Task, plain: Model, drafted: Model, tokens: int, rounds: int, peer: Contender | None
) -> TaskResult | None:
    """Answers one task in turn; None where the answer is too short to say anything."""
    ids = plain.render_prompt(task.prompt)
    walls, cpus, plain_cpus = [], [], []
    answers: dict[str, edgesdk.Completion] = {}
    for turn in range(rounds):
        order = [("plain", plain), ("drafted", drafted)]
        taken = {}
        for name, model in order if turn % 2 == 0 else order[::-1]:
            answers[name], wall, cpu = decode(model, ids, tokens, task.json_schema)
            count = len(answers[name].tokens) - 1
            if count < 8:
                return None
            taken[name] = wall / count, cpu / count
        walls.append(taken["plain"][0] / taken["drafted"][0])
        cpus.append(taken["plain"][1] / taken["drafted"][1])
        plain_cpus.append(taken["plain"][1])
    found = answers["drafted"]
    return TaskResult(
        task.kind,
        len(ids),
        len(found.tokens),
        found.tokens == answers["plain"].tokens,
        walls,
        cpus,
        found.steps,
        answers["plain"].steps,
        found.drafted_tokens,
        found.kept_tokens,
        None if peer is None or task.json_schema else ask_peer(peer, ids, tokens, min(plain_cpus)),
    )


def summarise(results: list[TaskResult]) -> dict[str, dict[str, float]]:
    """Figures of each kind, and of all that copy."""
    kinds = dict.fromkeys(result.kind for result in results)
    groups = {kind: [result for result in results if result.kind == kind] for kind in kinds}
    groups["all that copy"] = [result for result in results if result.kind in COPYING]
    return {
        name: {
            "tasks": len(group),
            "wall": statistics.median(statistics.median(r.wall_ratios) for r in group),
            "cpu": statistics.median(statistics.median(r.cpu_ratios) for r in group),
            "least cpu": min(statistics.median(r.cpu_ratios) for r in group),
            "steps": sum(r.steps for r in group) / sum(r.plain_steps for r in group),
            "tokens per step": sum(r.tokens for r in group) / sum(r.steps for r in group),
            "kept of drafted": sum(r.kept for r in group) / max(1, sum(r.drafted for r in group)),
            "drafted share": sum(r.kept for r in group) / sum(r.tokens for r in group),
            "same": sum(r.same for r in group),
            **peer_medians([r.peer for r in group if r.peer is not None]),
        }
        for name, group in groups.items()
        if group
    }


def peer_medians(found: list[dict[str, float]]) -> dict[str, float]:
    """Medians of `TaskResult.peer`; nothing without a peer."""
    return {name: statistics.median(each[name] for each in found) for name in (found[0] if found else ())}


def with_drafter(plain: Model, draft: str, threads: int) -> tuple[Model, DraftSource, CombinedDrafter]:
    """The same model on the same backend with drafts; what closes them, and what makes them.

    Raises:
        click.UsageError: there are none.
    """
    running = RunningVariant(
        plain.bundle,
        plain.bundle.variant(plain.receipt.variant),
        plain.receipt.backend,
        "cpu",
        threads,
        steps_of(plain.backend),
    )
    drafter = open_drafter(draft, running, remember=False)
    if drafter is None:
        raise click.UsageError("--draft off leaves nothing to measure")
    source = DraftSource(drafter, lambda: drafter, plain.decoder.vocab_size)
    return Model(plain.bundle, plain.backend, plain.receipt, drafts=source), source, drafter


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", default=None, help="Only variants of this recipe.")
@click.option("--draft", default="auto", show_default=True, help="As for `edgesdk run`.")
@click.option("--tokens", default=160, show_default=True, help="Most tokens of an answer.")
@click.option("--rounds", default=3, show_default=True, help="Answers of each task, each way.")
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--kinds", default=None, help="Only these kinds of tasks, with commas between.")
@click.option(
    "--peer",
    nargs=2,
    type=click.Path(exists=True, path_type=Path),
    help="Python with llama-cpp-python, and a GGUF file of the same model.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(
    bundle: Path,
    recipe: str | None,
    draft: str,
    tokens: int,
    rounds: int,
    threads: int,
    kinds: str | None,
    peer: tuple[Path, Path] | None,
    json_path: Path | None,
) -> None:
    """Measures drafts on BUNDLE."""
    tasks = read_tasks(() if kinds is None else kinds.split(","))
    with edgesdk.load(bundle, recipe=recipe, threads=threads, strict=True) as plain:
        click.echo(str(plain.receipt))
        drafted, source, drafter = with_drafter(plain, draft, threads)
        decode(plain, plain.render_prompt("Hello"), 16)  # builds what is built with first use
        results = []
        other = None
        if peer is not None:
            settings = {"model": str(peer[1]), "threads": threads, "context": plain.context}
            other = Contender("llama.cpp", "llamacpp_lookup_worker.py", settings, python=peer[0])
        for task in tasks:
            found = run_task(task, plain, drafted, tokens, rounds, other)
            if found is None:
                continue
            results.append(found)
            cpu, wall = (statistics.median(each) for each in (found.cpu_ratios, found.wall_ratios))
            click.echo(
                f"{task.kind:8} {found.tokens:4} tokens {found.steps:4} of {found.plain_steps:4} steps  "
                f"kept {found.kept:4} of {found.drafted:4}  cpu {cpu:5.2f}  wall {wall:5.2f}  "
                f"{'same' if found.same else 'OTHER'}"
                + (
                    ""
                    if found.peer is None
                    else "  peer " + " ".join(f"{x:.2f}" for x in found.peer.values())
                )
            )
        if other is not None:
            other.close()
        report_costs(drafter)
        summary = summarise(results)
        for name, figures in summary.items():
            click.echo(f"{name:14} " + "  ".join(f"{key} {value:.3g}" for key, value in figures.items()))
        if json_path is not None:
            document = {"summary": summary, "tasks": [dataclasses.asdict(r) for r in results]}
            json_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        source.close()


def report_costs(drafter: CombinedDrafter) -> None:
    """What steps cost, as the drafter has learned it."""
    costs = drafter.costs
    click.echo("v(T) as seen: " + ", ".join(f"{size}: {costs.ratio(size):.2f}" for size in (1, 2, 4, 8, 16)))
    click.echo(f"about {drafter.figures.saved_s:.1f} s saved")


if __name__ == "__main__":
    main()
