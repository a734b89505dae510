"""How an engine works, checked before a model is loaded for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypedDict, cast

from edgesdk.decoding.option_names import check_names
from edgesdk.decoding.option_types import flag, number, whole_number
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.load_options import LoadKeywords, LoadOptions

_MOST = 1 << 20


@dataclass(frozen=True)
class EngineOptions:
    """How an engine works.

    Attributes:
        max_queue: most requests that wait for their first step.
        max_running: most answers that run at once; None for as many as one step gives logits of.
        tbt_target_ms: limit for the time between tokens while prompts run beside them; None for four
            times the smallest step in which several answers decode. It takes about a second to find
            the budget that keeps it.
        token_budget: that budget, if it is known: most tokens of a step in which something decodes.
        prefix_cache_mb: most MiB of cells kept for prompts that begin like earlier ones; None for all
            that nothing else needs, 0 for none.
        chunked: run prompts in pieces; False is the baseline that the pieces are compared with.
        hybrid: mix prompts and decodes in a step; False is another such baseline.
        check_steps: check the accounts of the cells after every step; for tests.
    """

    max_queue: int = 64
    max_running: int | None = None
    tbt_target_ms: float | None = None
    token_budget: int | None = None
    prefix_cache_mb: float | None = None
    chunked: bool = True
    hybrid: bool = True
    check_steps: bool = False

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        checked: dict[str, object] = {"max_queue": whole_number("max_queue", self.max_queue, 1, _MOST)}
        for name in ("max_running", "token_budget"):
            if getattr(self, name) is not None:
                checked[name] = whole_number(name, getattr(self, name), 1, _MOST)
        for name in ("tbt_target_ms", "prefix_cache_mb"):
            value = getattr(self, name)
            if value is None:
                continue
            checked[name] = number(name, value)
            if not 0 <= number(name, value) < math.inf:
                raise UnsupportedOption(f"{name} is {quoted(value)}, expected 0 or more")
        for name in ("chunked", "hybrid", "check_steps"):
            checked[name] = flag(name, getattr(self, name))
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def prefix_bytes(self, most: int) -> int:
        """Most bytes that the prefix cache holds, of `most` that there are."""
        return most if self.prefix_cache_mb is None else int(min(most, self.prefix_cache_mb * (1 << 20)))


class OwnKeywords(TypedDict, total=False):
    """The fields of `EngineOptions`, as keywords; see there."""

    max_queue: int
    max_running: int | None
    tbt_target_ms: float | None
    token_budget: int | None
    prefix_cache_mb: float | None
    chunked: bool
    hybrid: bool
    check_steps: bool


class EngineKeywords(LoadKeywords, OwnKeywords, total=False):
    """The fields of `EngineOptions` and of `LoadOptions`, as keywords of `Engine`; see there."""


def split_keywords(keywords: Mapping[str, object]) -> tuple[EngineOptions, LoadKeywords]:
    """The engine's own of what a caller wrote, checked; and the rest, which is for `load`.

    Raises:
        UnsupportedOption: there is no such option, or one of the engine's has no meaning.
    """
    own = [field.name for field in fields(EngineOptions)]
    check_names(keywords, [*own, *(field.name for field in fields(LoadOptions))])
    mine = cast(OwnKeywords, {name: value for name, value in keywords.items() if name in own})
    rest = {name: value for name, value in keywords.items() if name not in own}
    return EngineOptions(**mine), cast(LoadKeywords, rest)
