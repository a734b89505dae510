"""Products of a training step: in float32, or of bfloat16 factors whose sums stay float32.

Parameters, norms, softmax and optimiser are float32 in both. Where the processor multiplies bfloat16 itself
(AVX512-BF16, AMX), a step takes two thirds of the time; elsewhere factors are only rounded, and nothing is
gained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

Array: TypeAlias = jax.Array
Numbers = Literal["float32", "bfloat16"]
Product: TypeAlias = Callable[[Array, Array], Array]
"""x (..., I), weight (O, I) -> (..., O)."""


def find_product(numbers: Numbers) -> Product:
    """How to multiply."""
    return _rounded if numbers == "bfloat16" else _plain


def _plain(x: Array, weight: Array) -> Array:
    return x @ weight.T


@jax.custom_vjp
def _rounded(x: Array, weight: Array) -> Array:
    return _forward(x, weight)[0]


def _forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    factors = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
    return _dot(*factors, x.ndim - 1, 1), (*factors, jnp.zeros(0, weight.dtype))


def _backward(kept: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Rounds the gradient too: else both products of it would be of float32."""
    x, weight, like = kept
    rounded = gradient.astype(jnp.bfloat16)
    rows, columns = rounded.reshape(-1, rounded.shape[-1]), x.reshape(-1, x.shape[-1])
    of_weight = _dot(rows, columns, 0, 0).astype(like.dtype)  # bfloat16 where the weight was rounded before
    return _dot(rounded, weight, rounded.ndim - 1, 0), of_weight


def _dot(a: Array, b: Array, of_a: int, of_b: int) -> Array:
    sums = (((of_a,), (of_b,)), ((), ()))
    return jax.lax.dot_general(a, b, sums, preferred_element_type=jnp.float32)


_rounded.defvjp(_forward, _backward)
