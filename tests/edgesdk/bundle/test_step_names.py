"""Names of a step's tensors in files of each format."""

import pytest

from edgesdk.bundle.port import Port
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import (
    CellName,
    coreml_tensors,
    graph_tensors,
    has_few_columns,
    litert_tensors,
    onnx_tensors,
)
from edgesdk.bundle.step_shape import FEW, StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder

LAYERS = (LayerSpec(None, None), LayerSpec(4, None))
SPEC = UniformDecoder("llama", 20, 8, 8, 2, 2, 3, 16, LAYERS, 1e-5, "silu", 1.0).spec()
ONE, MANY = StepShape(1, 16, 1, "t1"), StepShape(4, 16, 2, "t4")


def shapes(tensors, step):
    return {tensor.name: tensor.shape(step) for tensor in tensors}


@pytest.mark.parametrize("name", ["k_cache.0", "v_half.12", "k_scale.3", "v_new.1"])
def test_names_of_cells_are_read_and_written(name):
    assert str(CellName.parse(name)) == name


@pytest.mark.parametrize("name", ["tokens", "k_cache", "q_new.0", "k_old.0", "k_new.x", "k_new.0.1", ""])
def test_other_names_are_none_of_cells(name):
    assert CellName.parse(name) is None


def test_onnx_has_the_names_of_the_graph():
    tensors = onnx_tensors(step_contract(SPEC))
    assert tensors == graph_tensors(step_contract(SPEC))
    assert tensors.input_shapes(MANY) == {
        "tokens": (4,),
        "positions": (4,),
        "mask": (4, 20),
        "window_mask": (4, 20),
        "rows": (2,),
        **{f"{side}_cache.{layer}": (2, 16, 3) for layer in range(2) for side in "kv"},
    }
    assert "rows" in tensors.input_shapes(ONE)
    assert shapes((*tensors.ports_out, *tensors.new), MANY) == {
        "logits": (2, 20),
        **{f"{side}_new.{layer}": (2, 4, 3) for layer in range(2) for side in "kv"},
    }


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("float32", {"k_cache.1": ("float32", (2, 16, 3))}),
        ("float16", {"v_half.0": ("float16", (2, 16, 3))}),
        ("int8", {"k_cache.1": ("int8", (2, 16, 3)), "v_scale.1": ("float32", (2, 1, 16))}),
    ],
)
def test_litert_turns_masks_and_names_cells_by_their_type(kind, cells):
    tensors = litert_tensors(step_contract(SPEC, kind))
    assert [t.name for t in tensors.inputs_of(ONE)] == [
        "tokens",
        "positions",
        "mask.new_first",
        "window_mask.new_first",
    ]
    assert tensors.inputs_of(MANY)[-1].name == "rows"
    found = {tensor.name: (tensor.dtype, tensor.shape(MANY)) for tensor in tensors.cells}
    assert len(found) == 4 * (2 if kind == "int8" else 1)
    assert cells.items() <= found.items()
    # Each knows where in the host's arrays it lies.
    assert [(t.group, t.layer, t.side) for t in tensors.cells[:4]] == [
        (0, layer, side) for layer in range(2) for side in range(2)
    ]


def test_litert_signatures_of_a_few_tokens_have_masks_of_one_width():
    plain, few = (litert_tensors(step_contract(SPEC), few=kind) for kind in (False, True))
    assert few.input_shapes(MANY)["window_mask.few_first"] == (4, FEW + 16)
    assert few.input_shapes(ONE)["mask.few_first"] == (1, FEW + 16)
    for tensors, has in ((plain, False), (few, True)):
        assert has_few_columns(tensors.input_shapes(ONE)) == has
    assert [t for t in few.ports_in if not t.few] == [t for t in plain.ports_in if not t.new_first]
    assert (few.cells, few.ports_out, few.new) == (plain.cells, plain.ports_out, plain.new)


def test_core_ml_has_no_dots():
    tensors = coreml_tensors(step_contract(SPEC))
    names = {*tensors.input_shapes(MANY), *shapes((*tensors.ports_out, *tensors.new), MANY)}
    assert not any("." in name for name in names)
    assert {"k_cache_0", "v_new_1", "window_mask", "rows"} <= names
    assert "rows" not in tensors.input_shapes(ONE)


def test_ports_of_a_stack_are_in_every_format():
    contract = step_contract(
        SPEC, inputs=(Port("image_mask", ("T", "S+T")),), outputs=(Port("state", ("T", 8)),)
    )
    for named, mask in (
        (onnx_tensors, "image_mask"),
        (coreml_tensors, "image_mask"),
        (litert_tensors, "image_mask.new_first"),
    ):
        tensors = named(contract)
        assert mask in tensors.input_shapes(ONE)
        assert [tensor.name for tensor in tensors.ports_out] == ["logits", "state"]
