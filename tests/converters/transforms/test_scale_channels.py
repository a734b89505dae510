"""Magnitude moves, logits stay."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.quantise.scalable_inputs import scalable_inputs
from edgesdk_converters.transforms.fold_norms import fold_norms
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.scale_channels import scale_channels


def random_factors(program, seed=0):
    random = np.random.default_rng(seed)
    return {
        place.value: place.share(np.exp(random.standard_normal(place.channels)).astype(np.float32))
        for place in scalable_inputs(program)
    }


def assert_same_logits(before, after, tokens):
    expected, found = (next(sequence_logits(p, [tokens])) for p in (before, after))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_logits_stay(any_program, tokens, fused):
    program = fuse_linears(any_program) if fused else any_program
    changed = scale_channels(program, random_factors(program))
    assert_same_logits(any_program, changed, tokens)
    assert changed.history[-1].name == "scale_channels"
    table = "layers.1.gate_up" if fused else "layers.1.up"
    assert np.abs(changed.weights.load(table) - program.weights.load(table)).max() > 0.1


@pytest.mark.parametrize(("fused", "expected"), [(False, 4), (True, 4)])
def test_every_layer_has_four_places(make_program, fused, expected):
    program = make_program("biases")
    places = scalable_inputs(fuse_linears(program) if fused else program)
    assert len(places) == 2 * expected
    assert [p.value for p in places[:4]] == [
        "layers.0.attn_norm.out",
        "layers.0.merged",
        "layers.0.mlp_norm.out",
        "layers.0.gated",
    ]


def test_norms_without_weight_take_nothing(make_program):
    values = [p.value for p in scalable_inputs(fold_norms(make_program("plain")))]
    assert values == ["layers.0.merged", "layers.0.gated", "layers.1.merged", "layers.1.gated"]


def test_a_tied_head_is_left_alone_and_an_untied_one_is_not(make_program):
    names = [{n for p in scalable_inputs(make_program(s)) for n in p.readers} for s in ("plain", "untied")]
    assert "embed" not in names[0]
    assert "head" in names[1]


def test_query_heads_share_the_factors_of_their_kv_head(make_program):
    place = next(p for p in scalable_inputs(make_program("plain")) if p.value == "layers.0.merged")
    wish = np.arange(1, 65, dtype=np.float32)
    shared = place.share(wish).reshape(2, 2, 16)
    np.testing.assert_array_equal(shared[:, 0], shared[:, 1])
    np.testing.assert_array_equal(place.reduce(shared.reshape(-1)), shared[:, 0].reshape(-1))


@pytest.mark.parametrize(
    ("value", "factor"),
    [
        ("logits", np.ones(96)),
        ("layers.0.gated", np.ones(64)),
        ("layers.0.gated", np.zeros(96)),
        ("layers.0.gated", np.full(96, np.inf)),
        ("layers.0.merged", np.arange(1, 65)),
    ],
)
def test_bad_factors_are_refused(make_program, value, factor):
    with pytest.raises(TransformError):
        scale_channels(make_program("plain"), {value: factor.astype(np.float32)})
