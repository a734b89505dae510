"""Adapters that a bundle's files hold beside its weights, and which of them a request asks for.

Each is a gate of the step: for every token a factor of what it adds, 0 for none (docs/decisions/0026).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import cast

from edgesdk.errors import UnsupportedOption, quoted

AdapterChoice = str | Mapping[str, float] | None
"""An adapter by its name, several with a factor each, or none."""
Gates = tuple[float, ...]
"""A factor for every gate of a step; empty for a model without, or for none of them."""

MOST_ADAPTERS = 64
"""Of a file: each costs every step, whether it is used or not."""
ADAPTER_FILE_END = ".onnx_adapter"
INNER_INPUT, WRITTEN_INPUT = ".lora_A", ".lora_B"
"""What the two inputs of a product end in that such a file fills, as PEFT's tensors do; both are transposed,
as a product takes them."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGEST_FACTOR = 1e4


@dataclass(frozen=True)
class AdapterRecord:
    """One adapter in the files of a bundle.

    Attributes:
        name: by which requests ask for it.
        sha256: of the file that it was read from.
        gate: its place among the gates of a step.
        rank: the largest of its low-rank terms.
        products: how many of the model's products it adds to.
        scale: that its terms were written with, beside the file's own; a request's factor is on top of it.
        size_bytes: of its terms as float32.
    """

    name: str
    sha256: str
    gate: int
    rank: int
    products: int
    scale: float
    size_bytes: int

    def __post_init__(self) -> None:
        """Refuses what no adapter is called, and numbers that none has.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        if not is_adapter_name(self.name):
            raise ValueError(
                f"{self.name[:60]!r} names no adapter, expected letters, digits, . _ and -, not latest"
            )
        if not 0 <= self.gate < MOST_ADAPTERS:
            raise ValueError(f"gate of an adapter is {quoted(self.gate)}, expected 0 to {MOST_ADAPTERS - 1}")
        if self.rank < 1 or self.products < 1 or self.size_bytes < 1 or not math.isfinite(self.scale):
            raise ValueError(f"the adapter {self.name} has a rank, products, bytes or a scale that none has")


def is_adapter_name(text: str) -> bool:
    """Whether an adapter may be called so.

    Not `latest`: `MODEL:latest` is how clients of Ollama ask for the model itself.
    """
    return text != "latest" and _NAME.fullmatch(text) is not None


def adapter_file_name(record: AdapterRecord) -> str:
    """What the file of an adapter is called beside a model that keeps its adapters in files.

    The gate comes first, because names may differ in their case alone and file systems may not tell.
    """
    return f"{record.gate}-{record.name}{ADAPTER_FILE_END}"


def check_records(records: Sequence[AdapterRecord]) -> None:
    """Refuses two of one name, or of one gate, and more than a file has.

    Raises:
        ValueError: naming it.
    """
    if len(records) > MOST_ADAPTERS:
        raise ValueError(f"it has {len(records)} adapters, expected at most {MOST_ADAPTERS}")
    for what in ("name", "gate"):
        found = [getattr(record, what) for record in records]
        twice = [value for value in found if found.count(value) > 1]
        if twice:
            raise ValueError(f"two adapters have the {what} {twice[0]!r}")


def gates_of(records: Sequence[AdapterRecord], asked: AdapterChoice) -> Gates:
    """The gates of a request.

    Args:
        records: the bundle's adapters.
        asked: by whom the answer is to be written.

    Returns:
        A factor for every gate up to the last one that is not 0; empty for none of them.

    Raises:
        UnsupportedOption: there is no such adapter, or a factor is no number.
    """
    if asked is None:
        return ()
    wishes = {asked: 1.0} if isinstance(asked, str) else asked
    if not isinstance(wishes, Mapping):
        raise UnsupportedOption(
            f"adapter is {quoted(asked)}, expected a name, or a dict of names and factors"
        )
    known = {record.name: record.gate for record in records}
    factors: dict[int, float] = {}
    for name, factor in cast("Mapping[object, object]", wishes).items():
        if not isinstance(name, str) or name not in known:
            there = ", ".join(known) or "none; convert the model with --adapter"
            raise UnsupportedOption(f"the bundle has no adapter {quoted(name)}; there is {there}")
        is_number = isinstance(factor, Real) and not isinstance(factor, bool)
        # Compared as it is: NaN is not within, and an integer may be too large for a float.
        if not is_number or not abs(cast(float, factor)) <= _LARGEST_FACTOR:
            raise UnsupportedOption(f"the factor of adapter {name} is {quoted(factor)}, expected a number")
        factors[known[name]] = float(cast(float, factor))
    last = max((gate for gate, factor in factors.items() if factor), default=-1)
    return tuple(factors.get(gate, 0.0) for gate in range(last + 1))
