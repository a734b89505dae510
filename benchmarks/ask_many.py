"""Many questions on one text: whether branches are calls, what they save, and what is recalled.

    python benchmarks/ask_many.py BUNDLE PART [--recipe w8-round] [--json FILE]

Parts are `identity`: answers of mode fork against `Model.generate` on the same prompts; a first difference
where the two tokens' logits, scored alone, differ by less than 0.001 is a near-tie. `speed`: fork against
eight calls of the model's, in turn, on a meeting of about 1,900 tokens: wall and processor time, prompt
tokens, cells. `sharing`: a step of branches that share a text's cells against one of a single sequence, and
against branches of which each has cells of its own. `format`: how often the modes that ask for a list get
one, by the number of questions. `recall`: planted facts of generated meetings, by mode, questions in order
and permuted; one line of JSON a meeting in --json, which is read again, so that a long run can be taken up.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from meetings import Meeting, make_meeting

import edgesdk
from edgesdk.evaluation.greedy import NEAR_TIE
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.ask_options import INSTRUCTION

GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0}
LONG, SHORT = 138, 24
"""Lines of a meeting: about 1,900 and 340 tokens."""

MODES = ("single", "fork", "paper", "constrained")


def prompts_of(model: edgesdk.Model, meeting: Meeting) -> list[list[int]]:
    """The prompts of separate calls, which are those of the branches."""
    writer = PromptWriter(model)
    return [writer.write(INSTRUCTION, meeting.text, f"Question: {f.question}").ids for f in meeting.facts]


def identity(model: edgesdk.Model, meetings: int, tokens: int) -> dict[str, object]:
    """How many answers are the same, and what the model thought where they part."""
    same = near = 0
    gaps, total = [], 0
    options = {**GREEDY, "max_tokens": tokens, "ignore_eos": True}
    for seed in range(meetings):
        meeting = make_meeting(seed, SHORT)
        prompts = prompts_of(model, meeting)
        alone = [model.generate(prompt, **options) for prompt in prompts]
        forked = forked_tokens(model, prompts, options)
        for prompt, a, b in zip(prompts, alone, forked, strict=True):
            total += 1
            at = next((i for i, (x, y) in enumerate(zip(a.tokens, b, strict=True)) if x != y), None)
            if at is None:
                same += 1
                continue
            row = model.score(np.array([*prompt, *a.tokens[:at]], np.int32))[-1]
            gap = float(abs(row[a.tokens[at]] - row[b[at]]))
            near += gap < NEAR_TIE
            gaps.append(gap)
        print(f"meeting {seed}: {same} of {total} identical, {near} near-ties", flush=True)
    return {
        "answers": total,
        "identical": same,
        "near_ties": near,
        "share": (same + near) / total,
        "median_gap": statistics.median(gaps) if gaps else None,
    }


def forked_tokens(
    model: edgesdk.Model, prompts: list[list[int]], options: dict[str, object]
) -> list[tuple[int, ...]]:
    """Tokens of branches that go on from one prefilled text, as `ask_many` has them."""
    from edgesdk.orchestration.prompt_writer import common_length

    shared = common_length(prompts)
    with edgesdk.Engine(model, token_budget=1 << 20) as engine, engine.session() as base:
        base.append(prompts[0][:shared])
        branches = [base.fork() for _ in prompts]
        running = [b.submit(p[shared:], **options) for b, p in zip(branches, prompts, strict=True)]
        return [generation.result().tokens for generation in running]


def clocked(act: Callable[[], object]) -> tuple[float, float, object]:
    """Wall and processor seconds of all threads, and what came of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = act()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def speed(model: edgesdk.Model, rounds: int, tokens: int) -> dict[str, object]:
    """Eight questions on a long meeting, as branches and as calls, in turn."""
    meeting = make_meeting(7, LONG)
    questions = [fact.question for fact in meeting.facts]
    prompts = prompts_of(model, meeting)
    options = {**GREEDY, "max_tokens": tokens, "ignore_eos": True}
    rows = []
    for round_ in range(rounds):
        fork = clocked(lambda: model.ask_many(meeting.text, questions, **options))
        calls = clocked(lambda: [model.generate(prompt, **options) for prompt in prompts])
        many = fork[2]
        rows.append(
            {"fork_s": fork[0], "calls_s": calls[0], "fork_cpu_s": fork[1], "calls_cpu_s": calls[1]}
            | {"wall_ratio": calls[0] / fork[0], "cpu_ratio": calls[1] / fork[1]}
        )
        print(f"round {round_}: {rows[-1]}", flush=True)
    share = many.prompt_tokens / many.prompt_tokens_apart
    return {
        "text_tokens": len(model.tokenizer.encode(meeting.text)),
        "questions": len(questions),
        "new_tokens_each": tokens,
        "wall_ratio": statistics.median(r["wall_ratio"] for r in rows),
        "cpu_ratio": statistics.median(r["cpu_ratio"] for r in rows),
        "prompt_tokens": many.prompt_tokens,
        "prompt_tokens_apart": many.prompt_tokens_apart,
        "prompt_share": share,
        "share_allowed": 1 / len(questions) + 0.02,
        "memory": memory(model, prompts, tokens),
        "rounds": rows,
    }


