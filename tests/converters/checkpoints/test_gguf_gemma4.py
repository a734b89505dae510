"""Gemma 4's metadata: what differs by kind of layer, and what such a file cannot have."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.gguf_config import config_from_gguf
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header


@pytest.fixture
def opened(tmp_path, gguf_from_tiny):
    """Metadata and tensors of the tiny checkpoint's file."""
    path = gguf_from_tiny(tmp_path / "gemma4.gguf", "gemma4")
    header = read_gguf_header(path)
    return dict(header.metadata), GgufTensors(path, header.tensors)


def test_the_decoder_is_that_of_the_folder(opened, tiny_folder):
    folder = json.loads((tiny_folder / "gemma4" / "config.json").read_text(encoding="utf-8"))
    config = config_from_gguf(*opened)
    assert config["layer_types"] == folder["layer_types"]
    assert config["rope_parameters"] == folder["rope_parameters"]
    found, expected = read_spec(config), read_spec(folder)
    # The format holds the precision of norms in float32.
    assert found.norm_eps == pytest.approx(expected.norm_eps, rel=1e-6)
    assert replace(found, norm_eps=expected.norm_eps) == expected


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        (
            "feed_forward_length",
            [96, 96, 96, 192, 96],
            "one width for 5 layers, twice it at most in the last 2",
        ),
        ("feed_forward_length", [96] * 4, "one width for 5 layers"),
        ("feed_forward_length", [], "one width for 5 layers"),
        ("attention.shared_kv_layers", 5, "twice it at most in the last 5"),
        ("attention.shared_kv_layers", -1, "a whole number, at least 0"),
        ("attention.shared_kv_layers", None, "a whole number, at least 0"),
        ("attention.key_length_swa", None, "gemma4.attention.key_length_swa = None, expected a whole number"),
        ("attention.value_length", 16, "expected 32, as attention.key_length"),
        ("attention.sliding_window_pattern", 6, "one flag for each of 5 layers"),
        ("attention.sliding_window_pattern", [True] * 4, "one flag for each of 5 layers"),
        ("block_count", 10**12, "layers"),
        ("rope.dimension_count", 8, "channels that do not turn are said by rope_freqs.weight"),
        ("rope.freq_base_swa", "fast", "expected a number"),
        ("expert_count", 128, "expected 0"),
        ("expert_feed_forward_length", 64, "which this version does not know"),
    ],
)
def test_what_cannot_be_read_is_named(opened, key, value, match):
    metadata, tensors = opened
    metadata[f"gemma4.{key}"] = value
    if value is None:
        del metadata[f"gemma4.{key}"]
    with pytest.raises(CheckpointError, match=match) as caught:
        config_from_gguf(metadata, tensors)
    assert "\n" not in str(caught.value)


class Factors(dict):
    """Tensors with other rotary factors."""

    def __init__(self, tensors, factors):
        super().__init__({"rope_freqs.weight": np.array(factors, np.float32)})
        self._tensors = tensors

    def __iter__(self):
        return iter(self._tensors)

    def shape(self, name):
        return self[name].shape if name in self else self._tensors.shape(name)

    def load(self, name):
        return self[name] if name in self else self._tensors.load(name)


@pytest.mark.parametrize("factors", [[1.0] * 8, [1e30] * 4 + [1.0] * 12, [1.0] * 4 + [2.0] * 12])
def test_other_rotary_factors_are_refused(opened, factors):
    metadata, tensors = opened
    with pytest.raises(CheckpointError, match="ones and then 1e\\+30 for 16 pairs of channels"):
        config_from_gguf(metadata, Factors(tensors, factors))


def test_a_head_larger_than_memory_is_refused(opened):
    metadata, tensors = opened
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        metadata[f"gemma4.{key}"] = 1 << 62
    with pytest.raises(CheckpointError, match="for 2305843009213693952 pairs of channels"):
        config_from_gguf(metadata, tensors)
