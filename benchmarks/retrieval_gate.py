"""When to search: gates, a trained judge and their ablations on facts about countries, split by country.

    pip install countryinfo && python benchmarks/retrieval_gate.py BUNDLE --kept FILE [--minutes M]
    [--countries N] [--ablated N] [--larger BUNDLE] [--json]

Three questions about each country (capital, continent, what its people are called) and a note that answers
them. Every country is judged by a judge that learnt, as `edgesdk train judge` does, from others (four folds):
how well each figure tells what the model knows (AUROC, and the trained judge's lead over it, with 95 % of
2,000 bootstraps over countries), and what comes of never searching, always searching, and asking each gate,
by the share of questions answered rightly and of searches done. A gate's threshold is the one of most right
answers on the other countries; a judge's figures there are again of folds that it did not learn from. Then
the whole pipeline with the trained judge, without its gate, its rewriter, its claim filter; and the processor
time of each stage, with what a larger model that takes four times as long would save (simulated), or the one
given (measured). One thread. BUNDLE wants `convert --hidden-states`. What is said is kept in FILE; a call
ends after M minutes, and the next one goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from gate_runs import Kept, Said, answer, country_facts, say_all
from sklearn.model_selection import GroupKFold

import edgesdk
from edgesdk.retrieval.head_judge import chance_known, model_numbers
from edgesdk.retrieval.judge_file import JudgeFile, Reads, write_judge
from edgesdk_converters.training.train_judge import fit_judge

_BOOTSTRAPS = 2000
_SLOWER = 4
_PAIRS = 12
_FOLDS = 4
_GATES = ("head", "question", "flare", "entropy", "ask", "logprob", "length")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kept", type=Path, help="file of what was said already")
    parser.add_argument("--minutes", type=float, default=15, help="after which a call ends")
    parser.add_argument("--countries", type=int, default=60, help="that are asked about")
    parser.add_argument("--notes", type=int, default=60, help="countries that have a note, at least as many")
    parser.add_argument("--ablated", type=int, help="questions that the pipeline is run on; all unless given")
    parser.add_argument("--larger", type=Path, help="a larger bundle, for a pair that is measured")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    facts, notes = country_facts(max(asked.notes, asked.countries))
    facts = facts[: 3 * asked.countries]
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
            rows = say_all(model, index, facts, kept, f"{len(notes)} countries")
            if kept.missing:
                return _more(kept)
            gates = _judged(rows, model_numbers(model), Path(folder))
            figures = _tables(rows)
            sample = random.Random(2).sample(rows, min(asked.ablated or len(rows), len(rows)))
            runs = _ablations(model, index, sample, kept, gates)
            if asked.larger is not None and not kept.missing:
                with edgesdk.load(asked.larger, threads=1) as larger:
                    figures["pair"] = _pair(model, index, sample[:_PAIRS], kept, gates, larger)
    if kept.missing:
        return _more(kept)
    figures["ablations"] = _ablated(sample, runs)
    figures["ms"] = _times(rows, [each for each in runs["gated"] if each is not None])
    print(json.dumps(figures, indent=None if asked.json else 1))
    return 0


def _more(kept: Kept) -> int:
    print(f"the time is over, {kept.missing} questions are to be asked; call it again", file=sys.stderr)
    return 3


def _judged(rows: Sequence[Said], numbers: str, folder: Path) -> dict[str, dict[str, object]]:
    """Gives every question scores and thresholds of countries that it is not about.

    Returns:
        By country, the options of the gate with the judge that did not learn from it.
    """
    things = list(dict.fromkeys(row.fact.about for row in rows))
    groups = np.array([things.index(row.fact.about) for row in rows])
    gates: dict[str, dict[str, object]] = {}
    for fold, (learn, held) in enumerate(GroupKFold(_FOLDS).split(groups, groups=groups)):
        seen, own = [copy.deepcopy(rows[i]) for i in learn], groups[learn]
        for part, apart in GroupKFold(_FOLDS).split(own, groups=own):
            _score([seen[i] for i in part], [seen[i] for i in apart], numbers)
        judge = _score(seen, [rows[i] for i in held], numbers)
        write_judge(folder / f"judge {fold}.json", judge)
        limits = {name: _limit(name, seen) for name in _GATES}
        for i in held:
            rows[i].limits = limits
            gates[rows[i].fact.about] = {
                "gate": "head",
                "judge": folder / f"judge {fold}.json",
                "threshold": limits["head"],
            }
    return gates


def _score(seen: Sequence[Said], rows: Sequence[Said], numbers: str) -> JudgeFile:
    """Gives `rows` the scores of judges of `seen`; the judge of answers."""
    things = [each.fact.about for each in seen]
    judges = {
        name: _fitted(seen, np.array([things.index(thing) for thing in things]), numbers, reads)
        for name, reads in (("head", "answer"), ("question", "question"))
    }
    for each in rows:
        each.scores["head"] = chance_known(judges["head"], np.array(each.answer))
        each.scores["question"] = chance_known(judges["question"], np.array(each.question))
    return judges["head"]


def _limit(name: str, seen: Sequence[Said]) -> float:
    """The threshold of most right answers; of several, the highest, which searches most."""
    limits = [-1e9, *sorted(row.scores[name] for row in seen), 1e9]
    return max(limits, key=lambda x: (_share(seen, lambda row: row.scores[name] >= x)["right"], x))


def _knows(name: str) -> Callable[[Said], bool]:
    return lambda row: row.scores[name] >= row.limits[name]


def _fitted(said: Sequence[Said], groups: np.ndarray, numbers: str, reads: Reads) -> JudgeFile:
    """A judge of these; one group in four is held back, as the command does."""
    features = np.array([getattr(each, reads) for each in said])
    known = np.array([each.known for each in said])
    places = {group: i for i, group in enumerate(dict.fromkeys(groups.tolist()))}
    back = np.array([places[group] % 4 == 0 for group in groups.tolist()])
    judge, _ = fit_judge(features, known, groups, back, numbers, reads)
    return judge


def _tables(rows: Sequence[Said]) -> dict[str, dict]:
    drawn = _drawn(rows)
    areas = {name: np.array([_auroc(each, name) for each in drawn]) for name in _GATES}
    return {
        "questions": {"asked": len(rows), "countries": len({row.fact.about for row in rows})},
        "never": _share(rows, lambda _: True),
        "always": _share(rows, lambda _: False),
        "gates": {
            name: {
                "auroc": _auroc(rows, name),
                "interval": _middle(areas[name]),
                "head_leads_by": _auroc(rows, "head") - _auroc(rows, name),
                "lead_interval": _middle(areas["head"] - areas[name]),
                **_share(rows, _knows(name)),
                "over_always_interval": _middle(np.array([_over_always(each, name) for each in drawn])),
            }
            for name in _GATES
        },
    }


def _over_always(rows: Sequence[Said], name: str) -> float:
    return _share(rows, _knows(name))["right"] - _share(rows, lambda _: False)["right"]


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
    """Share of pairs of known and unknown that are told apart; thousands of bootstraps want it quick."""
    known = np.array([row.scores[name] for row in rows if row.known])
    unknown = np.array([row.scores[name] for row in rows if not row.known])
    pairs = known[:, None] - unknown
    return float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)


def _middle(figures: np.ndarray) -> list[float]:
    return [float(x) for x in np.percentile(figures, [2.5, 97.5])]


def _share(rows: Sequence[Said], knows: Callable[[Said], bool]) -> dict[str, float]:
    right = [row.known if knows(row) else row.always for row in rows]
    return {"right": float(np.mean(right)), "searches": float(np.mean([not knows(row) for row in rows]))}


def _ablations(
    model: edgesdk.Model,
    index: edgesdk.TextIndex,
    rows: Sequence[Said],
    kept: Kept,
    gates: dict[str, dict[str, object]],
) -> dict[str, list[dict | None]]:
    """Answers of the whole pipeline, and of it without a part; None where the gate spared the search."""
    knows = _knows("head")

    def run(row: Said, name: str, options: dict[str, object]) -> dict | None:
        return answer(model, index, row.fact, kept, name, options)

    runs: dict[str, list[dict | None]] = {"gated": [], "without claim filter": [], "without gate": []}
    for row in rows:  # one question after another, so that a call that ends leaves whole ones
        gated = gates[row.fact.about]
        name = f"{len(gates)} countries {row.limits['head']}"
        runs["gated"].append(None if knows(row) else run(row, f"gated {name}", gated))
        unfiltered = {**gated, "filter_claims": False}
        runs["without claim filter"].append(
            None if knows(row) else run(row, f"all claims {name}", unfiltered)
        )
        runs["without gate"].append(run(row, "always rewritten", {"gate": "always"}))
    return runs


def _ablated(rows: Sequence[Said], runs: dict[str, list[dict | None]]) -> dict[str, object]:
    figures: dict[str, object] = {
        "questions": len(rows),
        "never": _share(rows, lambda _: True),
        "without gate and rewriter": _share(rows, lambda _: False),
        "without rewriter": _share(rows, _knows("head")),
    }
    for name, answers in runs.items():
        searched = [each for each in answers if each is not None]
        right = [
            row.known if each is None else each["right"] for row, each in zip(rows, answers, strict=True)
        ]
        figures[name] = {
            "right": float(np.mean(right)),
            "searches": len(searched) / len(rows),
            "queries_a_search": float(np.mean([each["queries"] for each in searched])),
            "claims": sum(each["claims"] for each in searched),
            "claims_known": sum(each["claims_known"] for each in searched),
        }
    return figures


def _times(rows: Sequence[Said], gated: Sequence[dict]) -> dict[str, object]:
    """Processor time: medians of parts, and means of whole questions, with one model and a slower one."""
    parts = {name: float(np.median([row.ms[name] for row in rows])) for name in rows[0].ms if name != "gate"}
    for stage in ("rewrite", "claim", "search"):
        times = [each["ms"][stage] for each in gated if stage in each["ms"]]
        parts[f"{stage} (gated)"] = float(np.median(times)) if times else 0.0
    whole = {}
    for slower in (1, _SLOWER):
        gates = {
            "never": lambda row, slower=slower: slower * row.ms["coarse answer"],
            "always": lambda row, slower=slower: _found_ms(row, slower),
            "head": lambda row, slower=slower: _gated_ms(row, "head", slower),
            "question": lambda row, slower=slower: _gated_ms(row, "question", slower),
        }
        means = {name: float(np.mean([total(row) for row in rows])) for name, total in gates.items()}
        whole["one model" if slower == 1 else f"a larger model, {slower} times slower"] = means
    return {"median of parts": parts, "mean of questions, without rewriter": whole}


def _found_ms(row: Said, slower: int) -> float:
    return row.ms["search"] + row.ms["prompt"] + slower * row.ms["answer"]


def _gated_ms(row: Said, name: str, slower: int) -> float:
    """One model's first answer stands where it knows; a larger model says it anew, as long as that was."""
    own = row.ms["coarse answer"]
    judged = row.ms["question"] if name == "question" else own + row.ms["head"]
    if not _knows(name)(row):
        return judged + _found_ms(row, slower)
    return judged + (slower * own if slower > 1 or name == "question" else 0.0)


def _pair(
    model: edgesdk.Model,
    index: edgesdk.TextIndex,
    rows: Sequence[Said],
    kept: Kept,
    gates: dict[str, dict[str, object]],
    larger: edgesdk.Model,
) -> dict[str, object]:
    """A proxy and a larger model that are both at hand, on some questions; without the rewriter."""
    figures: dict[str, object] = {"questions": len(rows)}
    for what in ("never", "always", "head"):
        answers = []
        for row in rows:
            name = f"pair {what} {model_numbers(larger)} {len(gates)} countries"
            # What needs no proxy is asked of the larger model alone.
            alone = what != "head"
            options = {"gate": what} if alone else gates[row.fact.about]
            first, second = (larger, None) if alone else (model, larger)
            answers.append(
                answer(first, index, row.fact, kept, name, {"rewrite": False, **options}, larger=second)
            )
        found = [each for each in answers if each is not None]
        figures[what] = {
            "right": float(np.mean([each["right"] for each in found])),
            "searches": float(np.mean([each["queries"] > 0 for each in found])),
            "ms": float(np.mean([sum(each["ms"].values()) for each in found])),
        }
    return figures


if __name__ == "__main__":
    sys.exit(main())