def memory(model: edgesdk.Model, prompts: list[list[int]], tokens: int) -> dict[str, float]:
    """Cells of all branches while they decode, against those of one sequence and of as many apart."""
    from edgesdk.orchestration.prompt_writer import common_length

    shared = common_length(prompts)
    with edgesdk.Engine(model, token_budget=1 << 20) as engine, engine.session() as base:
        base.append(prompts[0][:shared])
        branches = [base.fork() for _ in prompts]
        options = {**GREEDY, "max_tokens": tokens, "ignore_eos": True}
        running = [b.submit(p[shared:], **options) for b, p in zip(branches, prompts, strict=True)]
        for generation in running:
            generation.result()
        used = engine.metrics.cells_used
        each = engine.runner.pool.bytes_per_cell
    one = len(prompts[0]) + tokens
    return {
        "cells": used,
        "cells_of_one": one,
        "cells_apart": sum(len(prompt) + tokens for prompt in prompts),
        "mb": used * each / 1e6,
        "mb_apart": sum(len(prompt) + tokens for prompt in prompts) * each / 1e6,
        "over_one": used / one,
    }


def sharing(model: edgesdk.Model, rounds: int, text: int, branches: int) -> dict[str, object]:
    """Processor time of one step, by what it attends to; least and median of several, in turn.

    Each kind has a pool of its own, so that S is what it needs: a text that every sequence has a copy of
    takes as many times the cells.
    """
    few = min(text, model.context // (branches + 1))
    kinds = {
        f"one sequence, {text} tokens": (1, text, False),
        f"{branches} branches of one text, {text} tokens": (branches, text, False),
        f"one sequence, {few} tokens": (1, few, False),
        f"{branches} branches of one text, {few} tokens": (branches, few, False),
        f"{branches} sequences with a copy each, {few} tokens": (branches, few, True),
    }
    steps = {name: step_of(model, *kind) for name, kind in kinds.items()}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(step())
    table = {n: {"least_ms": min(t), "median_ms": statistics.median(t)} for n, t in found.items()}
    return {"branches": branches, "steps": table}


def step_of(model: edgesdk.Model, count: int, text: int, apart: bool) -> Callable[[], float]:
    """A function that runs one token of every sequence and returns processor milliseconds."""
    runner = StepRunner(model.backend.backend, model.decoder, model.context)
    ids = np.random.default_rng(0).integers(100, 40_000, text).astype(np.int32)

    def filled() -> CellList:
        cells = runner.new_list()
        for first in range(0, text, 128):
            runner.run([StepEntry(cells, ids[first : first + 128], "none")])
        return cells

    lists = [filled() for _ in range(count)] if apart else [filled()]
    lists += [lists[0].fork() for _ in range(count - len(lists))]

    def step() -> float:
        copies = [cells.fork() for cells in lists]
        began = time.process_time()
        runner.run([StepEntry(cells, ids[:1], "last") for cells in copies])
        took = time.process_time() - began
        for cells in copies:
            cells.close()
        return took * 1e3

    return step


def list_format(model: edgesdk.Model, meetings: int, tokens: int) -> dict[str, object]:
    """How often the first go gives a list of the right length."""
    found = {}
    for count in (1, 2, 4, 8):
        for mode in ("paper", "constrained"):
            kept = whole = items = 0
            for seed in range(meetings):
                meeting = make_meeting(seed, SHORT)
                questions = [fact.question for fact in meeting.facts[:count]]
                many = model.ask_many(meeting.text, questions, mode=mode, max_tokens=tokens, **GREEDY)
                kept += bool(many.list_kept)
                first = [answer.how == mode for answer in many.answers]
                whole += all(first)
                items += sum(first)
            found[f"{mode} {count}"] = {
                "list_kept": kept / meetings,
                "all_items": whole / meetings,
                "items": items / (meetings * count),
            }
            print(f"{mode}, {count} questions: {found[f'{mode} {count}']}", flush=True)
    return found


def recall(model: edgesdk.Model, meetings: int, tokens: int, path: Path | None) -> dict[str, object]:
    """Planted facts that come back, by mode; each meeting with its questions in order and permuted."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []
    done = {row["seed"] for row in rows}
    for seed in range(meetings):
        if seed in done:
            continue
        meeting = make_meeting(seed, SHORT)
        order = list(range(len(meeting.facts)))
        permuted = random.Random(seed).sample(order, len(order))
        row: dict[str, object] = {"seed": seed}
        for name, places in (("", order), (" permuted", permuted)):
            for mode in MODES:
                if name and mode == "single":
                    continue  # each question alone knows of no order
                facts = [meeting.facts[place] for place in places]
                asked = [fact.question for fact in facts]
                began = time.perf_counter()
                many = model.ask_many(meeting.text, asked, mode=mode, max_tokens=tokens, **GREEDY)
                texts = Counter(text.casefold() for text in many.texts)
                row[mode + name] = {
                    "recalled": [
                        f.key.casefold() in a.text.casefold()
                        for f, a in zip(facts, many.answers, strict=True)
                    ],
                    "first_go": [a.how != "alone" for a in many.answers],
                    "empty": sum(not a.text for a in many.answers),
                    "duplicates": sum(count - 1 for count in texts.values()),
                    "list_kept": many.list_kept,
                    "wall_s": time.perf_counter() - began,
                }
        rows.append(row)
        if path is not None:
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(f"meeting {seed} done", flush=True)
    return summary(rows)


def summary(rows: list[dict]) -> dict[str, object]:
    """Shares over all meetings; by place of the question, too."""
    found: dict[str, object] = {"meetings": len(rows)}
    for name in [key for key in rows[0] if key != "seed"]:
        each = [row[name] for row in rows]
        flat = [value for row in each for value in row["recalled"]]
        first = [value for row in each for value in row["first_go"]]
        given = [r for row in each for r, f in zip(row["recalled"], row["first_go"], strict=True) if f]
        found[name] = {
            "recall": statistics.mean(flat),
            "answered_in_the_first_go": statistics.mean(first),
            "recall_of_those": statistics.mean(given) if given else None,
            "recall_by_place": [
                round(statistics.mean(row["recalled"][i] for row in each), 2) for i in range(8)
            ],
            "empty": sum(row["empty"] for row in each),
            "duplicates": sum(row["duplicates"] for row in each),
            "lists_kept": sum(bool(row["list_kept"]) for row in each),
            "median_wall_s": statistics.median(row["wall_s"] for row in each),
        }
    return found


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.argument("part", type=click.Choice(["identity", "speed", "sharing", "format", "recall"]))
@click.option("--recipe", default=None)
@click.option("--backend", default="litert", show_default=True)
@click.option("--threads", type=int)
@click.option("--meetings", default=100, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--tokens", default=24, show_default=True, help="Most tokens of each answer.")
@click.option("--text", default=1800, show_default=True, help="Tokens of the text, for `sharing`.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    bundle: str,
    part: str,
    recipe: str | None,
    backend: str,
    threads: int | None,
    meetings: int,
    rounds: int,
    tokens: int,
    text: int,
    path: Path | None,
) -> None:
    """Measures one part."""
    with edgesdk.load(bundle, recipe=recipe, backend=backend, strict=True, threads=threads) as model:
        if part == "identity":
            found = identity(model, meetings, tokens)
        elif part == "speed":
            found = speed(model, rounds, tokens)
        elif part == "sharing":
            found = sharing(model, rounds, text, 8)
        elif part == "format":
            found = list_format(model, meetings, tokens)
        else:
            found = recall(model, meetings, tokens, path)
    print(json.dumps(found, indent=2))
    if path is not None and part != "recall":
        path.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
