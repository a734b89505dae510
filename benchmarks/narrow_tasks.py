"""Narrow tasks, and a target's answers to them: forms, JSON and structured summaries of short messages.

    python benchmarks/narrow_tasks.py BUNDLE WORK [--tokens 60000]

BUNDLE answers instructions that are made from `narrow_tasks.json`, half of them greedily and half at 0.3, and
its answers lie in WORK as `edgesdk train streams|draft TARGET OUT --work WORK --tokens N` finds them. A run
that was ended goes on. `apart` gives tasks whose people, places, dates and values are in no instruction that
is learnt from (`values`), and whose topic and form are not, either (`topics`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgesdk.bundle.write_file import write_file
from edgesdk.engine.engine import Engine
from edgesdk_converters.training.seed_instructions import Instruction
from edgesdk_converters.training.teach_texts import TEMPERATURES, TOP_P, teach_texts

TASKS = Path(__file__).parent / "narrow_tasks.json"
KINDS = ("form", "json", "summary")
_HEATS = 2  # of TEMPERATURES, the coolest


def read_source() -> dict[str, Any]:
    """The lists that tasks are made of."""
    document: dict[str, Any] = json.loads(TASKS.read_text(encoding="utf-8"))
    return document


def make_task(
    document: Mapping[str, Any], random: np.random.Generator, values: str, topics: str
) -> tuple[str, str]:
    """A kind of task, and what is asked.

    Args:
        document: `read_source`.
        random: draws everything.
        values: `learnt` or `apart`, of people, places and values.
        topics: the same, of topics and forms.
    """

    def one(items: list[str]) -> str:
        return items[int(random.integers(len(items)))]

    topic = document["topics"][topics][one(sorted(document["topics"][topics]))]
    person, town = one(document["people"][values]), one(document["towns"][values])
    made = {
        "person": person,
        "town": town,
        "street": one(document["streets"][values]),
        "number": str(random.integers(2, 120)),
        "what": one(topic["what"]),
        "date": one(document["dates"][values]),
        "time": one(document["times"][values]),
        "time2": one(document["times"][values]),
        "count": str(random.integers(2, 20)),
        "phone": f"0{random.integers(100, 999)} {random.integers(100, 999)} {random.integers(1000, 9999)}",
        "mail": f"{person.lower().replace(' ', '.')}@example.org",
        "code": f"{random.integers(10, 99)}-{random.integers(1000, 9999)}",
        "pay": one(document["pay"][values]),
    }
    kind = one(list(KINDS))
    asked = one(document["ask"][kind])
    form = "\n".join(f"{field}:" for field in topic["form"])
    keys = ", ".join(topic["form"][:-1]) + " and " + topic["form"][-1]
    return kind, asked.format(text=topic["text"].format(**made), form=form, keys=keys)


def instructions(seed: int = 0) -> Iterator[Instruction]:
    """Instructions to learn from, without end."""
    document, random = read_source(), np.random.default_rng(seed)
    for number in itertools.count():
        # The place in TEMPERATURES is (number + turn) modulo their count.
        yield Instruction(*make_task(document, random, "learnt", "learnt"), number % _HEATS - number)


def apart(count: int, topics: str, seed: int = 1) -> list[tuple[str, str]]:
    """Tasks that are not learnt from: kind and text, of topics `learnt` or `apart`."""
    document, random = read_source(), np.random.default_rng(seed)
    return [make_task(document, random, "apart", topics) for _ in range(count)]


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--tokens", default=60_000, show_default=True, help="Of answers.")
@click.option("--threads", default=1, show_default=True)
def main(bundle: Path, work: Path, tokens: int, threads: int) -> None:
    """Has BUNDLE answer narrow tasks into WORK."""
    work.mkdir(parents=True, exist_ok=True)
    with Engine(bundle, threads=threads, max_running=12, tbt_target_ms=2000.0) as engine:
        about = {
            "written_by": bundle.name,
            "weights": engine.model.bundle.variant(engine.model.receipt.variant).numbers,
            "temperatures": list(TEMPERATURES[:_HEATS]),
            "top_p": TOP_P,
            "instructions_sha256": hashlib.sha256(TASKS.read_bytes()).hexdigest(),
        }
        write_file(work / "answers.json", json.dumps(about, indent=1) + "\n")
        path = work / "answers.jsonl"
        teach_texts(engine, instructions(), path, tokens, 128, lambda n: click.echo(f"{n} tokens"))


if __name__ == "__main__":
    main()
