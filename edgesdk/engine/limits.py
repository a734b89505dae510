"""What an engine may be limited to, checked before a model is loaded for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgesdk.decoding.option_types import flag, number, whole_number
from edgesdk.errors import UnsupportedOption, quoted

_MOST = 1 << 20


@dataclass(frozen=True)
class EngineLimits:
    """The limits that `Engine` describes, as plain values.

    Attributes:
        max_queue: most requests that wait for their first step.
        max_running: most answers that run at once.
        tbt_target_ms: limit for the time between tokens.
        token_budget: most tokens of a step in which something decodes.
        prefix_cache_mb: most MiB of cells kept for later prompts.
        chunked: whether prompts run in pieces.
        hybrid: whether a step mixes prompts and decodes.
        check_steps: whether the accounts are checked after every step.
    """

    max_queue: int
    max_running: int | None
    tbt_target_ms: float | None
    token_budget: int | None
    prefix_cache_mb: float | None
    chunked: bool
    hybrid: bool
    check_steps: bool

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the limit.
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
