"""Metadata of a GGUF file as configuration keys."""

import numpy as np
import pytest

from converters.checkpoints.gguf_config import config_from_gguf
from edgesdk.errors import CheckpointError

BASE = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10000.0,
    "general.name": "anything",
    "tokenizer.ggml.model": "gpt2",
}


class Tensors(dict):
    def shape(self, name):
        return self[name].shape

    def load(self, name):
        return self[name]


TENSORS = Tensors({"token_embd.weight": np.zeros((320, 64), np.float32)})


def read(changes=None, tensors=TENSORS, architecture="llama"):
    metadata = {**BASE, **(changes or {})}
    if architecture != "llama":
        metadata = {k.replace("llama.", f"{architecture}."): v for k, v in metadata.items()}
        metadata["general.architecture"] = architecture
    return config_from_gguf({k: v for k, v in metadata.items() if v is not None}, tensors)


def test_plain_keys():
    config = read()
    assert config["num_hidden_layers"] == 2
    assert config["head_dim"] == 16
    assert config["vocab_size"] == 320
    assert config["tie_word_embeddings"] is True
    assert "rope_scaling" not in config


def test_facts_that_only_tensors_tell():
    tensors = Tensors(TENSORS)
    tensors["output.weight"] = tensors["blk.0.attn_q.bias"] = np.zeros(4, np.float32)
    config = read(tensors=tensors)
    assert config["tie_word_embeddings"] is False
    assert config["attention_bias"] is True


def test_partial_rotary():
    assert read({"llama.rope.dimension_count": 8})["partial_rotary_factor"] == 0.5
    assert "partial_rotary_factor" not in read({"llama.rope.dimension_count": 16})


def test_per_layer_lists_that_agree_are_one_value():
    assert read({"llama.attention.head_count_kv": [2, 2]})["num_key_value_heads"] == 2
    with pytest.raises(CheckpointError, match="differs from layer to layer"):
        read({"llama.attention.head_count_kv": [2, 4]})


def test_yarn():
    config = read(
        {
            "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": 4.0,
            "llama.rope.scaling.original_context_length": 512,
        }
    )
    assert config["rope_scaling"] == {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 512,
    }
    assert "rope_scaling" not in read({"llama.rope.scaling.type": "none"})


@pytest.mark.parametrize(("factor", "original"), [(8.0, 8192), (32.0, 8192)])
def test_llama3_factors_are_recognised(factor, original):
    head = 64
    wavelength = 2 * np.pi * np.power(500000.0, np.arange(0, head, 2) / head)
    factors = []
    for length in wavelength:  # as llama.cpp's converter computes them
        if length < original / 4:
            factors.append(1.0)
        elif length > original / 1:
            factors.append(factor)
        else:
            smooth = (original / length - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    tensors = Tensors(TENSORS)
    tensors["rope_freqs.weight"] = np.array(factors, np.float32)
    changes = {"llama.rope.freq_base": 500000.0, "llama.attention.key_length": head}
    scaling = read(changes, tensors)["rope_scaling"]
    assert scaling["rope_type"] == "llama3"
    assert scaling["factor"] == factor
    assert scaling["original_max_position_embeddings"] == original
    tensors["rope_freqs.weight"] = np.array(factors, np.float32)[::-1].copy()
    with pytest.raises(CheckpointError, match="not Llama 3's"):
        read(changes, tensors)


def test_gemma3_layers():
    config = read({"llama.block_count": 7}, architecture="gemma3")
    assert config["layer_types"] == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    assert config["query_pre_attn_scalar"] == 16
    assert config["rope_local_base_freq"] == 10000.0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general.architecture": None}, "general.architecture"),
        ({"llama.block_count": None}, r"lacks llama\.block_count"),
        ({"llama.block_count": 0}, "at least 1"),
        ({"llama.block_count": "two"}, "whole number"),
        ({"llama.expert_count": 8}, r"llama\.expert_count = 8"),
        ({"llama.attention.value_length": 8}, "different sizes"),
        ({"llama.attention.head_count": 3, "llama.attention.head_count_kv": 3}, "do not divide"),
    ],
)
def test_what_cannot_be_read_is_named(changes, match):
    with pytest.raises(CheckpointError, match=match):
        read(changes)
