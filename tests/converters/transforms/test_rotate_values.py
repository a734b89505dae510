"""Values turn, logits stay."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs, sequence_logits
from edgesdk_converters.transforms.fold_norms import fold_norms
from edgesdk_converters.transforms.fuse_linears import fuse_linears
from edgesdk_converters.transforms.rotate_residual import rotate_residual
from edgesdk_converters.transforms.rotate_values import rotate_values


def logits(program, tokens):
    return next(sequence_logits(program, [tokens]))


def test_logits_stay(any_program, tokens):
    changed = rotate_values(any_program, seed=2)
    np.testing.assert_allclose(logits(changed, tokens), logits(any_program, tokens), rtol=1e-4, atol=1e-4)
    assert changed.history[-1].name == "rotate_values"


def test_it_goes_with_the_rotation_of_the_stream(make_program, tokens):
    for name in ("plain", "biases"):
        before = make_program(name)
        after = fuse_linears(rotate_values(rotate_residual(fold_norms(before))))
        np.testing.assert_allclose(logits(after, tokens), logits(before, tokens), rtol=1e-4, atol=1e-4)


def test_values_turn_within_their_head_and_keep_their_length(make_program, tokens):
    before = make_program("biases")
    after = rotate_values(before)
    old, new = (evaluate(p.graph, p.weights, sequence_inputs(p, [tokens])) for p in (before, after))
    assert np.abs(old["v_new.1"] - new["v_new.1"]).mean() > 0.1
    np.testing.assert_allclose(
        np.linalg.norm(old["v_new.1"], axis=-1), np.linalg.norm(new["v_new.1"], axis=-1), rtol=1e-4
    )
    np.testing.assert_allclose(old["k_new.1"], new["k_new.1"], rtol=1e-3, atol=1e-4)


def test_every_head_turns_its_own_way(make_program):
    before = make_program("plain")
    rows = rotate_values(before).weights.load("layers.0.v").reshape(2, 16, 64)
    source = before.weights.load("layers.0.v").reshape(2, 16, 64)
    turns = [new @ np.linalg.pinv(old) for new, old in zip(rows, source, strict=True)]
    assert np.abs(turns[0] - turns[1]).max() > 0.1


def test_fused_values_are_refused(make_program):
    with pytest.raises(TransformError, match="projection of its own"):
        rotate_values(fuse_linears(make_program("plain")))
