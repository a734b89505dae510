"""Answers by their skeletons: what a plan saves, what its parts are worth, what a small model plans, a soak.

    python benchmarks/skeleton.py BUNDLE PART [--recipe w8-round] [--json FILE]

Parts are `bound`: a given plan of width 4 against the same nodes one after the other, at equal output, in
turn; the bound is L_total / (L_plan + critical path) / v(width), with v measured here as a step of so many
tokens over a step of one. `ablations`: plain / skeleton without edges / with edges / with edges and
difficulty (needs --hard), on given plans of questions whose last part needs the numbers of the others.
`pipelined`: nodes that start as their lines complete against nodes that wait for the whole plan. `plans`:
how many plans of a model keep the form, free and by grammar, and what they are. `soak`: minutes of random
plans with cancels, deadlines and failures; every cell is accounted for.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import numpy as np

import edgesdk
from edgesdk.engine.session import Session
from edgesdk.errors import DeviceError
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk.plans.read_plan import read_plan

GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0}
PARTS = ("bound", "ablations", "pipelined", "plans", "soak")

T = TypeVar("T")

QUESTION = "How do I plan a small vegetable garden for a family?"
WIDE = """\
1 | Which place does the garden need? | - | 2
2 | Which vegetables are easy to grow? | - | 2
3 | Which tools are needed? | - | 1
4 | When is each vegetable sown? | - | 3"""
DIAMOND = f"{WIDE}\n5 | What is the plan for the first year? | 1, 2, 3, 4 | 4"

QUESTIONS = (
    "What is the capital of France, and what can one see there?",
    "How do I make a cup of tea?",
    "Why is the sky blue, and why are sunsets red?",
    "How do I prepare for a job interview?",
    "What are the benefits of running?",
    "How does a bicycle stay upright?",
    "Compare cats and dogs as pets.",
    "How do I write a letter of complaint?",
    "What should I pack for a week in the mountains?",
    "How is bread baked at home?",
)


def clocked(act: Callable[..., T], *given: object, **options: object) -> tuple[float, float, T]:
    """Wall and processor seconds of all threads, and what came of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = act(*given, **options)
    return time.perf_counter() - wall, time.process_time() - cpu, found


def step_ratio(model: edgesdk.Model, width: int, text: int) -> float:
    """v(width): processor time of a step of so many branches over one of a single branch."""
    runner = StepRunner(model.backend.backend, model.decoder, model.context)
    ids = np.random.default_rng(0).integers(100, 40_000, text).astype(np.int32)
    base = runner.new_list()
    for first in range(0, text, 128):
        runner.run([StepEntry(base, ids[first : first + 128], "none")])
    times: dict[int, list[float]] = {1: [], width: []}
    for _ in range(12):
        for count, found in times.items():
            copies = [base.fork() for _ in range(count)]
            began = time.process_time()
            runner.run([StepEntry(cells, ids[:1], "last") for cells in copies])
            found.append(time.process_time() - began)
            for cells in copies:
                cells.close()
    base.close()
    runner.close()
    return statistics.median(times[width]) / statistics.median(times[1])


def bound(model: edgesdk.Model, rounds: int, tokens: int) -> dict[str, object]:
    """A plan of width 4 and the same nodes one after the other."""
    options = {**GREEDY, "max_tokens": tokens, "ignore_eos": True}
    found = {}
    for name, text in (("4 beside each other", WIDE), ("4, then 1", DIAMOND)):
        plan = read_plan(text)
        rows = []
        for _ in range(rounds):
            together = clocked(model.answer_by_skeleton, QUESTION, plan=plan, **options)
            apart = clocked(one_by_one, model, plan, options)
            same = [n.text for n in together[2].nodes] == apart[2]
            rows.append((apart[0] / together[0], apart[1] / together[1], same))
            print(
                f"{name}: wall {rows[-1][0]:.2f}, processor {rows[-1][1]:.2f}, same text {same}", flush=True
            )
        cost = {node.number: float(tokens) for node in plan.nodes}
        v = step_ratio(model, plan.width, 200)
        critical = plan.critical_path(cost)
        # In a chain after the wide part a step runs one branch, so v counts for the wide part alone.
        strict = sum(cost.values()) / critical / v
        fine = sum(cost.values()) / (tokens * v + critical - tokens)
        found[name] = {
            "v": v,
            "bound": strict,
            "bound_with_v_where_steps_are_wide": fine,
            "wall_ratio": statistics.median(r[0] for r in rows),
            "cpu_ratio": statistics.median(r[1] for r in rows),
            "share_of_bound": statistics.median(r[1] for r in rows) / strict,
            "same_texts": sum(r[2] for r in rows),
            "rounds": rounds,
        }
    return found


