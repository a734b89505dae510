"""When to search: gates, a trained judge and their ablations on facts about countries, split by country.

    pip install countryinfo && python benchmarks/retrieval_gate.py BUNDLE --kept FILE [--minutes M]
    [--countries N] [--larger BUNDLE] [--json]

Three questions about each country (capital, continent, what its people are called) and a note that answers
them. Two thirds of the countries train judges, as `edgesdk train judge` does, the rest is reported: how well
each figure tells what the model knows (AUROC, and the trained judge's lead over it, with 95 % of 2,000
bootstraps over countries), and what comes of never searching, always searching, and asking each gate, by the
share of questions answered rightly and of searches done. A gate's threshold is the one of most right answers
on the training countries; a judge's figures there are of folds that it did not learn from. Then the whole
pipeline with the trained judge, without its gate, its rewriter, its claim filter; and the processor time of
each stage, with what a larger model that takes four times as long would save (simulated), or the one given
(measured). One thread. BUNDLE wants `convert --hidden-states`. It goes on where it was: what is said is kept
in FILE, and a call ends after M minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from gate_runs import Kept, Said, answer_all, country_facts, say_all
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

import edgesdk
from edgesdk.retrieval.head_judge import chance_known, model_numbers
from edgesdk.retrieval.judge_file import JudgeFile, Reads, write_judge
from edgesdk_converters.training.train_judge import fit_judge

_BOOTSTRAPS = 2000
_SLOWER = 4
_PAIRS = 20
_GATES = ("head", "question", "flare", "entropy", "ask", "logprob", "length")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kept", type=Path, help="file of what was said already")
    parser.add_argument("--minutes", type=float, default=15, help="after which a call ends")
    parser.add_argument("--countries", type=int, default=60)
    parser.add_argument("--ablated", type=int, help="questions that the pipeline is run on; all unless given")
    parser.add_argument("--larger", type=Path, help="a larger bundle, for a pair that is measured")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    facts, notes = country_facts(asked.countries)
    things = sorted({fact.about for fact in facts})
    learnt = set(random.Random(1).sample(things, len(things) * 2 // 3))
    kept = Kept(asked.kept, asked.minutes)
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "notes"
        texts.mkdir()
        for about, note in notes.items():
            (texts / f"{about}.txt").write_text(note, encoding="utf-8")
        with (
            edgesdk.load(asked.bundle, threads=1) as model,
            edgesdk.make_index(Path(folder) / "index") as index,
        ):
            index.add([texts])
            said = say_all(model, index, facts, kept, f"{asked.countries} countries")
            if kept.missing:
                return _more(kept)
            seen = [each for each in said if each.fact.about in learnt]
            rows = [each for each in said if each.fact.about not in learnt]
            judge = _judged(seen, rows, model_numbers(model))
            figures = _tables(seen, rows)
            path = Path(folder) / "judge.json"
            write_judge(path, judge)
            limit = figures["gates"]["head"]["threshold"]
            gated = {"gate": "head", "judge": path, "threshold": limit}
            name = f"{len(facts)} {judge.bias} {limit}"
            asked_again = random.Random(2).sample(rows, min(asked.ablated or len(rows), len(rows)))
            runs = _ablations(model, index, asked_again, kept, name, gated)
            if asked.larger is not None and not kept.missing:
                with edgesdk.load(asked.larger, threads=1) as larger:
                    figures["pair"] = _pair(model, index, asked_again, kept, name, gated, larger)
    if kept.missing:
        return _more(kept)
    figures["ablations"] = {
        "questions": len(asked_again),
        "never": _share(asked_again, lambda _: True),
        "without gate and rewriter": _share(asked_again, lambda _: False),
        "without rewriter": _share(asked_again, lambda row: row.scores["head"] >= limit),
        **{name: _share_of(*answered, asked_again, limit) for name, answered in runs.items()},
    }
    figures["ms"] = _times(rows, runs["gated"][0], limit)
    print(json.dumps(figures, indent=None if asked.json else 1))
    return 0


def _more(kept: Kept) -> int:
    print(f"the time is over, {kept.missing} questions are to be asked; call it again", file=sys.stderr)
    return 3


def _judged(seen: Sequence[Said], rows: Sequence[Said], numbers: str) -> JudgeFile:
    """Gives every question the scores of judges that did not learn from it; the judge of all answers seen."""
    groups = np.array([sorted({s.fact.about for s in seen}).index(s.fact.about) for s in seen])
    for reads in ("question", "answer"):
        name = "head" if reads == "answer" else "question"
        whole = _fitted(seen, groups, numbers, reads)
        for each in rows:
            each.scores[name] = chance_known(whole, np.array(getattr(each, reads)))
        for learn, held in GroupKFold(4).split(groups, groups=groups):
            part = _fitted([seen[i] for i in learn], groups[learn], numbers, reads)
            for i in held:
                seen[i].scores[name] = chance_known(part, np.array(getattr(seen[i], reads)))
    return whole


def _fitted(said: Sequence[Said], groups: np.ndarray, numbers: str, reads: Reads) -> JudgeFile:
    """A judge of these; one group in four is held back, as the command does."""
    features = np.array([getattr(each, reads) for each in said])
    known = np.array([each.known for each in said])
    places = {group: i for i, group in enumerate(dict.fromkeys(groups.tolist()))}
    back = np.array([places[group] % 4 == 0 for group in groups.tolist()])
    judge, _ = fit_judge(features, known, groups, back, numbers, reads)
    return judge


def _tables(seen: Sequence[Said], rows: Sequence[Said]) -> dict[str, dict]:
    drawn = _drawn(rows)
    areas = {name: np.array([_auroc(each, name) for each in drawn]) for name in _GATES}
    always = _share(rows, lambda _: False)
    return {
        "questions": {
            "train": len(seen),
            "test": len(rows),
            "known": float(np.mean([r.known for r in rows])),
        },
        "never": _share(rows, lambda _: True),
        "always": always,
        "gates": {
            name: {
                "auroc": _auroc(rows, name),
                "interval": _middle(areas[name]),
                "head_leads_by": _auroc(rows, "head") - _auroc(rows, name),
                "lead_interval": _middle(areas["head"] - areas[name]),
                **_gate(name, seen, rows, drawn),
            }
            for name in _GATES
        },
    }


def _drawn(rows: Sequence[Said]) -> list[list[Said]]:
    """Bootstraps over countries, in each of which something is known and something is not."""
    things = sorted({row.fact.about for row in rows})
    by_thing = {thing: [row for row in rows if row.fact.about == thing] for thing in things}
    chance = random.Random(0)
    found: list[list[Said]] = []
    while len(found) < _BOOTSTRAPS:
        drawn = [row for thing in chance.choices(things, k=len(things)) for row in by_thing[thing]]
        if len({row.known for row in drawn}) == 2:
            found.append(drawn)
    return found


def _auroc(rows: Sequence[Said], name: str) -> float:
    return float(roc_auc_score([row.known for row in rows], [row.scores[name] for row in rows]))


def _middle(figures: np.ndarray) -> list[float]:
    return [float(x) for x in np.percentile(figures, [2.5, 97.5])]


def _share(rows: Sequence[Said], knows: Callable[[Said], bool]) -> dict[str, float]:
    right = [row.known if knows(row) else row.always for row in rows]
    return {"right": float(np.mean(right)), "searches": float(np.mean([not knows(row) for row in rows]))}


def _gate(
    name: str, seen: Sequence[Said], rows: Sequence[Said], drawn: Sequence[Sequence[Said]]
) -> dict[str, object]:
    limits = [-1e9, *sorted(row.scores[name] for row in seen), 1e9]
    limit = max(limits, key=lambda x: (_share(seen, lambda row: row.scores[name] >= x)["right"], x))

    def knows(row: Said) -> bool:
        return row.scores[name] >= limit

    leads = [
        np.mean([(row.known if knows(row) else row.always) - row.always for row in each]) for each in drawn
    ]
    return {"threshold": limit, **_share(rows, knows), "over_always_interval": _middle(np.array(leads))}


def _ablations(
    model: edgesdk.Model,
    index: edgesdk.TextIndex,
    rows: Sequence[Said],
    kept: Kept,
    name: str,
    gated: dict[str, object],
) -> dict[str, tuple[list[dict], str]]:
    """Answers of the whole pipeline, and of it without a part, with what says whether it searched."""
    unsure = [row.fact for row in rows if row.scores["head"] < gated["threshold"]]
    every = [row.fact for row in rows]
    return {
        "gated": (answer_all(model, index, unsure, kept, f"gated {name}", gated), "unsure"),
        "without claim filter": (
            answer_all(model, index, unsure, kept, f"all claims {name}", {**gated, "filter_claims": False}),
            "unsure",
        ),
        "without gate": (
            answer_all(model, index, every, kept, "always rewritten", {"gate": "always"}),
            "every",
        ),
    }


def _share_of(answers: Sequence[dict], rows: Sequence[Said], limit: float, searches: str) -> dict[str, float]:
    """Shares of all questions: what is known was not asked again, its answer is the model's own."""
    sure = [row for row in rows if row.scores["head"] >= limit and searches == "unsure"]
    right = [bool(each["right"]) for each in answers] + [row.known for row in sure]
    return {
        "right": float(np.mean(right)),
        "searches": len(answers) / len(rows),
        "queries_a_search": float(np.mean([each["queries"] for each in answers])),
        "claims": sum(each["claims"] for each in answers),
        "claims_known": sum(each["claims_known"] for each in answers),
    }


