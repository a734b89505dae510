"""LFM2: which layers are convolutions, sizes that are computed, settings that are written twice."""

import pytest

from edgesdk.bundle.decoder_block import Convolution
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.gguf_config import config_from_gguf
from tests.converters.architectures.published_configs import LFM2


def without(*keys, **change):
    return {**{key: value for key, value in LFM2.items() if key not in keys}, **change}


def refused(config):
    with pytest.raises(CheckpointError) as caught:
        read_spec(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_350m():
    spec = read_spec(LFM2)
    assert [block.number for block in spec.attending] == [2, 5, 8, 10, 12, 14]
    assert {block.mixer for block in spec.convolving} == {Convolution(3)}
    assert (spec.predecessors, spec.ffn_sizes, spec.tied_head) == (2, (4608,), True)
    assert spec.cell_bytes == 6 * 2 * 8 * 64 * 4 + 10 * 1024 * 4


@pytest.mark.parametrize(
    ("written", "adjusted", "size"), [(10240, True, 6912), (12288, True, 8192), (10752, False, 10752)]
)
def test_sizes_of_feed_forwards(written, adjusted, size):
    """Those of the 700M, the 1.2B and the 2.6B."""
    change = {"block_ff_dim": written, "block_auto_adjust_ff_dim": adjusted}
    assert read_spec(without(**change)).ffn_sizes == (size,)
    newer = without("block_ff_dim", intermediate_size=written, block_auto_adjust_ff_dim=adjusted)
    assert read_spec(newer).ffn_sizes == (size,)


def test_what_is_said_twice_is_what_transformers_takes():
    kinds = ["full_attention", *["conv"] * 15]
    spec = read_spec(
        without(intermediate_size=3072, tie_embedding=False, tie_word_embeddings=True, layer_types=kinds)
    )
    assert (spec.ffn_sizes, spec.tied_head) == ((4608,), False)
    assert [block.number for block in spec.attending] == [0]


def test_both_ways_to_say_which_layers_attend():
    kinds = ["full_attention" if i in LFM2["full_attn_idxs"] else "conv" for i in range(16)]
    assert read_spec(without("full_attn_idxs", layer_types=kinds)) == read_spec(LFM2)
    assert read_spec(without(layer_types=kinds)) == read_spec(LFM2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"conv_bias": True}, "conv_bias is True"),
        ({"conv_dim": 512}, "conv_dim is 512"),
        ({"num_heads": 8}, "num_heads is 8"),
        ({"conv_L_cache": 9}, "conv_L_cache is 9, expected an integer from 2 to 8"),
        ({"conv_L_cache": 1}, "conv_L_cache is 1"),
        ({"head_dim": 32}, "head_dim is 32"),
        ({"num_attention_heads": 12, "num_heads": 12}, "num_attention_heads is 12"),
        ({"layer_types": ["conv"] * 15}, "a list of 16 items"),
        ({"full_attn_idxs": 2}, "full_attn_idxs is 2, expected a list"),
        ({"layer_types": ["mamba"] * 16}, "full_attention or conv"),
        ({"layer_types": ["conv"] * 16}, "at least one layer with attention"),
        ({"num_key_value_heads": 5}, "16 query heads cannot share 5"),
    ],
)
def test_what_it_is_not_is_named(change, named):
    assert named in refused(without(**change))


class Tensors(dict):
    """Names and shapes of a GGUF file."""

    def shape(self, name):
        return self[name]


def gguf_config(**change):
    own = {
        "block_count": 3, "context_length": 64, "embedding_length": 64, "feed_forward_length": 96,
        "attention.head_count": 4, "attention.head_count_kv": [0, 2, 0], "vocab_size": 96,
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e6, "shortconv.l_cache": 3, **change,
    }  # fmt: skip
    keys = {f"lfm2.{key}": value for key, value in own.items() if value is not None}
    tensors = Tensors({f"blk.{i}.attn_norm.weight": (64,) for i in range(3)})
    return config_from_gguf({"general.architecture": "lfm2", **keys}, tensors)


def test_gguf_says_kinds_by_kv_heads():
    spec = read_spec(gguf_config())
    assert [block.number for block in spec.attending] == [1]
    assert (spec.layers[0].kv_heads, spec.ffn_sizes, spec.predecessors) == (2, (96,), 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shortconv.l_cache": None}, "shortconv.l_cache"),
        ({"shortconv.l_cache": "3"}, "shortconv.l_cache"),
        ({"attention.head_count_kv": [0, 2, 1]}, "differs from layer to layer"),
        ({"attention.head_count_kv": [0, 0, 0]}, "at least 1"),
    ],
)
def test_gguf_that_says_otherwise_is_refused(change, named):
    with pytest.raises(CheckpointError, match=named):
        read_spec(gguf_config(**change))