def one_by_one(model: edgesdk.Model, plan: edgesdk.Plan, options: dict[str, object]) -> list[str]:
    """The nodes' own prompts, each answered before the next begins, on one engine."""
    from edgesdk.orchestration.route import Route

    texts: dict[int, str] = {}
    with edgesdk.Engine(model, token_budget=1 << 20) as engine:
        route = Route(engine, QUESTION, edgesdk.SkeletonOptions().instruction, None)
        for node in plan.nodes:
            prompt = route.prompt(node, {parent: texts[parent] for parent in node.parents})
            texts[node.number] = route.submit(prompt, options).result().text.strip()
        route.close()
    return [texts[node.number] for node in plan.nodes]


def sums(seed: int) -> tuple[str, str, str]:
    """A question whose last node needs its parents' numbers, a plan of it, and the number."""
    rng = random.Random(seed)
    first, second = rng.randrange(11, 50), rng.randrange(11, 50)
    fruit, other = rng.sample(["apples", "pears", "plums", "lemons", "figs"], 2)
    question = (
        f"A box has {first} {fruit} and {second} {other}. How many {fruit} and how many {other} are there, "
        "and how many pieces of fruit together?"
    )
    plan = (
        f"1 | How many {fruit} are in the box? | - | 1\n2 | How many {other} are in the box? | - | 1\n"
        f"3 | How many pieces of fruit are that together? | 1, 2 | 5"
    )
    return question, plan, str(first + second)


def ablations(model: edgesdk.Model, hard: edgesdk.Model | None, count: int, tokens: int) -> dict[str, object]:
    """Answers that hold the number, and the time they took, by what of the method is used."""
    ways: dict[str, dict[str, object]] = {"no edges": {"edges": False}, "edges": {}}
    if hard is not None:
        ways["edges and difficulty"] = {"hard": hard, "hard_from": 4}
    hits: dict[str, list[bool]] = {"plain": [], **{name: [] for name in ways}}
    saw: dict[str, list[bool]] = {name: [] for name in ways}
    took: dict[str, list[float]] = {name: [] for name in hits}
    for seed in range(count):
        question, plan, number = sums(seed)
        wall, _, plain = clocked(
            model.chat, [{"role": "user", "content": question}], max_tokens=3 * tokens, **GREEDY
        )
        hits["plain"].append(number in plain.text)
        took["plain"].append(wall)
        for name, options in ways.items():
            wall, _, answer = clocked(
                model.answer_by_skeleton, question, plan=plan, max_tokens=tokens, **GREEDY, **options
            )
            hits[name].append(number in answer.nodes[-1].text)
            parents = [n.text for n in answer.nodes[:2]]
            saw[name].append(all(any(c.isdigit() for c in text) for text in parents))
            took[name].append(wall)
        print(f"{seed + 1} of {count}: { {name: sum(h) for name, h in hits.items()} }", flush=True)
    return {
        name: {
            "questions": count,
            "right": sum(hits[name]),
            "parents_with_numbers": sum(saw[name]) if name in saw else None,
            "median_wall_s": statistics.median(took[name]),
        }
        for name in hits
    }


def pipelined(model: edgesdk.Model, rounds: int, tokens: int) -> dict[str, object]:
    """The planner and the nodes at once, and one after the other, with the same plan and output."""
    options = {**GREEDY, "max_tokens": tokens, "ignore_eos": True}
    rows = []
    for question in QUESTIONS[:rounds]:
        at_once = clocked(model.answer_by_skeleton, question, **options)
        waiting = clocked(model.answer_by_skeleton, question, pipelined=False, **options)
        first = [min(n.first_s or 0.0 for n in a[2].nodes) for a in (at_once, waiting) if a[2].nodes]
        rows.append(
            {
                "nodes": len(at_once[2].nodes),
                "same_plan": at_once[2].plan == waiting[2].plan,
                "wall_ratio": waiting[0] / at_once[0],
                "cpu_ratio": waiting[1] / at_once[1],
                "first_token_s": first,
            }
        )
        print(rows[-1], flush=True)
    return {
        "wall_ratio": statistics.median(r["wall_ratio"] for r in rows),
        "cpu_ratio": statistics.median(r["cpu_ratio"] for r in rows),
        "same_plans": sum(r["same_plan"] for r in rows),
        "rounds": rows,
    }


def plans(model: edgesdk.Model, count: int) -> dict[str, object]:
    """What the model plans, by itself and by grammar."""
    found = {}
    for constrained in (False, True):
        kept, copies, edges, nodes, examples = 0, 0, 0, [], []
        for question in QUESTIONS[:count]:
            answer = model.answer_by_skeleton(
                question, constrained=constrained, most_nodes=6, max_tokens=1, pipelined=False, **GREEDY
            )
            examples.append({"question": question, "plan": answer.plan_text, "fallback": answer.fallback})
            if answer.plan is None:
                continue
            kept += 1
            tasks = [node.task for node in answer.plan.nodes]
            nodes.append(len(tasks))
            copies += len(tasks) - len(set(tasks)) + any(task.strip("?") in question for task in tasks)
            edges += any(node.parents for node in answer.plan.nodes)
        found["by grammar" if constrained else "free"] = {
            "questions": count,
            "kept_the_form": kept,
            "nodes": sum(nodes),
            "nodes_that_repeat_another_or_the_question": copies,
            "plans_with_edges": edges,
            "examples": examples,
        }
        print({k: v for k, v in found["by grammar" if constrained else "free"].items() if k != "examples"})
    return found


