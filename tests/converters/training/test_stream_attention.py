"""Attention of streams over a text and among themselves is the evaluator's, with the rest masked."""

import numpy as np
import pytest

pytest.importorskip("jax", reason="needs the extra 'train'")

import jax
import jax.numpy as jnp

from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import LOWERINGS
from edgesdk_converters.training.stream_attention import attend_streams

M, G, S, K, H, D = 3, 2, 5, 2, 4, 8
T = M * G


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_values_and_gradients_are_those_of_the_whole_mask(softcap):
    random = np.random.default_rng(0)
    shapes = ((T, H, D), (K, T, D), (K, T, D), (K, S, D), (K, S, D))
    q, k_new, v_new, k, v = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
    op = ops.Attend(D**-0.5, softcap, 0, None)
    text = np.where(random.random((T, S)) < 0.6, 0, -1e9).astype(np.float32)
    own = np.where(np.tri(G) > 0, 0, -1e9).astype(np.float32)
    few = np.concatenate([text, np.tile(own, (M, 1))], axis=1)
    beside = np.where(np.kron(np.eye(M), np.tri(G)) > 0, 0, -1e9).astype(np.float32)
    whole = np.concatenate([text, beside], axis=1)
    weights = random.standard_normal((T, H, D)).astype(np.float32)

    def found(lowering, mask):
        def total(q, k_new, v_new):
            (out,) = lowering(op, jnp, q, k_new, v_new, mask, k, v)
            return (out * weights).sum(), out

        return jax.grad(total, argnums=(0, 1, 2), has_aux=True)(q, k_new, v_new)

    mine, theirs = found(attend_streams(G), few), found(LOWERINGS[ops.Attend], whole)
    for one, other in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
