"""Trains a rule for early exits: at which texts may a model be left, because it has already said its label?

A text's label at an exit is 1 if the answer there is that of the whole model (AdaInfer, Fan et al., IJCAI
2025, section 3.3); linear SVMs (scikit-learn), one for each exit, or a linear-chain CRF over the exits
(CRFsuite) learn it from the features. The threshold is chosen on texts that these have not seen, and what is
reported is measured on others again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from edgesdk.bundle.write_file import check_target
from edgesdk.dispatch.exit_features import FEATURES, LOGIT_FEATURES
from edgesdk.dispatch.exit_rule import ExitRule, Head, RuleKind, write_rule
from edgesdk.errors import MissingExtra, UnsupportedOption, quoted
from edgesdk.load_model import load
from edgesdk.vectors.classify import label_task
from edgesdk.vectors.labelled_texts import LabelledText, pick_shots
from edgesdk.vectors.open_exits import has_label_head
from edgesdk_converters.training.watch_exits import (
    ExitScore,
    Floats,
    Ints,
    Told,
    Watched,
    answers,
    best_rule,
    choose_threshold,
    features_for,
    score_rule,
    watch_task,
)

_LEAST_TEXTS = 60
_PACKAGES = {"svm": ("sklearn", "scikit-learn"), "crf": ("pycrfsuite", "python-crfsuite")}


@dataclass(frozen=True)
class ExitReport:
    """What a training gave.

    Attributes:
        rule: that was written.
        learnt_from: texts.
        held_back: on texts that nothing was chosen by.
    """

    rule: ExitRule
    learnt_from: int
    held_back: ExitScore


@dataclass(frozen=True)
class ExitTraining:
    """How to train.

    Attributes:
        kind: of the rule.
        features: that it reads.
        shots: examples of each label in the prompt, taken from the task's own texts.
        instruction: before them.
        loss: points of accuracy that may be lost on the texts that the threshold is chosen on.
        seed: of the parts.
        head: over which tokens `gap` and `top_prob` are; None for labels where the bundle has that head.
    """

    kind: RuleKind = "svm"
    features: tuple[str, ...] = LOGIT_FEATURES
    shots: int = 4
    instruction: str = ""
    loss: float = 1.0
    seed: int = 0
    head: Head | None = None

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming it.
        """
        if self.kind not in get_args(RuleKind):
            raise UnsupportedOption(
                f"a rule is {quoted(self.kind)}, expected {', '.join(get_args(RuleKind))}"
            )
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown or not self.features:
            found = quoted(unknown[0]) if unknown else "none"
            raise UnsupportedOption(f"features: found {found}, expected some of {', '.join(FEATURES)}")
        if not 0 <= self.loss < 100 or self.shots < 0:
            raise UnsupportedOption("loss is in points from 0 to 100, shots 0 or more")


def fit_rule(watched: Watched, training: ExitTraining, task: str) -> ExitReport:
    """Learns a rule, chooses its threshold, and measures it, each on texts of their own.

    Raises:
        UnsupportedOption: there are too few texts.
        MissingExtra: a package of the `train` extra is missing.
    """
    count = len(watched.gold)
    if count < _LEAST_TEXTS:
        raise UnsupportedOption(
            f"the task has {count} texts beside its examples, expected {_LEAST_TEXTS} or more"
        )
    check_packages(training.kind)
    learn, choose, judge = watched.parts()
    learnt = learn_rule(learn, training)
    if training.kind == "fixed":
        rule = best_rule(fixed_rules(learnt), choose, training.loss)
    else:
        rule = choose_threshold(learnt, choose, training.loss)
    score = score_rule(rule, judge)
    told = replace(
        rule,
        numbers=watched.numbers,
        task=task,
        examples=len(learn.gold) + len(choose.gold),
        agreement=score.agreement,
        blocks_share=score.blocks_share,
    )
    return ExitReport(told, len(learn.gold), score)


def check_packages(kind: RuleKind) -> None:
    """Refuses to learn a rule without the package for it, before a model answers for minutes.

    Raises:
        MissingExtra: it is not installed.
    """
    if kind not in _PACKAGES:
        return
    module, package = _PACKAGES[kind]
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(package, "train") from error


def fixed_rules(rule: ExitRule) -> list[ExitRule]:
    """For each exit of a rule the one that always leaves there, with its offsets."""
    return [
        ExitRule("fixed", (exit_,), labels=rule.labels, offsets=(row, rule.offsets[-1]), head=rule.head)
        for exit_, row in zip(rule.exits, rule.offsets, strict=False)
    ]


