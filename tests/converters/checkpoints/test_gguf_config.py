"""Metadata of a GGUF file as configuration keys."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.gguf_config import config_from_gguf
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header

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

    def stored_type(self, name):
        return "F32"

    def load(self, name):
        return self[name]

    def load_rows(self, name, start, stop):
        return self[name][start:stop]


def make_tensors(**more):
    small = {f"blk.{i}.attn_norm.weight": np.zeros(1, np.float32) for i in range(70)}
    return Tensors({"token_embd.weight": np.zeros((320, 64), np.float32), **small, **more})


def read(changes=None, tensors=None, architecture="llama"):
    metadata = {**BASE, **(changes or {})}
    if architecture != "llama":
        metadata = {k.replace("llama.", f"{architecture}."): v for k, v in metadata.items()}
        metadata["general.architecture"] = architecture
    present = {key: value for key, value in metadata.items() if value is not None}
    return config_from_gguf(present, make_tensors() if tensors is None else tensors)


def refused(changes, architecture="llama", tensors=None):
    with pytest.raises(CheckpointError) as caught:
        read(changes, tensors, architecture)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_plain_keys():
    assert read() == {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "max_position_embeddings": 2048,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": 320,
        "tie_word_embeddings": True,
    }


def test_facts_that_only_tensors_tell():
    one = np.zeros(4, np.float32)
    names = ("output.weight", "blk.0.attn_q.bias", "blk.0.ffn_gate.bias")
    config = read(tensors=make_tensors(**dict.fromkeys(names, one)))
    assert config["tie_word_embeddings"] is False
    assert config["attention_bias"] is True
    assert config["mlp_bias"] is True


def test_per_layer_lists_that_agree_are_one_value():
    assert read({"llama.attention.head_count_kv": [2, 2]})["num_key_value_heads"] == 2
    assert "differs from layer to layer" in refused({"llama.attention.head_count_kv": [2, 4]})


def test_a_window_of_zero_is_none():
    assert "sliding_window" not in read({"llama.attention.sliding_window": 0}, architecture="phi3")
    assert read({"llama.attention.sliding_window": 7}, architecture="phi3")["sliding_window"] == 7


def test_gemma3_layers():
    window = {"llama.attention.sliding_window": 512, "llama.block_count": 7}
    config = read(window, architecture="gemma3")
    assert config["layer_types"] == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    assert config["query_pre_attn_scalar"] == 16
    pattern = {**window, "llama.attention.sliding_window_pattern": 3}
    assert read(pattern, architecture="gemma3")["layer_types"].count("full_attention") == 2
    flags = {**window, "llama.attention.sliding_window_pattern": [True, False] * 3 + [True]}
    assert read(flags, architecture="gemma3")["layer_types"][:2] == ["sliding_attention", "full_attention"]
    none = read({"llama.block_count": 7}, architecture="gemma3")
    assert set(none["layer_types"]) == {"full_attention"}


def test_the_largest_gemmas_scale_scores_by_another_size():
    sizes = {"llama.attention.key_length": 8, "llama.attention.value_length": 8}
    for architecture, layers in (("gemma2", 46), ("gemma3", 62)):
        largest = read({**sizes, "llama.block_count": layers}, architecture=architecture)
        assert largest["query_pre_attn_scalar"] == 64 // 4
        smaller = read({**sizes, "llama.block_count": 26}, architecture=architecture)
        assert smaller["query_pre_attn_scalar"] == 8


def test_gemma2_means_its_published_settings_when_it_says_nothing():
    config = read(architecture="gemma2")
    assert (config["attn_logit_softcapping"], config["final_logit_softcapping"]) == (50.0, 30.0)
    assert config["sliding_window"] == 4096
    assert config["layer_types"] == ["sliding_attention", "full_attention"]
    said = read({"llama.attn_logit_softcapping": 20.0}, architecture="gemma2")
    assert said["attn_logit_softcapping"] == 20.0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general.architecture": None}, "general.architecture"),
        ({"general.architecture": 7}, "general.architecture"),
        ({"llama.block_count": None}, "lacks the key 'llama.block_count'"),
        ({"llama.block_count": 0}, "at least 1"),
        ({"llama.block_count": "two"}, "whole number"),
        ({"llama.block_count": True}, "whole number"),
        ({"llama.block_count": 2**32}, "4294967296 layers, but has 71 tensors"),
        ({"llama.embedding_length": 64.0}, "whole number"),
        ({"llama.attention.layer_norm_rms_epsilon": "small"}, "expected a number"),
        ({"llama.expert_count": 8}, "'llama.expert_count' = 8, expected 0"),
        ({"llama.attention.causal": False}, "expected True"),
        ({"llama.logit_scale": 0.5}, "'llama.logit_scale' with value 0.5"),
        ({"llama.attention.sliding_window_pattern": 2}, "sliding_window_pattern' with value 2"),
        ({"llama.attention.value_length": 8}, "different sizes"),
        ({"llama.attention.head_count": 3, "llama.attention.head_count_kv": 3}, "do not divide"),
        ({"llama.attention.head_count_kv": []}, "differs from layer to layer"),
        ({"llama." + "x" * 5000: "y" * 5000}, "does not know"),
    ],
)
def test_what_cannot_be_read_is_named(changes, match):
    assert match in refused(changes)


@pytest.mark.parametrize("pattern", [-1, [True], "all", [2, 3], 1.5])
def test_layer_patterns_that_mean_nothing_are_refused(pattern):
    changes = {"llama.attention.sliding_window_pattern": pattern, "llama.attention.sliding_window": 9}
    assert "sliding_window_pattern" in refused(changes, "gemma3")


def test_layers_with_a_window_turn_as_the_others_in_olmo3():
    own = {"llama.attention.sliding_window": 9}
    same = read({**own, "llama.rope.freq_base_swa": 10000.0}, architecture="olmo2")
    assert same == read(own, architecture="olmo2")
    message = refused({**own, "llama.rope.freq_base_swa": 500000.0}, "olmo2")
    assert "rope.freq_base_swa = 500000.0, expected 10000.0" in message


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", "config.json"),
        ("llama", "config.rope-linear.json"),
        ("llama", "config.rope-llama3.json"),
        ("llama", "config.rope-yarn.json"),
        ("llama-untied-bias", "config.json"),
        ("qwen2", "config.json"),
        ("qwen3", "config.json"),
        ("gemma2", "config.json"),
        ("gemma3", "config.json"),
        ("phi3", "config.json"),
        ("smollm3", "config.json"),
        ("mistral", "config.json"),
        ("iquestcoder", "config.json"),
        ("seed_oss", "config.json"),
        ("ernie4_5", "config.json"),
        ("granite", "config.json"),
        ("gemma", "config.json"),
        ("exaone4", "config.json"),
    ],
)
def test_a_file_describes_the_decoder_it_was_made_of(tmp_path, gguf_from_tiny, tiny_folder, name, config):
    path = gguf_from_tiny(tmp_path / "m.gguf", name, config)
    header = read_gguf_header(path)
    found = read_spec(config_from_gguf(header.metadata, GgufTensors(path, header.tensors)))
    original = json.loads((tiny_folder / name / config).read_text())
    # What GGUF cannot say: llama.cpp knows it by the architecture, and these tiny models differ there.
    original |= {"use_sliding_window": False, "layer_types": None} if name == "qwen2" else {}
    original |= {"query_pre_attn_scalar": 16} if name in ("gemma2", "gemma3") else {}
    original |= {"no_rope_layers": None, "no_rope_layer_interval": 4} if name == "smollm3" else {}
    original |= {"sliding_window": None} if name == "mistral" else {}
    expected = read_spec(original)
    # Files hold 32-bit floats.
    np.testing.assert_allclose(found.norm_eps, expected.norm_eps, rtol=1e-6)
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        if theirs.rotary is not None:
            np.testing.assert_allclose(ours.rotary.attention_factor, theirs.rotary.attention_factor, 1e-6)
            np.testing.assert_allclose(ours.rotary.factor, theirs.rotary.factor, 1e-6)
    assert comparable(found) == comparable(expected)


def comparable(spec):
    def plain(mixer):
        rotary = mixer.rotary and replace(mixer.rotary, attention_factor=1.0, factor=1.0)
        return replace(mixer, rotary=rotary)

    blocks = tuple(replace(block, mixer=plain(block.attention)) for block in spec.blocks)
    # A mistral file calls itself llama.
    return replace(spec, norm_eps=1e-5, blocks=blocks, architecture="any")
