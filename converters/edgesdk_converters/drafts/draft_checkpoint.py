"""Checkpoints of trained drafts: a folder with `config.json` and `model.safetensors`, read strictly.

The one form, `recurrent`, has no cells. It starts from what the target's head reads and folds a token in at
each step (Recurrent Drafter, arXiv 2403.09919, section 3; Hydra, 2402.05109):

    s_0 = what the target's head reads         (E,), the output of its last norm, in the checkpoint's basis
    x   = [norm_s(s); norm_e(e(token))]        (2E,); e is the target's embedding
    s  += down(silu(gate x) * up x)            the first layer; further ones read norm(s)
    logits = head[vocabulary] . norm_o(s)      (V',); rows of the target's head, which are not stored

Letters: E hidden size, F width, V' tokens that it can propose. A folder may have `training.json` too, for
people. It does not know how drafts are trained or run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.bundle.records import JsonValue, from_json, to_json
from edgesdk.errors import BundleError, CheckpointError, UnsupportedOption, first_line
from edgesdk_converters.checkpoints.require_finite import require_finite
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk_converters.checkpoints.text_file import read_json
from edgesdk_converters.drafts.trained_folder import (
    CONFIG,
    WEIGHTS,
    NumberForm,
    Tensors,
    stored_as,
    write_trained,
)
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

FORMAT: Final = "edgesdk-draft"
VERSION: Final = 1
VOCABULARY = "vocabulary"
"""Name of the tensor of token ids."""

_MOST_LAYERS = 16
_MOST_DEPTH = 64
_STORED = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class DraftTarget:
    """The model that a draft was trained for.

    Attributes:
        architecture: as `DecoderSpec` has it.
        vocab_size: V.
        hidden_size: E.
        tokenizer: `tokenizer_digest` of its tokenizer.
        name: for people.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    tokenizer: str
    name: str

    def __post_init__(self) -> None:
        """Refuses sizes that no model has.

        Raises:
            ValueError: naming one; readers turn it into their own error.
        """
        for what in ("vocab_size", "hidden_size"):
            _expect_within(f"target.{what}", getattr(self, what), LARGEST_SIZE)


@dataclass(frozen=True)
class DraftConfig:
    """What a draft is.

    Attributes:
        hidden_size: E, of the target.
        width: F.
        layers: residual layers, at least 1; the first reads the token too.
        depth: tokens ahead that it was trained for.
        norm_eps: of its norms.
        target: what it was trained for.
        format, version, form: of the folder.
    """

    hidden_size: int
    width: int
    layers: int
    depth: int
    norm_eps: float
    target: DraftTarget
    format: Literal["edgesdk-draft"] = FORMAT
    version: Literal[1] = VERSION
    form: Literal["recurrent"] = "recurrent"

    def __post_init__(self) -> None:
        """Refuses what no draft can be.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        _expect_within("hidden_size", self.hidden_size, LARGEST_SIZE)
        _expect_within("width", self.width, LARGEST_SIZE // max(2 * self.hidden_size, 1))
        _expect_within("layers", self.layers, _MOST_LAYERS)
        _expect_within("depth", self.depth, _MOST_DEPTH)
        if not (math.isfinite(self.norm_eps) and self.norm_eps >= 0):
            raise ValueError(f"norm_eps is {self.norm_eps}, expected a number from 0")
        if self.hidden_size != self.target.hidden_size:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, its target's {self.target.hidden_size}; expected one"
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor but the vocabulary, by name."""
        E, F = self.hidden_size, self.width
        shapes: dict[str, tuple[int, ...]] = {f"norm_{x}.weight": (E,) for x in "seo"}
        for layer in range(self.layers):
            at, into = f"layers.{layer}", E if layer else 2 * E
            if layer:
                shapes[f"{at}.norm.weight"] = (E,)
            shapes |= {f"{at}.gate.weight": (F, into), f"{at}.up.weight": (F, into)}
            shapes[f"{at}.down.weight"] = (E, F)
        return shapes


