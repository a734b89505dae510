"""Canonical weights read from a checkpoint's tensors, checked by name and shape before any is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.errors import CheckpointError, TransformError
from edgesdk_converters.architectures.architecture import Architecture, WeightNames
from edgesdk_converters.architectures.combine import Combine, Copy
from edgesdk_converters.checkpoints.checkpoint import Checkpoint, TensorStore
from edgesdk_converters.checkpoints.stored_blocks import BlockStore, BlockType, StoredBlocks, block_type
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.weights import Array

_LAYER = re.compile(r"^layers\.(\d+)\.")
# Integers say nothing without the scales that they were made with.
_INTEGERS = frozenset({"I64", "U64", "I32", "U32", "I16", "U16", "I8", "U8", "BOOL"})
_COMPARED_ROWS = 4096


@dataclass(frozen=True)
class WeightSource:
    """Where one canonical weight comes from.

    Attributes:
        tensor: stored name.
        shape: of the canonical weight.
        combine: how its rows come out of the stored tensor.
    """

    tensor: str
    shape: tuple[int, ...]
    combine: Combine


class WeightMap:
    """A checkpoint's tensors under canonical names: a `Weights` that reads only what is asked for."""

    def __init__(self, tensors: TensorStore, sources: Mapping[str, WeightSource]) -> None:
        """Reads `sources` from `tensors`; `map_weights` has checked that they are there."""
        self.tensors = tensors
        self._sources = dict(sources)

    def __iter__(self) -> Iterator[str]:
        """All names, in the order of the graph."""
        return iter(self._sources)

    def source(self, name: str) -> WeightSource:
        """Where a weight comes from.

        Raises:
            TransformError: there is no such weight.
        """
        try:
            return self._sources[name]
        except KeyError:
            raise TransformError(f"the decoder has no weight named {name!r}") from None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight, without reading it."""
        return self.source(name).shape

    def load(self, name: str) -> Array:
        """One weight as a new float32 array."""
        return self.load_rows(name, 0, self.shape(name)[0])

    def has_rows(self, name: str) -> bool:
        """Whether some rows of a weight cost less than all: always."""
        return name in self._sources

    def load_rows(self, name: str, start: int, stop: int) -> Array:
        """Rows [start, stop) of a weight as a new float32 array, reading few others.

        Raises:
            TransformError: there is no such weight, or it has no such rows.
        """
        source = self.source(name)
        if not 0 <= start < stop <= source.shape[0]:
            raise TransformError(
                f"{name!r} has {source.shape[0]} rows; rows {start} to {stop} were asked for"
            )
        rows = source.combine.source_rows(source.shape[0])[start:stop]
        first, last = int(rows.min()), int(rows.max())
        if first == 0 and last + 1 == self.tensors.shape(source.tensor)[0]:
            values = self.tensors.load(source.tensor)
        else:
            values = self.tensors.load_rows(source.tensor, first, last + 1)
        if (np.diff(rows) != 1).any():
            values = values[rows - first]
        values = source.combine.columns(values)
        return values + np.float32(source.combine.offset) if source.combine.offset else values

    def stored_type(self, name: str) -> str:
        """The file's own type name of the tensor that a weight comes from."""
        return self.tensors.stored_type(self.source(name).tensor)

    def tensor_names(self, name: str) -> tuple[str, ...]:
        """The file's name of the tensor that a weight comes from."""
        return (self.source(name).tensor,)

    def block_type(self, name: str) -> BlockType | None:
        """How a weight lies in blocks, without reading it; None if it does not."""
        source = self.source(name)
        return None if source.combine.offset else block_type(self.tensors, source.tensor)

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A weight's blocks, its rows picked and ordered as in `load`.

        Raises:
            CheckpointError: it has none, or holds numbers that are not finite.
        """
        source = self.source(name)
        if not isinstance(self.tensors, BlockStore) or self.block_type(name) is None:
            raise CheckpointError(f"the checkpoint does not store {name!r} in blocks")
        blocks = self.tensors.stored_blocks(source.tensor)
        rows = source.combine.source_rows(source.shape[0])
        whole = len(rows) == len(blocks.values) and bool((np.diff(rows) == 1).all())
        return blocks if whole else blocks.take_rows(rows)


def map_weights(checkpoint: Checkpoint, spec: DecoderSpec, architecture: Architecture) -> WeightMap:
    """Finds every weight of a decoder in a checkpoint.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or is there without being known; or
            the head is said to be the embedding table and is not.
    """
    if checkpoint.dialect not in architecture.names:
        raise CheckpointError(
            f"{checkpoint.dialect} files of {architecture.name} are not known; give its Hugging Face folder"
        )
    names, tensors = architecture.names[checkpoint.dialect], checkpoint.tensors
    sources = {
        weight.name: find_source(names, spec, weight.name, tuple(int(d) for d in weight.shape))
        for weight in build_decoder(spec).weights
    }
    if spec.tied_head:
        sources = _take_other_name(sources, names, tensors)
    for name, source in sources.items():
        expected = source.combine.source_shape(source.shape)
        if source.tensor not in tensors:
            raise CheckpointError(
                f"the tensor {source.tensor!r} is missing; {spec.architecture} with this configuration needs "
                f"it, of shape {expected}, for {name}{_hint(name)}"
            )
        if tensors.shape(source.tensor) != expected:
            raise CheckpointError(
                f"the tensor {source.tensor!r} has shape {tensors.shape(source.tensor)}, but the "
                f"configuration says {expected}; file and configuration do not belong together"
            )
        if tensors.stored_type(source.tensor) in _INTEGERS:
            raise CheckpointError(
                f"the tensor {source.tensor!r} is of type {tensors.stored_type(source.tensor)}, expected "
                "floating point numbers; if others have quantised it, give the checkpoint that it was made "
                "from, or a GGUF file of the model"
            )
    _refuse_unexpected(tensors, names, spec, {source.tensor for source in sources.values()})
    embed, head = names.tensors["embed"], names.tensors["head"]
    if spec.tied_head and head in tensors and embed in tensors:
        _require_equal(tensors, embed, head)
    return WeightMap(tensors, sources)


def _take_other_name(
    sources: Mapping[str, WeightSource], names: WeightNames, tensors: TensorStore
) -> dict[str, WeightSource]:
    """Reads the one table of a tied model from its head's name, where a file kept that one of the two."""
    embed, head = names.tensors["embed"], names.tensors["head"]
    if embed in tensors or head not in tensors:
        return dict(sources)
    return {
        name: replace(source, tensor=head) if source.tensor == embed else source
        for name, source in sources.items()
    }


