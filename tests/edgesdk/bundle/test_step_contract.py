"""The contract of a step as data: groups of equal layers, ports, stacks."""

import dataclasses

import pytest

from edgesdk.bundle.manifest import StackRecord, StepShape, Variant
from edgesdk.bundle.port import Port
from edgesdk.bundle.records import from_json, to_json
from edgesdk.bundle.step_contract import (
    cell_groups,
    new_groups,
    step_contract,
    step_contracts,
)
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.errors import BundleError

UNIFORM = UniformDecoder("llama", 20, 8, 8, 2, 2, 3, 16, (LayerSpec(None, None),) * 3, 1e-5, "silu", 1.0)
SPEC = UNIFORM.spec()
WINDOW = dataclasses.replace(UNIFORM, layers=(LayerSpec(4, None), LayerSpec(None, None))).spec()
STEPS = (StepShape(1, 16, 1, "t1"),)


def variant(**changes):
    fields = {"steps": STEPS, "numbers": "0" * 64, **changes}
    return Variant("v", "litert", "f32", ("cpu",), "variants/v/x", 16, **fields)


@pytest.mark.parametrize(("kind", "number_bytes"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_equal_layers_are_one_array_whatever_they_are_stored_in(kind, number_bytes):
    contract = step_contract(SPEC, kind)
    assert contract.groups[0].shape(5) == (3, 2, 2, 5, 3)
    assert contract.new[0].shape(4) == (3, 2, 2, 4, 3)
    assert contract.new[0].dtype == ("float16" if kind == "float16" else "float32")
    scales = contract.groups[1:]
    assert [group.shape(5) for group in scales] == ([(3, 2, 2, 5)] if kind == "int8" else [])
    assert contract.cell_bytes == 3 * 2 * 2 * (3 * number_bytes + (4 if scales else 0))
    if kind == "float32":
        assert contract.cell_bytes == SPEC.cell_bytes


def test_kinds_of_layers_are_groups_in_the_order_in_which_they_first_occur():
    layers = [(2, 8), (1, 16), (2, 8), None, (1, 16)]
    groups = cell_groups(layers, "int8")
    assert [group.name for group in groups] == ["kv", "scales", "kv.1", "scales.1"]
    assert [group.layers for group in groups] == [(0, 2), (0, 2), (1, 4), (1, 4)]
    assert [group.shape(3) for group in groups] == [
        (2, 2, 2, 3, 8),
        (2, 2, 2, 3),
        (2, 2, 1, 3, 16),
        (2, 2, 1, 3),
    ]
    assert [group.shape(1) for group in new_groups(layers, "int8")] == [(2, 2, 2, 1, 8), (2, 2, 1, 1, 16)]


def test_a_window_has_a_mask_of_its_own():
    names = [port.name for port in step_contract(WINDOW).inputs]
    assert names == ["tokens", "positions", "mask", "window_mask", "rows"]
    assert [port.name for port in step_contract(SPEC).inputs] == [n for n in names if n != "window_mask"]
    assert (step_contract(WINDOW).window, step_contract(SPEC).window) == (4, None)


def test_a_variant_has_the_contract_of_each_stack(manifest):
    gates, score = Port("gates", ("T", 3)), Port("score", ("R", 2))
    shallow = dataclasses.replace(manifest.decoder, blocks=manifest.decoder.blocks[:1])
    stacks = (StackRecord(MAIN, outputs=(score,)), StackRecord("draft", inputs=(gates,), decoder=shallow))
    contracts = step_contracts(manifest, variant(stacks=stacks))
    assert set(contracts) == {MAIN, "draft"}
    assert contracts[MAIN].outputs[1:] == (score,)
    assert contracts["draft"].inputs[-1] == gates
    assert contracts["draft"].layers == (0,)
    assert set(step_contracts(manifest, variant())) == {MAIN}


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ({"name": "a b"}, "'a b' names no stack"),
        ({"name": "main", "decoder": to_json(SPEC)}, "the main stack has the variant's own decoder"),
        ({"name": "x", "outputs": [{"name": "logits", "dims": ["R", 2]}]}, "the port 'logits' twice"),
        ({"name": "x", "inputs": [{"name": "a", "dims": ["T"]}] * 2}, "the port 'a' twice"),
        ({"name": "x", "outputs": [{"name": "a", "dims": ["S"]}]}, "expected \\(R, ..\\) or \\(T, ..\\)"),
    ],
)
def test_stacks_with_ports_that_cannot_be_are_refused(record, match):
    with pytest.raises(BundleError, match=match):
        from_json(StackRecord, record)


def test_sizes_of_stacks_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="the stack 'draft', which is not described"):
        variant(steps=(StepShape(1, 16, 1, "d", "draft"),))
    with pytest.raises(ValueError, match="two stacks are called 'x'"):
        variant(stacks=(StackRecord("x"), StackRecord("x")))
    with pytest.raises(ValueError, match="two stacks have sizes of the signature 'd'"):
        variant(
            stacks=(StackRecord("draft"),), steps=(StepShape(1, 16, 1, "d"), StepShape(1, 8, 1, "d", "draft"))
        )
    whole = variant(stacks=(StackRecord("draft"),), steps=(*STEPS, StepShape(1, 16, 1, "d", "draft")))
    assert from_json(Variant, to_json(whole)) == whole
