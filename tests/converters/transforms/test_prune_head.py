"""A pruned head gives some columns of the whole one's logits, whatever comes after it."""

import numpy as np
import pytest

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.records import from_json, to_json
from edgesdk.errors import TransformError
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.prune_head import prune_head
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip

KEPT = np.array([0, 3, 4, 17, 40, 41, 95], np.int64)


def logits(program, tokens):
    return next(sequence_logits(program, [tokens]))


def test_its_logits_are_columns_of_the_whole_one(any_program, tokens):
    narrow = prune_head(any_program, KEPT)
    assert (narrow.spec.head_rows, narrow.spec.vocab_size) == (len(KEPT), any_program.spec.vocab_size)
    assert narrow.history[-1].name == "prune_head"
    found, expected = logits(narrow, tokens), logits(any_program, tokens)[:, KEPT]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "untied", "gemma_like"])
def test_it_comes_after_skipping_and_before_everything_else(make_program, tokens, name):
    shallow = skip_layers(make_program(name), parse_skip("0.mlp"))
    narrow = prune_head(shallow, KEPT)
    for recipe in ("f32", "w8-round", "w4b32-round"):
        prepared = prepare(narrow, find_recipe(recipe))
        expected = logits(shallow, tokens)[:, KEPT]
        np.testing.assert_allclose(logits(prepared, tokens), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(TransformError, match="before any transform"):
        prune_head(prepared, KEPT)


def test_the_shape_survives_json(make_program):
    spec = prune_head(make_program("plain"), KEPT).spec
    assert from_json(DecoderSpec, to_json(spec)) == spec
    document = to_json(spec)
    for wrong in ({"tied_head": True}, {"head_rows": 0}, {"head_rows": 97}):
        with pytest.raises(Exception, match="head_rows"):
            from_json(DecoderSpec, {**document, **wrong})


@pytest.mark.parametrize("kept", [[], [3, 3], [4, 1], [-1, 2], [95, 96]])
def test_ids_that_cannot_be_are_refused(make_program, kept):
    with pytest.raises(TransformError, match="ascend within 0 to 95"):
        prune_head(make_program("plain"), np.array(kept, np.int64))
