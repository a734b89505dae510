"""Decoders as blocks: what each has, who reads whose cells, and which cannot be."""

import dataclasses

import pytest

from edgesdk.bundle.decoder_block import Attention, Block, FeedForward, RotarySpec
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.genai_config import genai_config
from edgesdk.bundle.manifest import GenerationDefaults, TokenizerRecord
from edgesdk.bundle.records import from_json, to_json
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.errors import BundleError

ROTARY = RotarySpec("default", 1e4, 4)
PLAIN = UniformDecoder(
    "tiny", 50, 8, 16, 2, 1, 4, 64, (LayerSpec(None, ROTARY), LayerSpec(6, None)), 1e-5, "silu", 0.5
)
FFN = FeedForward(16, "silu")
NARROW, WIDE = Attention(2, 1, 4, 0.5, window=6), Attention(4, 2, 8, 0.5)


def decoder(*blocks):
    return dataclasses.replace(PLAIN.spec(), blocks=blocks)


def reading(mixer, number):
    return dataclasses.replace(mixer, reads=number)


@pytest.fixture
def mixed():
    """Layers 0 and 2 are narrow, 1 and 4 wide; 3 and 5 read cells of theirs, and block 3 is half a one."""
    return decoder(
        Block(0, NARROW, FFN),
        Block(1, WIDE, None),
        Block(2, None, FFN),
        Block(5, NARROW, FFN),
        Block(6, reading(NARROW, 5), FFN),
        Block(7, WIDE, FFN),
        Block(9, reading(WIDE, 1), FeedForward(32, "gelu_tanh")),
    )


def test_a_uniform_decoder_is_a_block_for_each_layer():
    spec = PLAIN.spec()
    assert [block.number for block in spec.blocks] == [0, 1]
    assert {block.ffn for block in spec.blocks} == {FeedForward(16, "silu")}
    assert [(layer.window, layer.rotary) for layer in spec.layers] == [(None, ROTARY), (6, None)]
    assert spec.is_uniform
    assert spec.uniform == spec.layers[0]
    assert (spec.window, spec.cell_bytes, spec.ffn_sizes) == (6, 2 * 2 * 4 * 4, (16,))
    assert spec.describe_layers() == "2 heads over 1 of 4"


def test_layers_know_whose_cells_they_read(mixed):
    assert mixed.cell_layers == (0, 1, 2, 2, 4, 1)
    assert [layer.cells for layer in mixed.layers] == [(1, 4), (2, 8), (1, 4), None, (2, 8), None]
    assert mixed.cell_bytes == 2 * 4 * (1 * 4 + 2 * 8 + 1 * 4 + 2 * 8)
    assert [str(half) for half in mixed.halves][:4] == ["0.attention", "0.mlp", "1.attention", "2.mlp"]
    assert mixed.ffn_sizes == (16, 32)
    told = "2 heads over 1 of 4, 4 heads over 2 of 8, 2 layers that read another's cells"
    assert mixed.describe_layers() == told


def test_cells_come_in_groups_of_equal_layers(mixed):
    contract = step_contract(mixed)
    assert [(group.layers, group.heads, group.tail) for group in contract.groups] == [
        ((0, 2), 1, (4,)),
        ((1, 4), 2, (8,)),
    ]
    names = [tensor.name for tensor in graph_tensors(contract).cells]
    assert names == [f"{side}_cache.{layer}" for layer in (0, 2, 1, 4) for side in "kv"]


def test_it_survives_json(mixed):
    assert from_json(DecoderSpec, to_json(mixed)) == mixed
    document = to_json(mixed)
    document["blocks"][0]["mixer"]["odd"] = 1
    with pytest.raises(BundleError, match=r"manifest.blocks\[0\].mixer has unknown key 'odd'"):
        from_json(DecoderSpec, document)


def test_what_knows_one_size_refuses_others_by_name(mixed):
    record = TokenizerRecord(1, (2,), False)
    with pytest.raises(BundleError, match=r"4 heads over 2 of 8, 2 layers .* expected one size"):
        genai_config("model.onnx", mixed, 64, record, GenerationDefaults())


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        ((), "at least one layer with attention"),
        ((Block(0, None, FFN),), "at least one layer with attention"),
        ((Block(1, NARROW, FFN), Block(1, NARROW, FFN)), "numbers of blocks must rise"),
        ((Block(1, NARROW, FFN), Block(0, NARROW, FFN)), "numbers of blocks must rise"),
        ((Block(-1, NARROW, FFN),), "numbers of blocks must rise"),
        ((Block(0, reading(NARROW, 0), FFN),), "block 0 reads the keys and values of block 0, expected"),
        ((Block(0, NARROW, FFN), Block(1, reading(NARROW, 2), FFN), Block(2, NARROW, FFN)), "block 1 reads"),
        ((Block(0, NARROW, FFN), Block(1, reading(WIDE, 0), FFN)), "with 2 KV heads of 8 of its own"),
        (
            (Block(0, NARROW, FFN), Block(1, reading(NARROW, 0), FFN), Block(2, reading(NARROW, 1), FFN)),
            "block 2 reads the keys and values of block 1",
        ),
        (
            (Block(0, NARROW, FFN), Block(1, dataclasses.replace(WIDE, window=7), FFN)),
            "windows of 6 and 7 tokens, expected one",
        ),
    ],
)
def test_stacks_that_cannot_be_are_refused(blocks, match):
    with pytest.raises(ValueError, match=match):
        decoder(*blocks)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"heads": 0}, "heads is 0"),
        ({"kv_heads": 0}, "kv_heads is 0"),
        ({"head_size": -1}, "head_size is -1"),
        ({"kv_heads": (1 << 24) + 1}, "kv_heads is 16777217, expected 1 to 16777216"),
        ({"heads": 3, "kv_heads": 2}, "3 query heads cannot share 2 KV heads evenly"),
        ({"window": 0}, "a sliding window of 0 tokens sees nothing"),
        ({"rotary": dataclasses.replace(ROTARY, size=6)}, "rotary size 6 does not fit heads of 4"),
        ({"query_growth": 0.1, "rotary": dataclasses.replace(ROTARY, size=2)}, "must rotate whole"),
        ({"query_growth": 0.1, "rotary": None}, "must rotate whole"),
    ],
)
def test_attention_that_cannot_be_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(NARROW, **changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": "longrope"}, "longrope rotation of 4 channels has 0 factors"),
        ({"factors": (1.0, 2.0)}, "default rotation of 4 channels has 2 factors"),
        ({"growth": 0.5}, "growth is 0.5 over a context of 0"),
    ],
)
def test_rotations_that_cannot_be_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(ROTARY, **changes)


def test_parts_that_are_not_there_are_named():
    with pytest.raises(ValueError, match="block 3 has neither a mixer nor a feed-forward"):
        Block(3, None, None)
    with pytest.raises(ValueError, match="block 3 has no attention"):
        _ = Block(3, None, FFN).attention
    with pytest.raises(ValueError, match="block 3 has no feed-forward"):
        _ = Block(3, NARROW, None).ffn
    with pytest.raises(ValueError, match="ffn_size is 0"):
        FeedForward(0, "silu")
    with pytest.raises(ValueError, match="the decoder has no block 3"):
        PLAIN.spec().block(3)
