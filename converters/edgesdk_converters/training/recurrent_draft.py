"""A recurrent draft under jax: from what the target's head reads, one small step for each drafted token.

After Recurrent Drafter (arXiv 2403.09919) and Hydra (arXiv 2402.05109). It has no cells: its state is a
vector that begins as h, the target's own, so a prompt need not be read, and forks, preemption and batches
cost nothing. Names and shapes are those of `drafts/draft_checkpoint.py`:

    s_0 = h;  x = [norm_s(s_{k-1}); norm_e(e(token_k))]
    s_k = s_{k-1} + down(silu(gate x) * up x), further layers s += down_i(silu(gate_i n_i(s)) * up_i n_i(s))
    logits_k = head[words] . norm_o(s_k)

Embedding and head are the target's and frozen. It knows no loss and no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.training.products import Numbers, find_product

Array: TypeAlias = jax.Array
Parameters: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class DraftShape:
    """Sizes of a recurrent draft.

    Attributes:
        hidden_size: E, of the target.
        width: F, of the feed-forward parts.
        layers: how many of them for each drafted token.
        norm_eps: of all norms.
        numbers: of the factors of products while it trains.
    """

    hidden_size: int
    width: int
    layers: int
    norm_eps: float
    numbers: Numbers = "float32"

    def __post_init__(self) -> None:
        """Refuses sizes without meaning.

        Raises:
            UnsupportedOption: a size is less than 1.
        """
        for name in ("hidden_size", "width", "layers"):
            if getattr(self, name) < 1:
                raise UnsupportedOption(f"{name} of a draft is {getattr(self, name)}, expected at least 1")


def new_parameters(shape: DraftShape, seed: int, scale: float) -> Parameters:
    """Parameters to begin with: the first state stays nearly what it was.

    Args:
        shape: sizes.
        seed: of the draws.
        scale: root mean square of h, so that the head reads at first what it is used to.
    """
    random = np.random.default_rng(seed)
    E, F = shape.hidden_size, shape.width

    def matrix(rows: int, columns: int, factor: float = 1.0) -> Array:
        return jnp.asarray(random.standard_normal((rows, columns)) * (factor * columns**-0.5), jnp.float32)

    ones = jnp.ones(E, jnp.float32)
    parameters = {"norm_s.weight": ones, "norm_e.weight": ones, "norm_o.weight": ones * scale}
    for layer in range(shape.layers):
        into = E if layer else 2 * E
        at = f"layers.{layer}"
        if layer:
            parameters[f"{at}.norm.weight"] = ones
        parameters[f"{at}.gate.weight"] = matrix(F, into)
        parameters[f"{at}.up.weight"] = matrix(F, into)
        parameters[f"{at}.down.weight"] = matrix(E, F, 0.1 * scale)
    return parameters


def next_state(shape: DraftShape, parameters: Mapping[str, Array], state: Array, embedded: Array) -> Array:
    """One drafted token read: state (..., E) and its embedding (..., E) to the next state (..., E)."""
    x = jnp.concatenate(
        [
            _norm(state, parameters["norm_s.weight"], shape.norm_eps),
            _norm(embedded, parameters["norm_e.weight"], shape.norm_eps),
        ],
        axis=-1,
    )
    product = find_product(shape.numbers)
    for layer in range(shape.layers):
        at = f"layers.{layer}"
        if layer:
            x = _norm(state, parameters[f"{at}.norm.weight"], shape.norm_eps)
        gate, up = (product(x, parameters[f"{at}.{part}.weight"]) for part in ("gate", "up"))
        state = state + product(jax.nn.silu(gate) * up, parameters[f"{at}.down.weight"])
    return state


def draft_logits(shape: DraftShape, parameters: Mapping[str, Array], state: Array, head: Array) -> Array:
    """state (..., E), head (V', E) -> (..., V') logits of the token after the one that was read last."""
    normed = _norm(state, parameters["norm_o.weight"], shape.norm_eps)
    return find_product(shape.numbers)(normed, head)


def unroll(
    shape: DraftShape, parameters: Mapping[str, Array], hidden: Array, embedded: Array, head: Array
) -> Array:
    """Logits along a text that is known.

    Args:
        shape: sizes.
        parameters: by name.
        hidden: (N, E), what the target's head read before the first token.
        embedded: (K, N, E), embeddings of the K tokens that follow.
        head: (V', E), rows of the target's head.

    Returns:
        (K, N, V') logits of the token after each.
    """
    states, state = [], hidden
    for depth in range(embedded.shape[0]):
        state = next_state(shape, parameters, state, embedded[depth])
        states.append(state)
    return draft_logits(shape, parameters, jnp.stack(states), head)


def _norm(x: Array, weight: Array, eps: float) -> Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * weight
