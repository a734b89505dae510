"""When an answer is taken early, as a few numbers: a rule, its file, and what it decides.

Four kinds: a `fixed` block; a `top_prob` at least so large; an `svm`, a linear one on features of the exit,
with weights for each exit; and a `crf`, a linear chain over the exits, of which only those that have run are
known: it leaves where the chance of "this exit says what the whole model says", by the forward algorithm, is
large enough. The last two are those of AdaInfer (Fan et al., IJCAI 2025, section 3.3). What they read of the
logits is of all tokens, as there, or of the labels of a task only. Training is elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.exit_record import ExitStacks
from edgesdk.bundle.records import from_json, to_json
from edgesdk.bundle.write_file import write_file
from edgesdk.dispatch.exit_features import FEATURES
from edgesdk.errors import BundleError, UnsupportedOption, first_line, quoted

RuleKind = Literal["fixed", "top_prob", "svm", "crf"]

Head = Literal["all", "labels"]
"""Over which tokens the logits are that a rule reads: all, or a task's labels."""

_MOST_BYTES = 1 << 20
_MOST_EXITS = 512
_TRAIN = "make one with: edgesdk train exits"


@dataclass(frozen=True)
class ExitRule:
    """When to take an answer early.

    Attributes:
        kind: of the rule.
        exits: blocks after which it is asked, rising; the head runs there and nowhere else before the end.
        threshold: of `top_prob`, the least one; of `svm`, the least distance from its plane; of `crf`, the
            least probability. Not read by `fixed`.
        features: what `svm` and `crf` read, names of `FEATURES`.
        mean: taken off each feature.
        scale: each feature is then divided by.
        weights: for each exit, of each feature.
        bias: for each exit.
        stay: of `crf`: the log potentials of going from label i to label j between exits, as (0, 0), (0, 1),
            (1, 0), (1, 1).
        labels: of the task that it was made on; empty for none.
        offsets: for each of `exits` and for the whole model, of each label, its mean log-probability on that
            task, which is taken off where the same labels are asked for (Batch Calibration, Zhou et al.,
            2023): else a small model says one label most of the time.
        numbers: digest of the weights of the variant that it was made with; empty for any.
        task: what it was calibrated on, for people.
        examples: how many texts.
        agreement: share of those held back whose answer was that of the whole model.
        blocks_share: share of blocks that those held back ran.
        head: over which tokens `gap` and `top_prob` are; over labels once `offsets` are taken off. Not read
            by `fixed`.
    """

    kind: RuleKind
    exits: tuple[int, ...]
    threshold: float = 0.0
    features: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    bias: tuple[float, ...] = ()
    stay: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    offsets: tuple[tuple[float, ...], ...] = ()
    numbers: str = ""
    task: str = ""
    examples: int = 0
    agreement: float = 0.0
    blocks_share: float = 1.0
    head: Head = "all"
    format: Literal["edgesdk-exits"] = "edgesdk-exits"
    version: Literal[1] = 1

    def __post_init__(self) -> None:
        """Refuses what is no rule.

        Raises:
            ValueError: saying what.
        """
        if self.kind not in get_args(RuleKind):
            raise ValueError(f"a rule is {quoted(self.kind)}, expected {', '.join(get_args(RuleKind))}")
        if self.head not in get_args(Head):
            raise ValueError(f"a rule reads {quoted(self.head)}, expected {' or '.join(get_args(Head))}")
        if not 1 <= len(self.exits) <= _MOST_EXITS or list(self.exits) != sorted(set(self.exits)):
            raise ValueError(f"exits are {quoted(self.exits)}, expected rising numbers of blocks")
        count, asked = len(self.features), len(self.exits)
        if self.kind in ("fixed", "top_prob"):
            if self.kind == "fixed" and asked != 1:
                raise ValueError(f"a fixed rule has {asked} exits, expected one")
            count = asked = 0
        unknown = set(self.features) - set(FEATURES)
        if unknown or len(set(self.features)) != len(self.features):
            raise ValueError(f"features are {quoted(self.features)}, expected some of {', '.join(FEATURES)}")
        sizes = (len(self.mean), len(self.scale), len(self.weights), len(self.bias))
        rows = {len(row) for row in self.weights}
        if sizes != (count, count, asked, asked) or rows - {count} or (asked and not count):
            raise ValueError("its lists have different lengths")
        if len(self.stay) != (4 if self.kind == "crf" else 0):
            raise ValueError("a crf has four potentials between exits, other rules none")
        widths = {len(row) for row in self.offsets}
        if self.labels and (len(self.offsets) != len(self.exits) + 1 or widths != {len(self.labels)}):
            raise ValueError("its offsets are not those of its exits and labels")
        if len(set(self.labels)) != len(self.labels) or (self.offsets and not self.labels):
            raise ValueError("its labels are not each there once")
        numbers = [*self.mean, *self.scale, *self.bias, *self.stay, self.threshold]
        numbers += [value for row in (*self.weights, *self.offsets) for value in row]
        if not all(map(math.isfinite, numbers)) or 0.0 in self.scale:
            raise ValueError("it holds numbers that are not finite or scales of 0")

    @property
    def needs_labels(self) -> bool:
        """Whether it reads logits that only a head over labels gives."""
        return self.head == "labels" and self.reads_features

    @property
    def suits_labels(self) -> bool:
        """Whether a head over labels is enough for it."""
        return self.head == "labels" or not self.reads_features

    @property
    def reads_features(self) -> bool:
        """Whether it reads what was seen; where not, nobody need take a softmax over all tokens."""
        return self.kind != "fixed"

    def looks(self, exit_: int) -> bool:
        """Whether it is asked after so many blocks."""
        return exit_ in self.exits

    def offsets_at(self, blocks: int, labels: Sequence[str]) -> NDArray[np.float64]:
        """(labels,) what is taken off their log-probabilities after so many blocks; zeros where unknown."""
        if not self.labels or set(self.labels) != set(labels):
            return np.zeros(len(labels))
        row = self.offsets[self.exits.index(blocks) if blocks in self.exits else -1]
        return np.array([row[self.labels.index(label)] for label in labels])

    def score(self, exit_: int, seen: Sequence[NDArray[np.float64]]) -> float:
        """What is compared with the threshold.

        Args:
            exit_: blocks that have run, one of `exits`.
            seen: features at each of the rule's exits up to this one, as `exit_features` gives them; not
                read where it reads none.
        """
        if self.kind == "fixed":
            return 1.0
        if self.kind == "top_prob":
            return float(seen[-1][FEATURES.index("top_prob")])
        if self.kind == "svm":
            return self._plane(self.exits.index(exit_), seen[-1])
        return self._forward(seen)

    def leaves(self, exit_: int, seen: Sequence[NDArray[np.float64]]) -> bool:
        """Whether the answer is taken there; arguments as for `score`."""
        return not self.reads_features or self.score(exit_, seen) >= self.threshold

    def _plane(self, place: int, features: NDArray[np.float64]) -> float:
        # Plain numbers: with those of NumPy a rule of huge ones would warn on standard error.
        read = [float(features[FEATURES.index(name)]) for name in self.features]
        terms = zip(self.weights[place], read, self.mean, self.scale, strict=True)
        return float(self.bias[place] + sum(w * (x - m) / s for w, x, m, s in terms))

    def _forward(self, seen: Sequence[NDArray[np.float64]]) -> float:
        """Probability of label 1 at the last exit seen, given all that were."""
        with np.errstate(all="ignore"):  # chances that are no numbers leave nowhere
            stay = np.reshape(self.stay, (2, 2))
            alpha = np.zeros(2)
            for place, features in enumerate(seen):
                if place:
                    alpha = np.logaddexp(*(alpha[:, None] + stay))
                alpha = alpha + np.array([0.0, self._plane(place, features)])
            return float(np.exp(-np.logaddexp(0.0, alpha[0] - alpha[1])))


