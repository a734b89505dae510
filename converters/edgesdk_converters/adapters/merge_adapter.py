"""Merges adapters into a checkpoint: the result is a checkpoint like any other, and nothing is computed yet.

Files of an adapter and of its model may follow different naming conventions, fuse matrices, and order rows in
their own way: both are looked up by the canonical weights of the decoder, so every adapter goes with every
file of its model. All that does not fit is named in one message.

The head of a tied model is its embedding table. PEFT changes one of the two without the other (unless
`ensure_weight_tying` says so), so the merged model has both where they differ.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.adapters.adapter import MERGE_OPTION, Adapter, AdapterRequest, listed
from edgesdk_converters.adapters.merged_tensors import Change, MergedTensors
from edgesdk_converters.adapters.read_adapter import read_adapter
from edgesdk_converters.architectures.registry import find_architecture, read_spec, weights_for
from edgesdk_converters.architectures.weight_map import WeightSource, find_source
from edgesdk_converters.checkpoints.checkpoint import Checkpoint

_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")
_COMPARED_ROWS = 4096
_TABLES = ("embed", "head")


@dataclass(frozen=True)
class Place:
    """Where a canonical weight is in the model's file, and where in the adapter's."""

    stored: WeightSource
    given: WeightSource


def merge_adapters(
    checkpoint: Checkpoint, requests: Sequence[AdapterRequest]
) -> tuple[Checkpoint, tuple[TransformRecord, ...]]:
    """Merges adapters one after the other.

    Args:
        checkpoint: the model that they were trained on.
        requests: which, and how strongly.

    Returns:
        The checkpoint with changed tensors, and a record of each adapter.

    Raises:
        CheckpointError: an adapter cannot be read or does not fit the model.
        UnsupportedOption: a scale is given to an adapter that cannot have one.
        MissingExtra: the gguf package is not installed.
    """
    records = []
    for request in requests:
        adapter = read_adapter(request.path)
        checkpoint = merge_adapter(checkpoint, adapter, request.scale)
        digest = adapter.file.sha256
        records.append(
            TransformRecord(
                "merge_adapter", {"adapter": adapter.name, "scale": request.scale, "sha256": digest}
            )
        )
    return checkpoint, tuple(records)


def merge_adapter(checkpoint: Checkpoint, adapter: Adapter, scale: float = 1.0) -> Checkpoint:
    """Merges one adapter.

    Args:
        checkpoint: the model that it was trained on.
        adapter: what it changes.
        scale: by which its low-rank changes are multiplied, beside their own scale.

    Raises:
        CheckpointError: it does not fit the model.
        UnsupportedOption: it replaces numbers or has magnitudes, and the scale is not 1.
    """
    _check_scale(adapter, scale)
    spec = read_spec(checkpoint.config)
    places = find_places(checkpoint, adapter)
    changes = {name: _changes(adapter, place, scale) for name, place in places.items()}
    if spec.tied_head and any(changes[name] for name in _TABLES):
        return _merge_tables(checkpoint, adapter, places, changes)
    return _merged(checkpoint, adapter, places, changes)


def find_places(checkpoint: Checkpoint, adapter: Adapter) -> dict[str, Place]:
    """Where every weight of a model is in its file and in an adapter's; a tied table is there twice.

    Raises:
        CheckpointError: the adapter does not fit the model.
    """
    spec = read_spec(checkpoint.config)
    names = find_architecture(spec.architecture).names
    if adapter.dialect not in names:
        raise CheckpointError(
            f"{adapter.name} is a {adapter.dialect} file, in which {spec.architecture} is not known; give it "
            "as PEFT saved it"
        )
    theirs, ours = names[adapter.dialect], names[checkpoint.dialect].tensors
    weights = weights_for(checkpoint, spec)
    places = {}
    for name in weights:
        stored = weights.source(name)
        places[name] = Place(stored, find_source(theirs, spec, name, stored.shape))
    if spec.tied_head:
        table = places["embed"]
        for name in _TABLES:
            given = dataclasses.replace(table.given, tensor=theirs.tensors[name])
            places[name] = Place(dataclasses.replace(table.stored, tensor=ours[name]), given)
    _check_fit(checkpoint, adapter, places)
    return places


def _merge_tables(
    checkpoint: Checkpoint,
    adapter: Adapter,
    places: Mapping[str, Place],
    changes: Mapping[str, tuple[Change, ...]],
) -> Checkpoint:
    """A tied model whose one table is changed: tied as before, where it comes out the same for both."""
    embed, head = (places[name].stored.tensor for name in _TABLES)
    copies = {embed: head} if embed not in checkpoint.tensors else {}
    if head not in checkpoint.tensors:
        copies = {head: embed}
    if adapter.ties_head:
        changes = {**changes, "head": changes["embed"] or changes["head"]}
        changes["embed"] = changes["head"]
    merged = _merged(checkpoint, adapter, places, changes, copies)
    rows = merged.tensors.shape(embed)[0]
    cuts = ((cut, min(cut + _COMPARED_ROWS, rows)) for cut in range(0, rows, _COMPARED_ROWS))
    tables = merged.tensors
    if all(np.array_equal(tables.load_rows(embed, *cut), tables.load_rows(head, *cut)) for cut in cuts):
        return merged
    note = f"{adapter.name} changes embedding table or head alone, so that the model has both, untied"
    config = {**merged.config, "tie_word_embeddings": False}
    return dataclasses.replace(merged, config=config, notes=(*merged.notes, note))


def _merged(
    checkpoint: Checkpoint,
    adapter: Adapter,
    places: Mapping[str, Place],
    changes: Mapping[str, tuple[Change, ...]],
    copies: Mapping[str, str] | None = None,
) -> Checkpoint:
    by_tensor: dict[str, tuple[Change, ...]] = {}
    for name, made in changes.items():
        if made:
            tensor = places[name].stored.tensor
            by_tensor[tensor] = (*by_tensor.get(tensor, ()), *made)
    tensors = MergedTensors(checkpoint.tensors, by_tensor, _kind(adapter), copies or {})
    return dataclasses.replace(checkpoint, tensors=tensors)


def _kind(adapter: Adapter) -> str:
    return "+".join(sorted({adapter.tensors.stored_type(name) for name in adapter.tensors}))


def _changes(adapter: Adapter, place: Place, scale: float) -> tuple[Change, ...]:
    """What an adapter does to a weight, whole rows first."""
    given, count, made = place.given.tensor, place.stored.shape[0], []
    rows, sources = (side.combine.source_rows(count) for side in (place.stored, place.given))
    if given in adapter.whole:
        tensor = adapter.whole[given]
        offset = place.given.combine.offset - place.stored.combine.offset
        made.append(
            Change(rows, sources, whole=lambda a, b: adapter.tensors.load_rows(tensor, a, b), offset=offset)
        )
    if given in adapter.low_rank:
        made.append(Change(rows, sources, low_rank=adapter.low_rank[given], scale=scale))
    if given in adapter.added:
        bias = adapter.added[given]
        of = adapter.low_rank[given.removesuffix(".bias") + ".weight"]
        made.append(
            Change(
                rows,
                sources,
                whole=lambda a, b: adapter.tensors.load_rows(bias, a, b),
                scale=of.scale * scale,
                adds=True,
            )
        )
    return tuple(made)


def _check_scale(adapter: Adapter, scale: float) -> None:
    absolute = replaced_tensors(adapter)
    if absolute and scale != 1:
        raise UnsupportedOption(
            f"{MERGE_OPTION} gives {adapter.name} the scale {scale:g}, but it replaces {listed(absolute)}, "
            "of which nothing can be scaled; leave the scale out"
        )


def replaced_tensors(adapter: Adapter) -> list[str]:
    """Tensors of the model that an adapter gives whole or with magnitudes, so that they have no scale."""
    # The table below a low-rank change of it, which PEFT saves besides, is the model's own.
    whole = [name for name in adapter.whole if name not in adapter.low_rank]
    return whole + [name for name, change in adapter.low_rank.items() if change.magnitude is not None]


def _check_fit(checkpoint: Checkpoint, adapter: Adapter, places: Mapping[str, Place]) -> None:
    """Refuses an adapter of another model.

    Raises:
        CheckpointError: naming every tensor that has no place, has another shape, or is missing.
    """
    shapes = {
        place.given.tensor: place.given.combine.source_shape(place.given.shape) for place in places.values()
    }
    found = {
        **{
            name: adapter.tensors.shape(tensor)
            for name, tensor in (*adapter.whole.items(), *adapter.added.items())
        },
        **{name: change.shape for name, change in adapter.low_rank.items()},
    }
    wrong = []
    rows = places["embed"].stored.shape[0]
    if adapter.vocabulary not in (None, rows):
        wrong.append(f"it was trained for a vocabulary of {adapter.vocabulary}, the model's is {rows}")
    for name, shape in found.items():
        if name not in shapes:
            wrong.append(f"the model has no {name}")
        elif shape != shapes[name]:
            wrong.append(f"{name} is {shape}, expected {shapes[name]}")
    if adapter.targets is not None:
        missing = (name for name in shapes if adapter.targets(name) and name not in adapter.low_rank)
        wrong += [f"{name} is to be changed and is missing" for name in missing]
    if wrong:
        grouped = Counter(_LAYER.sub("*", line) for line in wrong)
        lines = (f"{line} ({count} layers)" if count > 1 else line for line, count in grouped.items())
        raise CheckpointError(
            f"the adapter {adapter.name} does not belong to {checkpoint.name}: {listed(lines)}"
        )
