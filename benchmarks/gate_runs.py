"""What the model says of facts about countries, once without notes and once with them, kept in a file.

Every question is a line of JSON: what was said, whether it was right, what each judge reads of it, and the
processor time of each part. A run that ends, or is ended, goes on where it was; other bundles, options or
versions of this file begin anew.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import edgesdk
from edgesdk.orchestration.hosted_engine import engine_on
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.allowance import Allowance
from edgesdk.retrieval import gate_desk
from edgesdk.retrieval.gate_desk import COARSE, GateDesk
from edgesdk.retrieval.gate_options import GateOptions
from edgesdk.retrieval.head_judge import judge_features, model_numbers, question_features
from edgesdk.retrieval.judges import AskJudge
from edgesdk.retrieval.sourced_answer import SourcedAnswer
from edgesdk_converters.training.train_judge import Fact, recall

LENGTHS = {"files": 3, "passages": 3, "max_tokens": 48}
"""Of answers with notes. A note is one passage, so more would be of other countries alone."""
_COARSE_TOKENS = 64
_FORM = 1


@dataclass
class Said:
    """What came of one question.

    Attributes:
        fact: the question.
        known: whether the model's own answer is right.
        always: whether the answer with notes is right, without a rewriter.
        scores: of the judges that need no training, larger where the model is surer.
        answer: features of the model's own answer.
        question: features of the question alone.
        ms: processor time of the parts.
        limits: from which score on each gate takes the model to know.
    """

    fact: Fact
    known: bool
    always: bool
    scores: dict[str, float]
    answer: list[float]
    question: list[float]
    ms: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)


class Kept:
    """Results by name, one a line in a file.

    Args:
        path: the file; None keeps nothing.
        minutes: after which nothing more is begun.
    """

    def __init__(self, path: Path | None, minutes: float) -> None:
        self._path = path
        self._ends = time.monotonic() + 60 * minutes
        self._found: dict[str, object] = {}
        self.missing = 0
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):  # the last line of a process that was killed
                    name, value = json.loads(line)
                    self._found[name] = value

    def get(self, name: str, make: Callable[[], object]) -> object | None:
        """What is kept by that name, or made now; None where the time is over."""
        if name in self._found:
            return self._found[name]
        if time.monotonic() > self._ends:
            self.missing += 1
            return None
        self._found[name] = value = make()
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, value]) + "\n")
        return value


def country_facts(count: int) -> tuple[list[Fact], dict[str, str]]:
    """Three questions about each country, and a note that answers them."""
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


@contextlib.contextmanager
def processor_clock() -> Iterator[None]:
    """Has stages measured by processor time of this process: the machine may be busy with others."""
    kept = gate_desk.time
    gate_desk.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    try:
        yield
    finally:
        gate_desk.time = kept


def say_all(
    model: edgesdk.Model, index: edgesdk.TextIndex, facts: Sequence[Fact], kept: Kept, corpus: str
) -> list[Said]:
    """Runs what is not kept yet; fewer than facts where the time is over."""
    found = []
    with engine_on(model) as engine:
        desk = GateDesk(engine, PromptWriter(model), GateOptions(), Allowance(None, None))
        for fact in facts:
            name = f"said {_FORM} {model_numbers(model)} {corpus} {fact.question}"
            said = kept.get(name, lambda fact=fact: asdict(_say(desk, index, fact)))
            if said is not None:
                found.append(Said(**{**said, "fact": fact, "limits": {}}))
    return found


def _say(desk: GateDesk, index: edgesdk.TextIndex, fact: Fact) -> Said:
    ms: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        ms[name] = 1e3 * (time.process_time() - began)

    with timed("coarse answer"):
        said = desk.write(COARSE, f"Question: {fact.question}", max_tokens=_COARSE_TOKENS)
    with timed("belief"):
        belief = desk.belief(fact.question, said.tokens)
    with timed("head"):
        answer = judge_features(desk, fact.question, said.tokens)
    with timed("question"):
        question = question_features(desk, fact.question)
    with timed("ask"):
        asked = AskJudge(0.5).judge(desk, fact.question, said.text.strip(), said.tokens)
    with processor_clock():
        found = edgesdk.answer_with_sources(
            desk.engine, index, fact.question, gate="always", rewrite=False, **LENGTHS
        )
    ms |= stage_ms(found)
    scores = {
        "logprob": belief.mean_logprob,
        "entropy": -belief.mean_entropy,
        "flare": belief.least,
        "length": -float(belief.tokens),
        "ask": asked.score or 0.0,
    }
    known = recall(said.text, fact.answers) > 0.5
    right = recall(found.text, fact.answers) > 0.5
    return Said(fact, known, right, scores, answer.tolist(), question.tolist(), ms)


def stage_ms(found: SourcedAnswer) -> dict[str, float]:
    """Milliseconds of each stage; of claims together."""
    ms: dict[str, float] = {}
    for stage in found.stages:
        ms[stage.name] = ms.get(stage.name, 0.0) + 1e3 * stage.seconds
    return ms


def answer(
    model: edgesdk.Model,
    index: edgesdk.TextIndex,
    fact: Fact,
    kept: Kept,
    name: str,
    options: dict[str, object],
    larger: edgesdk.Model | None = None,
) -> dict | None:
    """Answers with sources: whether that is right, the numbers of queries and claims, and times.

    Args:
        model: the proxy.
        index: of the notes.
        fact: what is asked.
        kept: where results are kept.
        name: of these options, of all that they depend on.
        options: of `answer_with_sources`.
        larger: the model that answers.
    """

    def make() -> dict:
        with processor_clock():
            given = edgesdk.answer_with_sources(
                model, index, fact.question, larger=larger, **LENGTHS, **options
            )
        claims = [stage for stage in given.stages if stage.name == "claim"]
        return {
            "right": recall(given.text, fact.answers) > 0.5,
            "queries": len(given.queries),
            "claims": len(claims),
            "claims_known": sum(stage.decided.startswith("known") for stage in claims),
            "ms": stage_ms(given),
        }

    found = kept.get(f"answer {_FORM} {model_numbers(model)} {name} {fact.question}", make)
    return None if found is None else dict(found)
