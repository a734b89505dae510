"""Adapters that are written beside the weights, to be asked for by requests: as gated terms of low rank.

Each gets a gate, in the order in which they are given. Files are looked up by the canonical weights of the
decoder, as for merging, so every adapter goes with every file of its model. What is no low-rank change of a
product (whole tensors, biases, magnitudes, embedding tables) can only be merged, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.bundle.adapter_record import MOST_ADAPTERS, AdapterRecord, is_adapter_name
from edgesdk.errors import CheckpointError, UnsupportedOption, quoted
from edgesdk_converters.adapters.adapter import MERGE_OPTION, RUN_OPTION, Adapter, AdapterRequest, listed
from edgesdk_converters.adapters.merge_adapter import Place, find_places, replaced_tensors
from edgesdk_converters.adapters.read_adapter import read_adapter
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.graph.low_rank_term import LowRankTerm
from edgesdk_converters.graph.weights import Array


@dataclass(frozen=True)
class RuntimeAdapters:
    """What is added to a program.

    Attributes:
        terms: by canonical weight, those of all adapters as one.
        records: of each, for the manifest.
    """

    terms: Mapping[str, LowRankTerm]
    records: tuple[AdapterRecord, ...]


@dataclass(frozen=True)
class _Factors:
    """A (r, in) and B (out, r) of one adapter, its rows and columns in the order of the canonical weight."""

    inner: Array
    written: Array


def read_runtime_adapters(checkpoint: Checkpoint, requests: Sequence[AdapterRequest]) -> RuntimeAdapters:
    """Reads adapters for a model.

    Args:
        checkpoint: the model that they were trained on.
        requests: which, how strongly, and by what names.

    Raises:
        CheckpointError: one cannot be read, does not fit the model, or can only be merged.
        UnsupportedOption: two have one name, one has a name that none may have, or there are too many.
        MissingExtra: the gguf package is not installed.
    """
    if len(requests) > MOST_ADAPTERS:
        raise UnsupportedOption(f"{len(requests)} adapters are given, expected at most {MOST_ADAPTERS}")
    every: list[Mapping[str, _Factors]] = []
    records: list[AdapterRecord] = []
    for gate, request in enumerate(requests):
        adapter = read_adapter(request.path)
        name = adapter.name if request.name is None else request.name
        if not is_adapter_name(name):
            raise UnsupportedOption(
                f"{RUN_OPTION} names no adapter {quoted(name)}; put a name before the path, as in style=PATH"
            )
        if any(record.name == name for record in records):
            raise UnsupportedOption(
                f"{RUN_OPTION} gives two adapters the name {name}; put a name before a path, as in style=PATH"
            )
        found = _factors(checkpoint, adapter, request.scale)
        every.append(found)
        records.append(
            AdapterRecord(
                name,
                adapter.file.sha256,
                gate,
                rank=max(len(factors.inner) for factors in found.values()),
                products=len(found),
                scale=request.scale,
                size_bytes=sum(f.inner.nbytes + f.written.nbytes for f in found.values()),
            )
        )
    names = dict.fromkeys(name for found in every for name in found)
    terms = {name: _joined([found.get(name) for found in every]) for name in names}
    return RuntimeAdapters(terms, tuple(records))


def _factors(checkpoint: Checkpoint, adapter: Adapter, scale: float) -> dict[str, _Factors]:
    absolute = [*replaced_tensors(adapter), *adapter.added]
    if absolute:
        raise CheckpointError(
            f"the adapter {adapter.name} replaces or shifts {listed(absolute)}, which no factor of a request "
            f"can undo; merge it with {MERGE_OPTION}"
        )
    tied = read_spec(checkpoint.config).tied_head
    found = {}
    for name, place in find_places(checkpoint, adapter).items():
        if place.given.tensor not in adapter.low_rank:
            continue
        if name == "embed" or name.startswith("layer_inputs.embed") or (tied and adapter.ties_head):
            raise CheckpointError(
                f"the adapter {adapter.name} changes the embedding table {place.given.tensor}, which is "
                f"looked up and not multiplied with; merge it with {MERGE_OPTION}"
            )
        # The head of a tied model is the table, under a name of its own in the adapter.
        found["embed" if tied and name == "head" else name] = _read(adapter, place, scale)
    if not found:
        raise CheckpointError(f"the adapter {adapter.name} changes no product of {checkpoint.name}")
    return found


def _read(adapter: Adapter, place: Place, scale: float) -> _Factors:
    change = adapter.low_rank[place.given.tensor]
    rows = place.given.combine.source_rows(place.stored.shape[0])
    with np.errstate(over="ignore", invalid="ignore"):
        written = change.b[rows] * np.float32(change.scale * scale)
    for array in (change.a, written):
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{adapter.name} holds numbers for {place.given.tensor} that are not finite, or its scale is "
                "too large"
            )
    return _Factors(change.a, written)


def _joined(found: Sequence[_Factors | None]) -> LowRankTerm:
    there = [factors for factors in found if factors is not None]
    return LowRankTerm(
        tuple(0 if factors is None else len(factors.inner) for factors in found),
        np.concatenate([factors.inner for factors in there]),
        np.concatenate([factors.written for factors in there], axis=1),
    )