@dataclass(frozen=True, eq=False)
class DraftCheckpoint:
    """A draft: what it is, its numbers, and the tokens that it can propose.

    Attributes:
        config: what it is.
        tensors: by name, shapes as `config.shapes` says.
        vocabulary: (V',) int32 token ids of the target, rising.
    """

    config: DraftConfig
    tensors: Tensors
    vocabulary: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Refuses what does not fit together.

        Raises:
            CheckpointError: a tensor is missing, unknown, of another shape or not finite; or ids do not rise
                within the target's vocabulary.
        """
        _check_shapes(self.config, {name: value.shape for name, value in self.tensors.items()})
        for name, value in self.tensors.items():
            require_finite(value, "the draft", name)
        ids, V = self.vocabulary, self.config.target.vocab_size
        if ids.ndim != 1 or not len(ids) or ids[0] < 0 or ids[-1] >= V or (ids[1:] <= ids[:-1]).any():
            raise CheckpointError(
                f"the draft's vocabulary is no list of rising token ids from 0 to {V - 1}; train it again"
            )


def tokenizer_digest(tokenizer: TokenizerFiles) -> str:
    """What tells one tokenizer from another: sha256 (hex) of its tokenizer.json, as bundles list the file."""
    return hashlib.sha256(tokenizer.tokenizer_json.encode()).hexdigest()


def read_draft(folder: Path) -> DraftCheckpoint:
    """Reads a draft.

    Args:
        folder: with `config.json` and `model.safetensors`.

    Raises:
        CheckpointError: a file is missing or damaged, or says what no draft is.
    """
    try:
        config = from_json(DraftConfig, read_json(folder / CONFIG), f"the draft's {CONFIG}")
    except BundleError as error:
        raise CheckpointError(f"{first_line(error, 300)}; {folder} is no draft of this version") from error
    stored = SafetensorsTensors([folder / WEIGHTS])
    shapes = {name: stored.shape(name) for name in stored}
    ids_shape = shapes.pop(VOCABULARY, None)
    if ids_shape is None or len(ids_shape) != 1:
        found = "none" if ids_shape is None else f"shape {ids_shape}"
        raise CheckpointError(f"the draft's tensor {VOCABULARY!r} has to be (V',) int32, found {found}")
    # Before anything is read: a stranger's file may name tensors of any size.
    _check_shapes(config, shapes)
    for name in shapes:
        if stored.stored_type(name) not in _STORED:
            raise CheckpointError(
                f"the draft's tensor {name!r} is of type {stored.stored_type(name)}, expected one of "
                f"{', '.join(_STORED)}"
            )
    tensors = {name: stored.load(name) for name in config.shapes}
    return DraftCheckpoint(config, tensors, stored.load_integers(VOCABULARY))


def write_draft(
    folder: Path,
    draft: DraftCheckpoint,
    training: Mapping[str, JsonValue] | None = None,
    *,
    numbers: NumberForm = "float32",
) -> None:
    """Writes a draft into a folder, which is made; each file appears whole or not at all, the weights first.

    Args:
        folder: where; a draft that is there is replaced.
        draft: what.
        training: for people: provenance, seed, data, licence, losses.
        numbers: how tensors are stored.

    Raises:
        CheckpointError: a file cannot be written, or a number is too large for its form.
        UnsupportedOption: there is no such form.
    """
    if numbers not in get_args(NumberForm):
        raise UnsupportedOption(f"numbers are {numbers!r}, expected {', '.join(get_args(NumberForm))}")
    stored = stored_as(draft.tensors, numbers, "store the draft as float32")
    tensors = {VOCABULARY: np.asarray(draft.vocabulary, np.int32), **stored}
    write_trained(folder, "draft", tensors, to_json(draft.config), training, form=FORMAT)


def _check_shapes(config: DraftConfig, found: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses tensors that a draft of this configuration does not have.

    Raises:
        CheckpointError: naming one.
    """
    expected = config.shapes
    odd = sorted(expected.keys() ^ found.keys())
    if odd:
        what = "has no" if odd[0] in expected else "has an unknown"
        raise CheckpointError(
            f"the draft {what} tensor {odd[0][:80]!r}, expected {len(expected)} and {VOCABULARY!r}; "
            "train or copy it again"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise CheckpointError(
                f"the draft's tensor {name!r} has the shape {found[name]}, its configuration says {shape}"
            )


def _expect_within(what: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{what} is {value}, expected 1 to {most}")
