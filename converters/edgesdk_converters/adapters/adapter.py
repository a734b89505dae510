"""An adapter as its file has it: low-rank changes and whole tensors, by the names of the model's own tensors.

A low-rank change of a matrix W (out, in) is `W + scale * B A` (Hu et al., LoRA, section 4.1). With a
magnitude m, one number an output, it is `m (W + scale * B A) / |W + scale * B A|`, norms taken by row (Liu et
al., DoRA, section 4.1). It knows no file format and no architecture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.adapter_record import is_adapter_name
from edgesdk.bundle.manifest import SourceFile
from edgesdk.bundle.printable import printable
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk_converters.checkpoints.checkpoint import Dialect, TensorStore

Float = NDArray[np.float32]
MERGE_OPTION = "--merge-adapter"
RUN_OPTION = "--adapter"
_MOST_SHOWN = 12
_LONGEST_NAME = 160


@dataclass(frozen=True)
class LowRank:
    """The change of one matrix.

    Attributes:
        a: (r, in) float32.
        b: (out, r) float32.
        scale: that the file gives `b @ a`.
        magnitude: (out,) float32 of DoRA; None without.
    """

    a: Float
    b: Float
    scale: float
    magnitude: Float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix that it changes: (out, in)."""
        return self.b.shape[0], self.a.shape[1]


@dataclass(frozen=True)
class Adapter:
    """What an adapter changes.

    Attributes:
        name: for people.
        dialect: naming convention of the tensors that it changes.
        tensors: its file.
        low_rank: tensor of the model -> its change.
        added: biases of the model -> the tensor of the file that is added.
        whole: tensor of the model -> the tensor of the file that replaces it.
        targets: whether the adapter says of a matrix that it changes it; None if it does not say.
        ties_head: a change of a tied embedding table is one of the head, too.
        file: with its digest.
        vocabulary: rows of the tables of the model that it was trained for; None where no file says so.
    """

    name: str
    dialect: Dialect
    tensors: TensorStore
    low_rank: Mapping[str, LowRank]
    added: Mapping[str, str]
    whole: Mapping[str, str]
    targets: Callable[[str], bool] | None
    ties_head: bool
    file: SourceFile
    vocabulary: int | None = None


@dataclass(frozen=True)
class AdapterRequest:
    """An adapter to merge, or to be written beside the weights.

    Attributes:
        path: a directory as PEFT writes it, or a GGUF file.
        scale: by which its low-rank changes are multiplied, beside the scale that it has.
        name: by which requests ask for it; None for its own.
    """

    path: Path
    scale: float = 1.0
    name: str | None = None


def parse_named_adapter(text: str) -> AdapterRequest:
    """Reads `PATH`, `PATH:SCALE`, or either behind `NAME=`.

    Raises:
        UnsupportedOption: as `parse_adapter`, or an adapter cannot be called so.
    """
    before, equals, after = text.partition("=")
    if not equals or os.path.lexists(text):  # a name may hold an equals sign
        return parse_adapter(text, RUN_OPTION)
    if not is_adapter_name(before):
        raise UnsupportedOption(
            f"{RUN_OPTION} names an adapter {quoted(before)}, expected letters, digits, . _ and -, at most "
            "64, and not latest"
        )
    return replace(parse_adapter(after, RUN_OPTION), name=before)


def parse_adapter(text: str, option: str = MERGE_OPTION) -> AdapterRequest:
    """Reads `PATH` or `PATH:SCALE`.

    Args:
        text: as it was given.
        option: for which.

    Raises:
        UnsupportedOption: there is nothing of that name, or the scale is none.
    """
    path, scale = text, 1.0
    before, _, after = text.rpartition(":")
    if before and not os.path.lexists(text):  # a name may hold a colon
        try:
            path, scale = before, float(after)
        except ValueError:
            path = text
    if not math.isfinite(scale) or scale == 0:
        raise UnsupportedOption(
            f"{option} gives {printable(path)} the scale {scale:g}; expected a number other than 0"
        )
    if not os.path.exists(path):  # which, unlike Path's, never raises
        raise UnsupportedOption(
            f"{option} names {quoted(path, 200)}, which is neither a folder nor a file; give an "
            "adapter's folder or GGUF file, and after a colon its scale if it is not 1"
        )
    return AdapterRequest(Path(path), scale)


def listed(names: Iterable[str]) -> str:
    """Names for one line of a message: many are cut, and said to be."""
    every = [printable(name[:_LONGEST_NAME]) for name in names]
    more = f" and {len(every) - _MOST_SHOWN} more" if len(every) > _MOST_SHOWN else ""
    return ", ".join(every[:_MOST_SHOWN]) + more
