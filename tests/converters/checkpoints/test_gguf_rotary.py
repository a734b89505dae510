"""Rotary settings of a GGUF file as configuration keys."""

import numpy as np
import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.gguf_rotary import rotary_config

HEAD = 64


class Tensors(dict):
    def shape(self, name):
        return self[name].shape

    def load(self, name):
        return self[name]


def read(own=None, factors=None, **tensors):
    present = Tensors(tensors)
    if factors is not None:
        present["rope_freqs.weight"] = np.asarray(factors, np.float32)
    return rotary_config("llama.", own or {}, present, HEAD)


def bands(theta=500000.0, factor=8.0, original=8192, head=HEAD):
    """As llama.cpp's converter computes them."""
    factors = []
    for length in 2 * np.pi * np.power(theta, np.arange(0, head, 2) / head):
        if length < original / 4:
            factors.append(1.0)
        elif length > original / 1:
            factors.append(factor)
        else:
            smooth = (original / length - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def test_nothing_said_is_the_loader_s_default():
    assert read() == {"rope_theta": 10000.0}


def test_partial_rotary():
    assert read({"rope.dimension_count": 32})["partial_rotary_factor"] == 0.5
    assert "partial_rotary_factor" not in read({"rope.dimension_count": HEAD})


def test_linear_also_without_its_name():
    expected = {"rope_type": "linear", "factor": 4.0}
    for key in ("rope.scaling.factor", "rope.scale_linear"):
        assert read({key: 4.0})["rope_scaling"] == expected
    assert read({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})["rope_scaling"] == expected
    for nothing in (
        {"rope.scaling.type": "none", "rope.scaling.factor": 4.0},
        {"rope.scaling.type": "linear"},
        {"rope.scaling.factor": 0.0},
        {"rope.scaling.original_context_length": 4096},  # which phi3 files say without scaling
    ):
        assert "rope_scaling" not in read(nothing)


def test_yarn():
    own = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 512,
        "rope.scaling.yarn_beta_fast": 30.0,
        "rope.scaling.yarn_attn_factor": 1.25,
        "rope.scaling.yarn_ext_factor": 1.0,
        "rope.scaling.finetuned": True,
    }
    assert read(own)["rope_scaling"] == {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 512,
        "beta_fast": 30.0,
        "attention_factor": 1.25,
    }
    with pytest.raises(CheckpointError, match=r"yarn_ext_factor' = 0\.5"):
        read({**own, "rope.scaling.yarn_ext_factor": 0.5})
    with pytest.raises(CheckpointError, match=r"attn_factor' = 1\.5"):
        read({"rope.scaling.attn_factor": 1.5})


def test_longrope_has_its_factors_in_tensors():
    long, short = np.full(32, 9, np.float32), np.full(32, 2, np.float32)
    tensors = {"rope_factors_long.weight": long, "rope_factors_short.weight": short}
    own = {"rope.scaling.original_context_length": 4096, "rope.scaling.attn_factor": 1.25}
    assert read(own, **tensors)["rope_scaling"] == {
        "rope_type": "longrope",
        "short_factor": [2.0] * 32,
        "long_factor": [9.0] * 32,
        "original_max_position_embeddings": 4096,
        "attention_factor": 1.25,
    }
    with pytest.raises(CheckpointError, match="it is damaged"):
        read({}, **tensors)
    with pytest.raises(CheckpointError, match="it is damaged"):
        read(own, **{"rope_factors_long.weight": long})


@pytest.mark.parametrize("head", [64, 128])
@pytest.mark.parametrize("factor", [4.0, 8.0, 32.0])
@pytest.mark.parametrize("original", [8192, 6000, 32768])
def test_llama3_factors_give_back_their_settings(head, factor, original):
    tensors = Tensors({"rope_freqs.weight": bands(factor=factor, original=original, head=head)})
    scaling = rotary_config("llama.", {"rope.freq_base": 500000.0}, tensors, head)["rope_scaling"]
    assert scaling == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": original,
    }


@pytest.mark.parametrize(
    "factors",
    [
        bands()[::-1],
        np.full(HEAD // 2, np.nan),
        np.zeros(HEAD // 2),
        np.full(HEAD // 2, np.inf),
        -bands(),
        np.linspace(1, 8, HEAD // 2),
    ],
)
def test_other_factors_are_refused(factors):
    with pytest.raises(CheckpointError, match="not Llama 3's"):
        read({"rope.freq_base": 500000.0}, factors)


@pytest.mark.parametrize(
    ("own", "factors", "match"),
    [
        ({"rope.freq_base": "much"}, None, "expected a number"),
        ({"rope.freq_base": [1.0]}, None, "expected a number"),
        ({"rope.scaling.type": 3}, None, "expected a name"),
        ({}, bands()[:5], r"shape \(5,\), expected \(32,\)"),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}, bands(), "both"),
    ],
)
def test_what_cannot_be_read_is_named(own, factors, match):
    with pytest.raises(CheckpointError, match=match):
        read(own, factors)


@pytest.mark.parametrize("theta", [0.0, -1.0, float("nan"), float("inf"), 1e308])
def test_absurd_bases_are_left_to_the_architecture_or_refused(theta):
    assert "rope_theta" in read({"rope.freq_base": theta})
    with pytest.raises(CheckpointError):
        read({"rope.freq_base": theta}, bands())