def _hint(name: str) -> str:
    if name != "head":
        return ""
    return "; if the embedding table is the head too, set tie_word_embeddings to true"


def find_source(names: WeightNames, spec: DecoderSpec, target: str, shape: tuple[int, ...]) -> WeightSource:
    """Where files of one naming convention have a canonical weight.

    Args:
        names: of the convention.
        spec: the decoder.
        target: canonical name.
        shape: of the weight.

    Raises:
        CheckpointError: such files have no tensor for it.
    """
    layer = _LAYER.match(target)
    template = target if layer is None else _LAYER.sub("layers.{i}.", target)
    stored = names.tensors.get(template)
    if stored is None:
        raise CheckpointError(
            f"{spec.architecture} files have no tensor for {target}; check the configuration"
        )
    combine = names.combine.get(template, Copy())
    if not isinstance(combine, Copy):  # every combine is one
        if layer is None:
            raise CheckpointError(f"{target} belongs to no block whose sizes its rows could depend on")
        combine = combine(spec.block(int(layer[1])))
    return WeightSource(stored if layer is None else stored.replace("{i}", layer[1]), shape, combine)


def _refuse_unexpected(tensors: TensorStore, names: WeightNames, spec: DecoderSpec, used: set[str]) -> None:
    ignored = [pattern for pattern, when in names.unused.items() if when(spec)]
    if spec.tied_head:
        ignored.append(names.tensors["head"])
    unexpected = [
        name
        for name in tensors
        if name not in used and not any(fnmatchcase(name, pattern) for pattern in ignored)
    ]
    if unexpected:
        more = f" and {len(unexpected) - 1} more" if len(unexpected) > 1 else ""
        raise CheckpointError(
            f"the checkpoint has the tensor {unexpected[0]!r}{more}, which {spec.architecture} with this "
            "configuration does not use; it may change the model, so it is not ignored"
        )


def _require_equal(tensors: TensorStore, embed: str, head: str) -> None:
    """A tied checkpoint may store its head again; an own head under that flag would be lost silently."""
    V = tensors.shape(embed)[0]
    same = tensors.shape(head) == tensors.shape(embed) and all(
        np.array_equal(
            tensors.load_rows(embed, start, min(start + _COMPARED_ROWS, V)),
            tensors.load_rows(head, start, min(start + _COMPARED_ROWS, V)),
        )
        for start in range(0, V, _COMPARED_ROWS)
    )
    if not same:
        raise CheckpointError(
            f"the configuration ties the head to the embedding table, but {head!r} differs from {embed!r}; "
            "set tie_word_embeddings to false"
        )