EarlyExit = str | Path | ExitRule
"""A rule; its file; or one of the plain kinds in short: `fixed:18`, `top_prob:0.9`, `label_prob:0.9`."""


def write_rule(path: Path, rule: ExitRule) -> None:
    """Writes a rule, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(path, json.dumps(to_json(rule), indent=1) + "\n")


def read_rule(given: EarlyExit, stacks: ExitStacks | None, numbers: str, *, labels: bool = False) -> ExitRule:
    """The rule that a caller means, for one bundle.

    Args:
        given: a rule, a file, or one in short.
        stacks: segments of the variant that runs; None where it has none.
        numbers: digest of its weights.
        labels: whether an answer is one of some labels, so that a rule may read their chances.

    Raises:
        UnsupportedOption: the bundle has no exits, or the rule cannot be read, or suits another bundle.
    """
    if stacks is None:
        raise UnsupportedOption(
            "the bundle has no exits; convert it with --exits 12,18,24, say, or leave early_exit out"
        )
    inner = stacks.exits[:-1]
    if isinstance(given, ExitRule):
        rule = given
    elif isinstance(given, Path):
        rule = _read_file(given)
    elif isinstance(given, str) and given:
        rule = _in_short(given, inner) or _read_file(Path(given))
    else:
        raise UnsupportedOption(f"early_exit is {quoted(given)}, expected a rule, its file or fixed:BLOCK")
    strange = [exit_ for exit_ in rule.exits if exit_ not in inner]
    if strange:
        raise UnsupportedOption(
            f"the rule leaves after block {strange[0]}, the bundle can be left after "
            f"{', '.join(map(str, inner))}; {_TRAIN}"
        )
    if rule.numbers not in ("", numbers):
        raise UnsupportedOption(f"the rule was made for a bundle with other weights; {_TRAIN} for this one")
    if rule.needs_labels and not labels:
        raise UnsupportedOption(
            "the rule reads the chances of labels, which an answer that is written has not; make one with: "
            "edgesdk train exits --head all, or take fixed:BLOCK or top_prob:CHANCE"
        )
    if rule.needs_labels and not stacks.labels:
        raise UnsupportedOption(
            "the rule reads a head over labels, which the bundle has not; convert it again with --exits, or "
            "make a rule with: edgesdk train exits --head all"
        )
    return rule


def _in_short(text: str, exits: tuple[int, ...]) -> ExitRule | None:
    """A rule such as `fixed:18`; None for what is none.

    Raises:
        UnsupportedOption: the number in it has no meaning.
    """
    kind, colon, value = text.partition(":")
    if not colon or kind not in ("fixed", "top_prob", "label_prob"):
        return None
    try:
        if kind == "fixed":
            return ExitRule("fixed", (int(value),))
        threshold = float(value)
    except ValueError:
        threshold = math.nan
    if kind != "fixed" and 0 < threshold <= 1:
        return ExitRule("top_prob", exits, threshold, head="labels" if kind == "label_prob" else "all")
    expected = f"one of {', '.join(map(str, exits))}" if kind == "fixed" else "above 0 and at most 1"
    raise UnsupportedOption(f"early_exit is {quoted(text)}, expected {kind}:NUMBER, {expected}")


def _read_file(path: Path) -> ExitRule:
    """Reads a rule.

    Raises:
        UnsupportedOption: it cannot be read, or is none of this version.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UnsupportedOption(f"{path} is larger than {_MOST_BYTES >> 20} MiB, so it is no rule")
        return from_json(ExitRule, json.loads(data), str(path))
    except OSError as error:
        raise UnsupportedOption(f"the rule {path} cannot be read: {error.strerror}; {_TRAIN}") from error
    except BundleError as error:
        raise UnsupportedOption(f"{path} is no rule of this version: {first_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UnsupportedOption(f"{path} is no rule for exits; {_TRAIN}") from error
