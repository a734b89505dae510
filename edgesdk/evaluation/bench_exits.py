"""What early exits bring an answer: the same prompt with and without, in turn."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from edgesdk.decoding.completion import Completion
from edgesdk.dispatch.exit_rule import EarlyExit
from edgesdk.dispatch.exit_sequence import ExitFigures
from edgesdk.errors import DeviceError
from edgesdk.model import Model

_PROMPT = "Write a story about a ship that is lost at sea."


@dataclass(frozen=True)
class ExitsReport:
    """An answer with and without early exits.

    Attributes:
        new_tokens: of each answer.
        plain_tokens_per_s: decode speed without, the median of the rounds.
        early_tokens_per_s: with.
        speedup: the median over rounds of the one over the other.
        same_tokens: how many tokens the two answers begin with alike.
        figures: how early tokens left.
    """

    new_tokens: int
    plain_tokens_per_s: float
    early_tokens_per_s: float
    speedup: float
    same_tokens: int
    figures: ExitFigures


def measure_exits(model: Model, early_exit: EarlyExit, new_tokens: int, repeat: int) -> ExitsReport:
    """Answers a prompt greedily, after one round that is not counted.

    Args:
        model: loaded without drafts, from a bundle with exits.
        early_exit: the rule.
        new_tokens: of each answer.
        repeat: counted rounds.

    Raises:
        UnsupportedOption: the bundle has no exits, or the rule suits another one.
        CapacityError: the answer does not fit the context.
        DeviceError: the backend fails.
    """
    ids = model.render_prompt(_PROMPT)
    rounds = [
        (_answer(model, ids, None, new_tokens), _answer(model, ids, early_exit, new_tokens))
        for _ in range(repeat + 1)
    ][1:]
    plain, early = rounds[-1]
    pairs = zip(plain.tokens, early.tokens, strict=True)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(plain.tokens))
    if early.exits is None:
        raise DeviceError("an answer with early exits says nothing of them; please report this")
    speeds = [(one.decode_tokens_per_s or 0.0, other.decode_tokens_per_s or 0.0) for one, other in rounds]
    return ExitsReport(
        new_tokens=new_tokens,
        plain_tokens_per_s=statistics.median(one for one, _ in speeds),
        early_tokens_per_s=statistics.median(other for _, other in speeds),
        speedup=statistics.median(other / one if one else 0.0 for one, other in speeds),
        same_tokens=same,
        figures=early.exits,
    )


def _answer(model: Model, ids: list[int], rule: EarlyExit | None, new_tokens: int) -> Completion:
    return model.generate(ids, early_exit=rule, max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
