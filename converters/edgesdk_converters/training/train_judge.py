"""Trains a judge: does the model know what it says? By questions whose answers are known.

The model answers each question by itself; it knew if more than half of the gold answers stand in what it
said. Features of those answers (`edgesdk.retrieval.head_judge`) go to a logistic regression, whose strength
is chosen by cross-validation in which all questions about one thing are on the same side. What is reported is
measured on things that neither saw.

Paper: SlimPLM, whose label is a recall above 0.5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesdk.bundle.write_file import check_target
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk.load_model import load
from edgesdk.orchestration.hosted_engine import engine_on
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.allowance import Allowance
from edgesdk.retrieval.gate_desk import COARSE, GateDesk
from edgesdk.retrieval.gate_options import GateOptions
from edgesdk.retrieval.head_judge import BELIEFS, judge_features, model_numbers, question_features
from edgesdk.retrieval.judge_file import JudgeFile, Reads, write_judge

_MOST_FACTS = 100_000
_LEAST_FACTS = 40
_MOST_LINE = 1 << 16
_HELD_BACK = 4  # one thing in so many
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Fact:
    """A question whose answers are known.

    Attributes:
        question: what is asked.
        answers: each of which should be in a right answer.
        about: the thing that it is about; questions about one thing are learnt from together or not at all.
    """

    question: str
    answers: tuple[str, ...]
    about: str


@dataclass(frozen=True)
class JudgeReport:
    """What a training gave.

    Attributes:
        questions: learnt from.
        held_back: judged on.
        known: share of all that the model knew.
        auroc: on those held back.
        auroc_logprob: of the mean log-probability alone, on the same.
        auroc_entropy: of the mean entropy alone.
        hidden: whether the bundle gave hidden states.
    """

    questions: int
    held_back: int
    known: float
    auroc: float
    auroc_logprob: float
    auroc_entropy: float
    hidden: bool


def read_facts(path: Path) -> list[Fact]:
    """Reads JSON lines: {"question": "...", "answers": ["..."], "about": "..."}.

    Raises:
        CheckpointError: it cannot be read, or a line is something else.
    """
    facts: list[Fact] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE), ""), 1):
                if line.strip():
                    facts.append(_fact(path, number, line))
                if len(facts) > _MOST_FACTS:
                    raise CheckpointError(f"{path} has more than {_MOST_FACTS} facts; give fewer")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is no UTF-8 text") from error
    return facts


def _fact(path: Path, number: int, line: str) -> Fact:
    try:
        document = json.loads(line)
        json.dumps(document, ensure_ascii=False).encode()  # a text with half a character is none
        question, answers, about = document["question"], document["answers"], document["about"]
        whole = (
            isinstance(answers, list)
            and 0 < len(answers) <= 64
            and all(isinstance(a, str) and a.strip() for a in answers)
        )
        if whole and isinstance(question, str) and question.strip() and isinstance(about, str):
            return Fact(question.strip(), tuple(answers), about)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise CheckpointError(
        f'{path}, line {number}: expected {{"question": "...", "answers": ["..."], "about": "..."}}'
    )


def recall(answer: str, gold: Sequence[str]) -> float:
    """Share of the gold answers that stand in an answer, whatever their case."""
    text = " ".join(answer.lower().split())
    return sum(" ".join(each.lower().split()) in text for each in gold) / len(gold)


def train_judge(
    bundle: str | Path,
    facts: Sequence[Fact],
    out: Path,
    *,
    reads: Reads = "answer",
    threads: int | None = None,
    told: Told | None = None,
) -> JudgeReport:
    """Trains a judge for a bundle and writes it.

    Args:
        bundle: its folder or name.
        facts: at least 40, about at least eight things, some of which the model knows.
        out: the file.
        reads: what the judge is to judge by: the model's own answer, or the question alone.
        threads: CPU threads.
        told: how many questions are answered, of how many.

    Raises:
        UnsupportedOption: there are too few facts, or the model knows all or none of them, or only those
            about one thing.
        BundleError, DeviceError: as `edgesdk.load`.
        OSError: the file cannot be written.
    """
    things = sorted({fact.about for fact in facts})
    if len(facts) < _LEAST_FACTS or len(things) < 2 * _HELD_BACK:
        raise UnsupportedOption(
            f"found {len(facts)} facts about {len(things)} things, expected at least {_LEAST_FACTS} about "
            f"{2 * _HELD_BACK}"
        )
    check_target(out)  # before a model answers for minutes
    with load(bundle, threads=threads) as model, engine_on(model) as engine:
        desk = GateDesk(engine, PromptWriter(model), GateOptions(), Allowance(None, None))
        rows, known, answered = _answered(desk, facts, reads, told)
        numbers = model_numbers(model)
    place = {thing: i for i, thing in enumerate(np.random.default_rng(0).permutation(things))}
    groups = np.array([place[facts[i].about] for i in answered])
    kept_back = groups % _HELD_BACK == 0
    for what, side in (("learnt from", ~kept_back), ("judged on", kept_back)):
        if known[side].all() or not known[side].any():
            share = "all" if known[side].any() else "none"
            raise UnsupportedOption(f"the model knows {share} of the facts {what}; give others, too")
    head, report = fit_judge(rows, known, groups, kept_back, numbers, reads)
    write_judge(out, head)
    return report


def _answered(
    desk: GateDesk, facts: Sequence[Fact], reads: Reads, told: Told | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], list[int]]:
    """Features (n, F) of the model's own answers, whether they are right, and the places of their facts.

    Where the model says nothing there is nothing to judge: `HeadJudge` searches then whatever it learnt.
    """
    rows, known, answered = [], [], []
    for done, fact in enumerate(facts, 1):
        said = desk.write(COARSE, f"Question: {fact.question}", max_tokens=desk.options.coarse_tokens)
        if said.tokens:
            rows.append(
                judge_features(desk, fact.question, said.tokens)
                if reads == "answer"
                else question_features(desk, fact.question)
            )
            known.append(recall(said.text, fact.answers) > 0.5)
            answered.append(done - 1)
        if told is not None:
            told(done, len(facts))
    return np.array(rows), np.array(known, bool), answered


def fit_judge(
    rows: npt.NDArray[np.float64],
    known: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    kept_back: npt.NDArray[np.bool_],
    numbers: str,
    reads: Reads = "answer",
) -> tuple[JudgeFile, JudgeReport]:
    """Fits a judge to answers.

    Args:
        rows: (n, F) features.
        known: (n,) whether the model knew.
        groups: (n,) the thing that each is about.
        kept_back: (n,) those that the report is of; they are not learnt from.
        numbers: digest of the model's weights.
        reads: what the features are of.

    Raises:
        UnsupportedOption: what is known, or not, is about one thing alone.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, make_scorer, roc_auc_score
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    learnt = ~kept_back
    folds = GroupKFold(_HELD_BACK)
    for side, _ in folds.split(rows[learnt], groups=groups[learnt]):
        if len(set(known[learnt][side].tolist())) < 2:
            raise UnsupportedOption(
                "what the model knows, or does not, is about one thing alone; give facts about others, too"
            )
    # A fold may hold facts that are all known: their loss is one all the same.
    loss = make_scorer(
        log_loss, response_method="predict_proba", greater_is_better=False, labels=[False, True]
    )
    pipeline = make_pipeline(
        StandardScaler(),
        FunctionTransformer(_in_proportion),
        LogisticRegression(max_iter=2000, class_weight="balanced"),
    )
    search = GridSearchCV(
        pipeline,
        {"logisticregression__C": list(_STRENGTHS)},
        scoring=loss,
        cv=folds,
    )
    search.fit(rows[learnt], known[learnt], groups=groups[learnt])
    scaler, head = search.best_estimator_[0], search.best_estimator_[-1]
    chances = search.predict_proba(rows[kept_back])[:, 1]
    auroc = float(roc_auc_score(known[kept_back], chances))
    plain = [
        float(roc_auc_score(known[kept_back], sign * rows[kept_back, i])) for i, sign in ((0, 1), (1, -1))
    ]
    judge = JudgeFile(
        numbers=numbers,
        hidden=rows.shape[1] - BELIEFS,
        mean=tuple(map(float, scaler.mean_)),
        scale=tuple(map(float, scaler.scale_ / _in_proportion(np.ones_like(scaler.scale_)))),
        weights=tuple(map(float, head.coef_[0])),
        bias=float(head.intercept_[0]),
        threshold=0.5,
        questions=int(learnt.sum()),
        auroc=auroc,
        reads=reads,
    )
    report = JudgeReport(
        questions=int(learnt.sum()),
        held_back=int(kept_back.sum()),
        known=float(known.mean()),
        auroc=auroc,
        auroc_logprob=plain[0],
        auroc_entropy=plain[1],
        hidden=rows.shape[1] > BELIEFS,
    )
    return judge, report


def _in_proportion(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Makes a hidden state, whatever its width, weigh as much as one figure: hundreds would drown four."""
    hidden = rows.shape[-1] - BELIEFS
    shares: npt.NDArray[np.float64] = np.ones(BELIEFS + hidden)
    shares[BELIEFS:] = 1 / np.sqrt(max(hidden, 1))
    return rows * shares
