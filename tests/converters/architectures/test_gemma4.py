"""Gemma 4: its configuration, read into parts that no other architecture has."""

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec
from tests.converters.architectures.published_configs import GEMMA4


def refused(change):
    with pytest.raises(CheckpointError) as caught:
        read_spec({**GEMMA4, **change})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_e2b():
    """Two head sizes; the last 20 layers read the last ones before them, and are twice as wide."""
    spec = read_spec(GEMMA4)
    assert spec.layer_inputs.size == 256
    assert [m.head_size for m in spec.layers[:5]] == [256, 256, 256, 256, 512]
    assert [m.reads for m in spec.layers[14:20]] == [None, 13, 13, 13, 13, 14]
    assert [block.ffn.size for block in spec.blocks[13:16]] == [6144, 6144, 12288]
    rotary = spec.layers[4].rotary
    assert (rotary.kind, rotary.size, rotary.turning) == ("proportional", 512, 64)
    assert len(set(spec.cell_layers)) == 15
    assert spec.cell_bytes == 2 * 4 * (12 * 256 + 3 * 512)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"enable_moe_block": True}, "enable_moe_block is True"),
        ({"attention_k_eq_v": True}, "attention_k_eq_v is True"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention is 'all'"),
        ({"num_kv_shared_layers": 35}, "num_kv_shared_layers"),
        ({"num_kv_shared_layers": 31}, "each kind has keys and values of its own"),
        (
            {"layer_types": ["full_attention"] * 34 + ["sliding_attention"]},
            "full_attention in the last layer",
        ),
        ({"vocab_size_per_layer_input": 262143}, "262144 as vocab_size"),
        ({"global_head_dim": None}, "'global_head_dim'"),
        ({"per_layer_config": {"4": {"head_dim": 512}}}, "'head_dim'"),
        ({"per_layer_config": {str(i): {"head_dim": 384} for i in range(4, 35, 5)}}, "one head_dim"),
        ({"per_layer_config": {str(i): {"head_dim": 512, "window": 1} for i in range(4, 35, 5)}}, "'window'"),
        ({"hidden_size_per_layer_input": -1}, "hidden_size_per_layer_input"),
    ],
    ids=lambda v: "" if isinstance(v, str) else next(iter(v)),
)
def test_what_it_cannot_have_is_named(change, named):
    assert named in refused(change)
