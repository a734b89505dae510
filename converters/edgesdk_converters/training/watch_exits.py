"""What a model says at each of its exits, and how a rule does on that without running anything again.

The model classifies every text with the whole of it, and is watched on the way; any rule can then be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgesdk.dispatch.exit_features import FEATURES, top_chances
from edgesdk.dispatch.exit_prompts import ExitedPrompt
from edgesdk.dispatch.exit_rule import ExitRule, Head
from edgesdk.dispatch.exit_steps import ExitCost, exit_cost
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.model import Model
from edgesdk.vectors.classify import LabelTask, label_chances
from edgesdk.vectors.labelled_texts import LabelledText
from edgesdk.vectors.open_exits import watch_exits

_BATCH = 64
Told = Callable[[int, int], None]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Watched:
    """What a model said of n texts at each of x exits, the whole model last.

    Attributes:
        exits: blocks before each, the whole last.
        rows: (n, x, labels) log-probabilities of the labels there, among each other.
        features: (n, x - 1, 5) at each exit before the last, in the order of `FEATURES`.
        gold: (n,) which label is right.
        tokens: (n,) tokens that were run for each, without what all begin with.
        cost: of the model.
        labels: in the order of the log-probabilities.
        numbers: digest of its weights.
        head: that was asked; `gap` and `top_prob` are over its tokens.
    """

    exits: tuple[int, ...]
    rows: Floats
    features: Floats
    gold: Ints
    tokens: Ints
    cost: ExitCost
    labels: tuple[str, ...]
    numbers: str
    head: Head = "all"

    @property
    def look(self) -> int:
        """Multiplications of one row of its head."""
        return self.cost.look(len(self.labels) if self.head == "labels" else None)

    def take(self, rows: Ints) -> Watched:
        """Some of the texts."""
        return replace(
            self,
            rows=self.rows[rows],
            features=self.features[rows],
            gold=self.gold[rows],
            tokens=self.tokens[rows],
        )

    def parts(self) -> tuple[Watched, Watched, Watched]:
        """Half of the texts to learn from, a quarter to choose a threshold on, a quarter to measure on."""
        count = len(self.gold)
        learn, choose, judge = np.split(np.arange(count), [count // 2, count * 3 // 4])
        return self.take(learn), self.take(choose), self.take(judge)

    def offsets(self) -> Floats:
        """(x, labels) what the model says of a label whatever the text: the mean of its log-probabilities.

        Taken off, it is Batch Calibration (Zhou et al., 2023); no label of a text is looked at.
        """
        found: Floats = self.rows.mean(0)
        return found


@dataclass(frozen=True)
class ExitScore:
    """How a rule does on some texts.

    Attributes:
        texts: how many.
        majority: share of the most frequent label.
        accuracy_whole: of the whole model.
        accuracy: with the rule.
        agreement: share whose answer is that of the whole model.
        blocks_share: blocks that were run.
        work_share: multiplications, heads counted, of those of the whole model.
        exits: texts by the blocks that they ran.
    """

    texts: int
    majority: float
    accuracy_whole: float
    accuracy: float
    agreement: float
    blocks_share: float
    work_share: float
    exits: Mapping[int, int]


def watch_task(
    model: Model,
    task: LabelTask,
    texts: Sequence[LabelledText],
    told: Told | None = None,
    *,
    head: Head = "all",
) -> Watched:
    """Classifies texts with the whole model, and keeps what it says at every exit.

    Args:
        model: from a bundle with exits.
        task: what it is asked.
        texts: with their labels.
        told: called with texts done and texts in all.
        head: that is asked at every exit.

    Raises:
        UnsupportedOption: the bundle has no exits or not that head, or the task has not a text's label.
        CapacityError: a text does not fit the context.
    """
    strange = [each.label for each in texts if each.label not in task.labels]
    if strange:
        raise UnsupportedOption(f"a text has the label {quoted(strange[0])}, expected one of {task.labels}")
    rows: list[list[Floats]] = []
    seen: list[ExitedPrompt] = []
    exits: list[int] = []

    def watch(blocks: int, prompt: ExitedPrompt, logits: npt.NDArray[np.float32]) -> None:
        if blocks not in exits:
            exits.append(blocks)
        while len(rows) <= first + prompt.place:
            rows.append([])
            seen.append(prompt)
        rows[first + prompt.place].append(label_chances(logits))

    for first in range(0, len(texts), _BATCH):
        watch_exits(model, [each.text for each in texts[first : first + _BATCH]], task, watch, head)
        if told is not None:
            told(min(first + _BATCH, len(texts)), len(texts))
    variant = model.bundle.variant(model.receipt.variant)
    return Watched(
        exits=tuple(exits),
        rows=np.array(rows),
        features=np.array([np.stack(each.seen) for each in seen]),
        gold=np.array([task.labels.index(each.label) for each in texts]),
        tokens=np.array([each.tokens for each in seen]),
        cost=exit_cost(model.decoder),
        labels=task.labels,
        numbers=variant.numbers,
        head=head,
    )


def choose_threshold(rule: ExitRule, watched: Watched, loss: float) -> ExitRule:
    """The rule with the threshold that saves most, as `best_rule` says."""
    return best_scored(score_thresholds(rule, watched), loss)


def score_thresholds(rule: ExitRule, watched: Watched) -> list[tuple[ExitRule, ExitScore]]:
    """A rule with each threshold that makes a difference on some texts, and how it does on them."""
    scores = exit_scores(rule, watched)
    values = np.unique(np.quantile(scores.ravel(), np.linspace(0, 1, 101)))
    tried = [replace(rule, threshold=float(value)) for value in (*values, values[-1] + 1.0)]
    return [(each, _score(each, watched, scores)) for each in tried]


def best_rule(tried: Sequence[ExitRule], watched: Watched, loss: float) -> ExitRule:
    """Of some rules the one that saves most, as `best_scored` says."""
    return best_scored([(each, score_rule(each, watched)) for each in tried], loss)


def best_scored(tried: Sequence[tuple[ExitRule, ExitScore]], loss: float) -> ExitRule:
    """The rule that saves most and loses no more points of accuracy than allowed.

    Where none is within that, the one that loses least.
    """
    allowed = [
        (score.work_share, index)
        for index, (_, score) in enumerate(tried)
        if score.accuracy >= score.accuracy_whole - loss / 100
    ]
    if allowed:
        return tried[min(allowed)[1]][0]
    return max(tried, key=lambda each: each[1].accuracy)[0]


def features_for(rule: ExitRule, watched: Watched) -> Floats:
    """(n, x - 1, 5) what a rule reads: over labels, chances are those of an answer by its offsets."""
    if watched.head == "all" or not rule.reads_features:
        return watched.features
    judged = (watched.rows - offsets_of(rule, watched))[:, :-1]
    found = watched.features.copy()
    for place in np.ndindex(judged.shape[:2]):
        first, second = top_chances(judged[place])
        found[place][FEATURES.index("gap")], found[place][FEATURES.index("top_prob")] = first - second, first
    return found


def exit_scores(rule: ExitRule, watched: Watched) -> Floats:
    """(n, exits of the rule) what is compared with the threshold.

    Raises:
        ValueError: the rule reads another head than was watched.
    """
    if rule.reads_features and rule.head != watched.head:
        raise ValueError(f"the rule reads the head of {rule.head}, that of {watched.head} was watched")
    places = [watched.exits.index(exit_) for exit_ in rule.exits]
    return np.array(
        [
            [rule.score(exit_, [text[p] for p in places[: i + 1]]) for i, exit_ in enumerate(rule.exits)]
            for text in features_for(rule, watched)
        ]
    )


def score_rule(rule: ExitRule, watched: Watched) -> ExitScore:
    """How a rule does on watched texts, without running them again."""
    return _score(rule, watched, exit_scores(rule, watched))


def _score(rule: ExitRule, watched: Watched, scores: Floats) -> ExitScore:
    leaves = np.ones_like(scores, bool) if rule.kind == "fixed" else scores >= rule.threshold
    last = len(watched.exits) - 1
    places = np.array([watched.exits.index(exit_) for exit_ in rule.exits])
    left = leaves.any(1)
    taken = np.where(left, places[leaves.argmax(1)], last)
    heads = np.where(left, leaves.argmax(1) + 1, len(places) + 1)
    said = answers(rule, watched)
    early = said[np.arange(len(taken)), taken]
    cost, blocks = watched.cost, np.array(watched.exits)[taken]
    work = np.array([cost.of(b) for b in blocks]) * watched.tokens + heads * watched.look
    whole = cost.of(watched.exits[-1]) * watched.tokens + cost.head
    counts = np.bincount(watched.gold)
    return ExitScore(
        texts=len(taken),
        majority=float(counts.max() / counts.sum()),
        accuracy_whole=float((said[:, -1] == watched.gold).mean()),
        accuracy=float((early == watched.gold).mean()),
        agreement=float((early == said[:, -1]).mean()),
        blocks_share=float((blocks * watched.tokens).sum() / (watched.exits[-1] * watched.tokens.sum())),
        work_share=float(work.sum() / whole.sum()),
        exits={int(b): int((blocks == b).sum()) for b in np.unique(blocks)},
    )


def answers(rule: ExitRule, watched: Watched) -> Ints:
    """(n, x) which label is said at each exit; by the rule's offsets where it has some."""
    found: Ints = (watched.rows - offsets_of(rule, watched)).argmax(2)
    return found


def offsets_of(rule: ExitRule, watched: Watched) -> Floats:
    """(x, labels) what a rule takes off at each exit; zeros where it has nothing to."""
    off = np.zeros((len(watched.exits), len(watched.labels)))
    for exit_ in (*rule.exits, watched.exits[-1]):
        off[watched.exits.index(exit_)] = rule.offsets_at(exit_, watched.labels)
    return off
