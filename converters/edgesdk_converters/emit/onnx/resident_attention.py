"""Attention of the resident model: one GroupQueryAttention per layer, its cache updated in place.

The operator rotates, appends to the cache and masks (causal, with a window) by itself. Its CPU kernel
(ONNX Runtime 1.31) rotates heads of a multiple of 16 channels, and a multiple of 16 of those; other
rotations are made before it by RotaryEmbedding.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk_converters.emit.onnx.resident_state import CONTRIB, ResidentLowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Attend
from edgesdk_converters.graph.rotary import rotary_table, table_name

HEAD_MULTIPLE = 8
"""GroupQueryAttention refuses heads whose size is no multiple of it."""

LAST_POSITIONS, TOTAL_LENGTH, POSITIONS = "last_positions", "total_length", "token_positions"
_ROTATED_MULTIPLE = 16


def lower_lengths(state: ResidentLowering) -> None:
    """Appends what every layer's attention reads: last position per sequence, and the total length."""
    model = state.model
    ones = model.node("ReduceSum", ["attention_mask", model.integers([1])], ["lengths"], {"keepdims": 0})
    last = model.node("Sub", [ones, model.integers([1])], ["last_positions.int64"])
    model.node("Cast", [last], [LAST_POSITIONS], {"to": 6})
    width = model.node("Shape", ["attention_mask"], ["total_length.int64"], {"start": 1, "end": 2})
    model.node("Cast", [width], [TOTAL_LENGTH], {"to": 6})


def lower_attend(state: ResidentLowering, node: Node) -> None:
    """Appends the operators of an `Attend` node."""
    op, model = cast(Attend, node.op), state.model
    query, key, value = (_resolve(state, name) for name in node.inputs[:3])
    (_, heads, size), (kv_heads, *_) = (state.graph.values[name].shape for name in node.inputs[:2])
    rotations = [state.rotations.get(query), state.rotations.get(key)]
    inside = _rotated_inside(rotations, int(size))
    if inside is None:
        query = rotate_before(state, query, int(heads))
        key = rotate_before(state, key, int(kv_heads))
    else:
        query, key = (_resolve(state, r[0]) if r else n for r, n in zip(rotations, (query, key), strict=True))
    whole = state.whole([query, key, value])
    parts = [whole, "", ""] if whole else [state.use(name) for name in (query, key, value)]
    past = [f"past_key_values.{op.layer}.{kind}" for kind in ("key", "value")]
    present = [f"present.{op.layer}.{kind}" for kind in ("key", "value")]
    attributes: dict[str, int | float | str] = {
        "num_heads": int(heads),
        "kv_num_heads": int(kv_heads),
        "scale": op.scale,
        "do_rotary": int(bool(inside)),
    }
    if op.window is not None:
        attributes["local_window_size"] = op.window
    if op.softcap is not None:
        attributes["softcap"] = op.softcap
    tables = _tables(state, inside) if inside else []
    model.node(
        "GroupQueryAttention",
        [*parts, *past, LAST_POSITIONS, TOTAL_LENGTH, *tables],
        [node.outputs[0], *present],
        attributes,
        CONTRIB,
    )


def _resolve(state: ResidentLowering, name: str) -> str:
    """Follows values that are others under a new name; a value waiting for rotation keeps its own."""
    return state.names.get(name, name)


def _rotated_inside(rotations: list[tuple[str, RotarySpec] | None], size: int) -> RotarySpec | bool | None:
    """The rotation that attention itself can make; False for none at all, None for made before."""
    query, key = rotations
    if query is None and key is None:
        return False
    if query is None or key is None or query[1] != key[1]:
        return None
    rotary = query[1]
    if size % _ROTATED_MULTIPLE or rotary.size % _ROTATED_MULTIPLE:
        return None
    return rotary


def rotate_before(state: ResidentLowering, name: str, heads: int) -> str:
    """Appends the rotation that a value was waiting for, where attention does not make it."""
    if name not in state.rotations:
        return name
    source, rotary = state.rotations[name]
    if POSITIONS not in state.names:
        _lower_positions(state)
    size = int(state.graph.values[source].shape[-1])
    attributes: dict[str, int | float | str] = {}
    if rotary.size != size:
        attributes |= {"num_heads": heads, "rotary_embedding_dim": rotary.size}
    inputs = [state.use(source), POSITIONS, *_tables(state, rotary)]
    turned = state.model.node("RotaryEmbedding", inputs, [f"{name}.turned"], attributes, CONTRIB)
    state.names[turned] = turned
    return turned


def _lower_positions(state: ResidentLowering) -> None:
    """Appends (batch, sequence) positions: new tokens follow what is cached of their sequence."""
    model = state.model
    new = model.node("Shape", ["input_ids"], ["new_length"], {"start": 1, "end": 2})
    cached = model.node("Sub", ["lengths", new], ["cached_lengths.signed"])
    # A prompt padded on the right has fewer tokens than columns, and nothing cached.
    zero = model.integers([0])
    cached = model.node("Max", [cached, zero], ["cached_lengths"])
    column = model.node("Unsqueeze", [cached, model.integers([1])], ["cached_lengths.column"])
    scalars = [model.node("Squeeze", [x], [f"{x}.scalar"]) for x in (zero, new, model.integers([1]))]
    steps = model.node("Range", scalars, ["new_positions"])
    state.names[POSITIONS] = model.node("Add", [column, steps], [POSITIONS])


def _tables(state: ResidentLowering, rotary: RotarySpec | bool) -> list[str]:
    """Cosines and sines of every position: (context, rotary size / 2) each."""
    if isinstance(rotary, bool):
        return []
    key = table_name(rotary)
    shape = (state.context, rotary.size // 2)
    return [
        state.model.constant(
            f"rotary.{kind}.{key}",
            "FLOAT",
            shape,
            lambda i=i: np.ascontiguousarray(rotary_table(rotary, state.context)[i]),  # type: ignore[misc]
        )
        for i, kind in enumerate(("cos", "sin"))
    ]