def learn_rule(watched: Watched, training: ExitTraining) -> ExitRule:
    """A rule with a threshold that is still to be chosen; for `fixed`, every exit's offsets."""
    exits = watched.exits[:-1]
    offsets = tuple(tuple(map(float, row)) for row in watched.offsets())
    plain = ExitRule("top_prob", exits, 1.0, labels=watched.labels, offsets=offsets, head=watched.head)
    if training.kind in ("top_prob", "fixed"):
        return plain
    columns = [FEATURES.index(name) for name in training.features]
    rows = features_for(plain, watched)[:, :, columns]
    mean = rows.reshape(-1, len(columns)).mean(0)
    scale = np.maximum(rows.reshape(-1, len(columns)).std(0), 1e-9)
    scaled = (rows - mean) / scale
    said = answers(plain, watched)
    same = (said[:, :-1] == said[:, -1:]).astype(int)
    fit = _fit_svm if training.kind == "svm" else _fit_crf
    weights, bias, stay = fit(scaled, same)
    return ExitRule(
        kind=training.kind,
        exits=exits,
        features=training.features,
        mean=tuple(map(float, mean)),
        scale=tuple(map(float, scale)),
        weights=tuple(tuple(map(float, row)) for row in weights),
        bias=tuple(map(float, bias)),
        stay=stay,
        labels=watched.labels,
        offsets=offsets,
        head=watched.head,
    )


def _fit_svm(rows: Floats, same: Ints) -> tuple[Floats, Floats, tuple[float, ...]]:
    """Linear SVMs, one for each exit: weights (x, f), bias (x,)."""
    from sklearn.svm import LinearSVC

    weights, bias = np.zeros((rows.shape[1], rows.shape[2])), np.zeros(rows.shape[1])
    for place in range(rows.shape[1]):
        labels = same[:, place]
        if labels.min() == labels.max():
            bias[place] = 1.0 if labels[0] else -1.0
            continue
        found = LinearSVC(dual=False, max_iter=10_000).fit(rows[:, place], labels)
        weights[place], bias[place] = found.coef_[0], found.intercept_[0]
    return weights, bias, ()


def _fit_crf(rows: Floats, same: Ints) -> tuple[Floats, Floats, tuple[float, ...]]:
    """A chain over the exits whose attributes are those of one exit each; only differences count."""
    import pycrfsuite

    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    trainer.set_params({"c1": 0.0, "c2": 1.0, "max_iterations": 200, "feature.possible_transitions": True})
    names = [[f"{f}@{x}" for f in range(rows.shape[2])] for x in range(rows.shape[1])]
    for text, labels in zip(rows, same, strict=True):
        items = [
            {**dict(zip(names[x], map(float, row), strict=True)), f"bias@{x}": 1.0}
            for x, row in enumerate(text)
        ]
        trainer.append(pycrfsuite.ItemSequence(items), [str(label) for label in labels])
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model"))
        trainer.train(path)
        tagger = pycrfsuite.Tagger()
        tagger.open(path)
        info = cast(Any, tagger.info())
        tagger.close()
    state, turns = info.state_features, info.transitions

    def weight(attribute: str) -> float:
        return float(state.get((attribute, "1"), 0.0)) - float(state.get((attribute, "0"), 0.0))

    weights = np.array([[weight(name) for name in row] for row in names])
    bias = np.array([weight(f"bias@{x}") for x in range(rows.shape[1])])
    return weights, bias, tuple(float(turns.get((i, j), 0.0)) for i in "01" for j in "01")


def train_exits(
    bundle: str,
    texts: Sequence[LabelledText],
    out: Path,
    training: ExitTraining,
    *,
    task: str = "",
    threads: int | None = None,
    told: Told | None = None,
) -> ExitReport:
    """Trains a rule and writes it.

    Args:
        bundle: folder or name; converted with exits.
        texts: of the task, with their labels.
        out: file to write.
        training: how.
        task: what it is called in the rule.
        threads: CPU threads.
        told: called with texts done and texts in all.

    Raises:
        UnsupportedOption: the bundle has no exits or not that head, or there are too few texts or labels.
        MissingExtra: a package of the `train` extra is missing.
    """
    check_target(out)
    check_packages(training.kind)
    shots, rest = pick_shots(texts, training.shots, training.seed)
    labels = sorted({each.label for each in texts})
    with load(bundle, threads=threads) as model:
        examples = [(each.text, each.label) for each in shots]
        asked = label_task(model.tokenizer, labels, training.instruction, examples)
        head = training.head or ("labels" if has_label_head(model) else "all")
        report = fit_rule(watch_task(model, asked, rest, told, head=head), training, task)
    write_rule(out, report.rule)
    return report
