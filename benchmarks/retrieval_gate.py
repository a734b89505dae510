"""When to search: gates and a trained judge on facts about countries, split by country.

    pip install countryinfo && python benchmarks/retrieval_gate.py BUNDLE [--countries N] [--rewritten N]
    [--json]

Three questions about each country (capital, continent, what its people are called) and a note that answers
them. Two thirds of the countries train a judge (`edgesdk train judge`), the rest is reported: how well each
figure tells what the model knows (AUROC, with 95 % of 2,000 bootstraps over countries), and what comes of
never searching, always searching, and asking each gate, by the share of questions answered rightly and of
searches done. A gate's threshold is the one of most right answers on the training countries. BUNDLE wants
`convert --hidden-states`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import edgesdk
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.allowance import Allowance
from edgesdk.retrieval.gate_desk import COARSE, GateDesk
from edgesdk.retrieval.gate_options import GateOptions
from edgesdk.retrieval.head_judge import HeadJudge
from edgesdk.retrieval.judge_file import read_judge
from edgesdk.retrieval.judges import AskJudge
from edgesdk_converters.training.train_judge import Fact, recall, train_judge

_BOOTSTRAPS = 2000


@dataclass
class Row:
    fact: Fact
    known: bool
    always: bool
    scores: dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--countries", type=int, default=150)
    parser.add_argument("--rewritten", type=int, default=0, help="questions also answered with the rewriter")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    facts, notes = _facts(asked.countries)
    things = sorted({fact.about for fact in facts})
    cut = len(things) * 2 // 3
    learnt = set(random.Random(1).sample(things, cut))
    train = [fact for fact in facts if fact.about in learnt]
    test = [fact for fact in facts if fact.about not in learnt]
    with tempfile.TemporaryDirectory() as folder:
        judge = Path(folder) / "judge.json"
        began = time.perf_counter()
        report = train_judge(asked.bundle, train, judge)
        took = time.perf_counter() - began
        by_question = Path(folder) / "question.json"
        train_judge(asked.bundle, train, by_question, reads="question")
        texts = Path(folder) / "notes"
        texts.mkdir()
        for about, note in notes.items():
            (texts / f"{about}.txt").write_text(note, encoding="utf-8")
        with edgesdk.load(asked.bundle) as model, edgesdk.make_index(Path(folder) / "index") as index:
            index.add([texts])
            heads = [HeadJudge(read_judge(path), 0.5) for path in (judge, by_question)]
            seen = _rows(model, index, heads, train)
            rows = _rows(model, index, heads, test)
            figures = {
                "questions": {"train": len(train), "test": len(test)},
                "judge": {"seconds": took, "auroc_held_back": report.auroc},
                "never": _share(rows, lambda _: True),
                "always": _share(rows, lambda _: False),
                "gates": {name: _gate(name, seen, rows) for name in rows[0].scores},
            }
            if asked.rewritten:
                figures["with_rewriter"] = _rewritten(model, index, test[: asked.rewritten])
    print(json.dumps(figures, indent=None if asked.json else 1))
    return 0


def _facts(count: int) -> tuple[list[Fact], dict[str, str]]:
    from countryinfo import all_countries

    facts: list[Fact] = []
    notes: dict[str, str] = {}
    for country in all_countries():
        try:
            name, capital = country.name().title(), country.capital()
            region, part, people = country.region(), country.subregion(), country.demonym()
        except Exception:  # noqa: BLE001 - the package raises whatever for what it lacks
            continue
        if not all(isinstance(each, str) and each for each in (name, capital, region, part, people)):
            continue
        facts += [
            Fact(f"What is the capital of {name}?", (capital,), name),
            Fact(f"On which continent is {name}?", ("america" if "merica" in region else region,), name),
            Fact(f"What are people from {name} called?", (people,), name),
        ]
        notes[name.replace("/", " ")] = (
            f"The capital of {name} is {capital}. {name} lies in {part}, on the continent {region}. "
            f"People from {name} are called {people}."
        )
        if len(notes) == count:
            break
    return facts, notes


def _rows(
    model: edgesdk.Model, index: edgesdk.TextIndex, heads: Sequence[HeadJudge], facts: Sequence[Fact]
) -> list[Row]:
    rows = []
    with edgesdk.Engine(model) as engine:
        desk = GateDesk(engine, PromptWriter(model), GateOptions(), Allowance(None, None))
        for fact in facts:
            said = desk.write(COARSE, f"Question: {fact.question}", max_tokens=64)
            belief = desk.belief(fact.question, said.tokens)
            judged = [
                each.judge(desk, fact.question, said.text.strip(), said.tokens).score or 0.0
                for each in (AskJudge(0.5), *heads)
            ]
            scores = {
                "logprob": belief.mean_logprob,
                "entropy": -belief.mean_entropy,
                "flare": belief.least,
                "length": -float(belief.tokens),
                "ask": judged[0],
                "head": judged[1],
                "question": judged[2],
            }
            found = edgesdk.answer_with_sources(
                engine, index, fact.question, gate="always", rewrite=False, files=3, passages=3, max_tokens=48
            )
            known = recall(said.text, fact.answers) > 0.5
            rows.append(Row(fact, known, recall(found.text, fact.answers) > 0.5, scores))
    return rows


def _share(rows: Sequence[Row], knows: Callable[[Row], bool]) -> dict[str, float]:
    right = [row.known if knows(row) else row.always for row in rows]
    return {"right": float(np.mean(right)), "searches": float(np.mean([not knows(row) for row in rows]))}


def _gate(name: str, seen: Sequence[Row], rows: Sequence[Row]) -> dict[str, object]:
    limits = [-np.inf, *sorted(row.scores[name] for row in seen), np.inf]
    best = max(limits, key=lambda x: (_share(seen, lambda row: row.scores[name] >= x)["right"], x))
    return {
        "auroc": _auroc(rows, name),
        "interval": _interval(rows, name),
        "best": _share(rows, lambda row: row.scores[name] >= best),
    }


def _auroc(rows: Sequence[Row], name: str) -> float:
    return float(roc_auc_score([row.known for row in rows], [row.scores[name] for row in rows]))


def _interval(rows: Sequence[Row], name: str) -> list[float]:
    things = sorted({row.fact.about for row in rows})
    by_thing = {thing: [row for row in rows if row.fact.about == thing] for thing in things}
    chance = random.Random(0)
    found = []
    while len(found) < _BOOTSTRAPS:
        drawn = [row for thing in chance.choices(things, k=len(things)) for row in by_thing[thing]]
        if len({row.known for row in drawn}) == 2:
            found.append(_auroc(drawn, name))
    return [float(x) for x in np.percentile(found, [2.5, 97.5])]


def _rewritten(model: edgesdk.Model, index: edgesdk.TextIndex, facts: Sequence[Fact]) -> dict[str, object]:
    figures: dict[str, object] = {}
    for name, options in (
        ("without", {"rewrite": False}),
        ("queries and all claims", {"filter_claims": False}),
        ("claims filtered by entropy", {"threshold": -1.0, "gate": "entropy"}),
    ):
        stages: dict[str, list[float]] = {}
        right, searches = [], []
        for fact in facts:
            asked = {"gate": "always", "files": 3, "passages": 3, "max_tokens": 48, **options}
            found = edgesdk.answer_with_sources(model, index, fact.question, **asked)
            right.append(recall(found.text, fact.answers) > 0.5)
            searches.append(len(found.queries))
            for stage in found.stages:
                stages.setdefault(stage.name, []).append(stage.seconds)
        figures[name] = {
            "right": float(np.mean(right)),
            "queries": float(np.mean(searches)),
            "median_ms": {stage: 1e3 * float(np.median(times)) for stage, times in stages.items()},
        }
    return figures


if __name__ == "__main__":
    sys.exit(main())