def random_plan(rng: random.Random) -> str:
    """A plan of up to 7 nodes."""
    lines = []
    for number in range(1, rng.randrange(1, 8) + 1):
        parents = rng.sample(range(1, number), min(number - 1, rng.randrange(3)))
        listed = ", ".join(map(str, sorted(parents))) or "-"
        lines.append(f"{number} | What about part {rng.randrange(100)}? | {listed} | {rng.randrange(1, 6)}")
    return "\n".join(lines)


def soak(model: edgesdk.Model, seconds: float, seed: int) -> dict[str, object]:
    """Random plans with cancels, deadlines and failing nodes, one after the other on one engine."""
    rng = random.Random(seed)
    outcome = {"plans": 0, "nodes": 0, "broken_nodes": 0, "closed_early": 0, "wrong": 0, "leaked_cells": 0}
    submit = Session.submit
    failing = {"next": False}

    def sometimes(self, prompt=(), **options):
        generation = submit(self, prompt, **options)
        if failing["next"]:
            failing["next"] = False
            generation.cancel()
            generation.fail(DeviceError("a fault of the soak's"))
        return generation

    Session.submit = sometimes  # type: ignore[method-assign]
    ends = time.monotonic() + seconds
    with (
        contextlib.ExitStack() as stack,
        edgesdk.Engine(model, token_budget=128, prefix_cache_mb=0, check_steps=True) as engine,
    ):
        stack.callback(lambda: setattr(Session, "submit", submit))
        while time.monotonic() < ends:
            calls = [rng.randrange(1, 60)]

            def stop(calls=calls) -> bool:
                calls[0] -= 1
                return calls[0] < 0

            kind = rng.choice(["whole", "cancel", "node deadline", "deadline", "fault", "close"])
            options: dict[str, object] = {"max_tokens": rng.randrange(4, 40), **GREEDY, "ignore_eos": True}
            options |= {"cancelled": stop} if kind == "cancel" else {}
            options |= {"node_deadline_s": rng.uniform(0.05, 1.0)} if kind == "node deadline" else {}
            options |= {"deadline_s": rng.uniform(0.05, 2.0)} if kind == "deadline" else {}
            failing["next"] = kind == "fault"
            plan = random_plan(rng)
            outcome["plans"] += 1
            chunks = engine.stream_by_skeleton("What is this about?", plan=plan, **options)
            if kind == "close":
                for _ in range(rng.randrange(1, 6)):
                    next(chunks, None)
                chunks.close()
                outcome["closed_early"] += 1
            else:
                answer = [*chunks][-1].answer
                broken = sum(node.error is not None for node in answer.nodes)
                outcome["nodes"] += len(answer.nodes)
                outcome["broken_nodes"] += broken
                outcome["wrong"] += kind == "whole" and broken > 0
                outcome["wrong"] += kind == "fault" and broken > 1
                outcome["wrong"] += len(answer.nodes) != len(read_plan(plan).nodes)
            failing["next"] = False
            engine.check()
            outcome["leaked_cells"] += engine.metrics.cells_used
    return outcome


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.argument("part", type=click.Choice(PARTS))
@click.option("--recipe", default=None)
@click.option("--backend", default="litert", show_default=True)
@click.option("--threads", type=int)
@click.option("--hard", type=click.Path(exists=True, file_okay=False), help="Another bundle, for ablations.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--count", default=10, show_default=True, help="Questions.")
@click.option("--tokens", default=32, show_default=True, help="Tokens of each node.")
@click.option("--seconds", default=300.0, show_default=True, help="Of the soak.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    bundle: str,
    part: str,
    recipe: str | None,
    backend: str,
    threads: int | None,
    hard: str | None,
    rounds: int,
    count: int,
    tokens: int,
    seconds: float,
    seed: int,
    path: Path | None,
) -> None:
    """Measures one part."""
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(
            edgesdk.load(bundle, recipe=recipe, backend=backend, strict=True, threads=threads)
        )
        second = None if hard is None else stack.enter_context(edgesdk.load(hard, threads=threads))
        if part == "bound":
            found = bound(model, rounds, tokens)
        elif part == "ablations":
            found = ablations(model, second, count, tokens)
        elif part == "pipelined":
            found = pipelined(model, rounds, tokens)
        elif part == "plans":
            found = plans(model, count)
        else:
            found = soak(model, seconds, seed)
    print(json.dumps(found, indent=2))
    if path is not None:
        path.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
