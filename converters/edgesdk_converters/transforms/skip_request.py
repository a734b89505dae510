"""The grammar of `--skip-layers`: which blocks, or halves of blocks, a stack goes without.

    20-23            four whole blocks
    5.attention      the attention half of block 5
    3,7.mlp,20-23    any mixture

Blocks are numbered from 0, as in the checkpoint, also in a stack that has lost some already. It knows
no model: whether a stack has these halves is asked when they are removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from edgesdk.bundle.decoder_spec import Half, HalfKind
from edgesdk.errors import UnsupportedOption

_PART = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:\.(attention|mlp))?", re.ASCII)
_GRAMMAR = "expected for example 20-23 or 3,5.attention,7.mlp"
_KINDS: tuple[HalfKind, HalfKind] = ("attention", "mlp")


@dataclass(frozen=True)
class SkipRequest:
    """What to remove.

    Attributes:
        halves: in the order in which they run, each once.
    """

    halves: tuple[Half, ...] = ()

    def __post_init__(self) -> None:
        """Puts halves in order and drops repetitions."""
        object.__setattr__(self, "halves", tuple(sorted(set(self.halves))))

    def __or__(self, other: SkipRequest) -> SkipRequest:
        """What either removes."""
        return SkipRequest((*self.halves, *other.halves))

    def describe(self) -> str:
        """The request in its grammar, ranges joined: `5.attention,20-23`; empty for nothing."""
        kinds: dict[int, list[HalfKind]] = {}
        for half in self.halves:
            kinds.setdefault(half.layer, []).append(half.kind)
        runs: list[tuple[int, int, str]] = []
        for layer, found in kinds.items():
            suffix = "" if len(found) == len(_KINDS) else f".{found[0]}"
            if runs and runs[-1][1:] == (layer - 1, suffix):
                runs[-1] = (runs[-1][0], layer, suffix)
            else:
                runs.append((layer, layer, suffix))
        return ",".join(
            f"{first}{suffix}" if first == last else f"{first}-{last}{suffix}" for first, last, suffix in runs
        )


def whole_blocks(layers: Iterable[int]) -> SkipRequest:
    """A request for blocks with both halves."""
    return SkipRequest(tuple(Half(layer, kind) for layer in layers for kind in _KINDS))


def parse_skip(text: str) -> SkipRequest:
    """Parses the value of `--skip-layers`.

    Raises:
        UnsupportedOption: it is not in the grammar above.
    """
    halves: list[Half] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise UnsupportedOption(f"skip-layers has {part[:40]!r}; {_GRAMMAR}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UnsupportedOption(f"skip-layers has {part[:40]!r}, which counts down; {_GRAMMAR}")
        kinds = _KINDS if match[3] is None else (cast(HalfKind, match[3]),)
        halves += [Half(layer, kind) for layer in range(first, last + 1) for kind in kinds]
    return SkipRequest(tuple(halves))