def _times(rows: Sequence[Said], gated: Sequence[dict], limit: float) -> dict[str, object]:
    """Processor time: medians of parts; means of whole questions, with one model and with a slower one."""
    parts = {name: float(np.median([row.ms[name] for row in rows])) for name in rows[0].ms if name != "gate"}
    for stage in ("rewrite", "claim", "search"):
        times = [each["ms"][stage] for each in gated if stage in each["ms"]]
        parts[f"{stage} (gated)"] = float(np.median(times)) if times else 0.0

    def mean(value: Callable[[Said], float]) -> float:
        return float(np.mean([value(row) for row in rows]))

    def found(row: Said, slower: int) -> float:
        return row.ms["search"] + row.ms["prompt"] + slower * row.ms["answer"]

    def told(name: str, slower: int) -> Callable[[Said], float]:
        # With a larger model it answers what is known as well, as long as the proxy did.
        def total(row: Said) -> float:
            own = row.ms["coarse answer"]
            asked = {"head": own + row.ms["head"], "question": row.ms["question"]}[name]
            known = (own if name == "question" else 0) if slower == 1 else slower * own
            return asked + (known if row.scores[name] >= limits[name] else found(row, slower))

        return total

    limits = {"head": limit, "question": 0.5}
    whole = {}
    for slower in (1, _SLOWER):
        whole[f"{slower} times"] = {
            "never": mean(lambda row, slower=slower: slower * row.ms["coarse answer"]),
            "always": mean(lambda row, slower=slower: found(row, slower)),
            "head": mean(told("head", slower)),
            "question at 0.5": mean(told("question", slower)),
        }
    return {"median of parts": parts, "mean of questions, without rewriter": whole}


def _pair(
    model: edgesdk.Model,
    index: edgesdk.TextIndex,
    rows: Sequence[Said],
    kept: Kept,
    name: str,
    gated: dict[str, object],
    larger: edgesdk.Model,
) -> dict[str, object]:
    """A proxy and a larger model that are both at hand, on some questions; without the rewriter."""
    facts = [row.fact for row in rows[:_PAIRS]]
    figures: dict[str, object] = {"questions": len(facts)}
    for what, options in (("never", {"gate": "never"}), ("always", {"gate": "always"}), ("head", gated)):
        # What needs no proxy is asked of the larger model alone.
        alone = what != "head"
        answers = answer_all(
            larger if alone else model,
            index,
            facts,
            kept,
            f"pair {what} {model_numbers(larger)} {name}",
            {"rewrite": False, **options},
            larger=None if alone else larger,
        )
        if len(answers) == len(facts):
            figures[what] = {
                "right": float(np.mean([each["right"] for each in answers])),
                "searches": float(np.mean([each["queries"] > 0 for each in answers])),
                "ms": float(np.mean([sum(each["ms"].values()) for each in answers])),
            }
    return figures


if __name__ == "__main__":
    sys.exit(main())
