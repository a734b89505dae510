"""What every reader of checkpoints returns: configuration, lazily read tensors, tokenizer, provenance.

It does not know architectures: `config` uses Hugging Face's key names whichever file it came from,
and tensors keep the names of their file (`dialect` says which convention those follow).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import EmbeddingRecord, GenerationDefaults, Source
from edgesdk.bundle.records import JsonValue
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

Dialect = Literal["huggingface", "gguf"]


class TensorStore(Protocol):
    """Tensors of a memory-mapped file or set of files; nothing is read before it is asked for.

    A store whose tensors lie in quantised blocks may be a `stored_blocks.BlockStore` too.
    """

    def __iter__(self) -> Iterator[str]:
        """Names, in file order."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order: a linear layer is (out, in).

        Raises:
            CheckpointError: there is no such tensor.
        """

    def stored_type(self, name: str) -> str:
        """The file's own type name: `BF16`, `F32`, `Q4_1`, ..."""

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array.

        Raises:
            CheckpointError: there is no such tensor.
        """

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array, reading no others."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint opened for conversion.

    Attributes:
        name: for people, e.g. `SmolLM2-135M-Instruct`.
        config: the model's configuration with Hugging Face's keys (`model_type`, `hidden_size`, ...).
        dialect: naming convention of `tensors`.
        tensors: the weights.
        tokenizer: tokenizer and template.
        generation: recommended sampling.
        source: provenance with digests.
        licence: SPDX-like name, when the checkpoint says.
        embedding: how it embeds texts, for a model that was trained to.
        projection: (W, E) float32, which its states are put through behind the last norm; None without.
        notes: what was decided or left out in reading it, a line each.
    """

    name: str
    config: Mapping[str, JsonValue]
    dialect: Dialect
    tensors: TensorStore
    tokenizer: TokenizerFiles
    generation: GenerationDefaults
    source: Source
    licence: str | None
    notes: tuple[str, ...] = ()
    embedding: EmbeddingRecord | None = None
    projection: NDArray[np.float32] | None = None
