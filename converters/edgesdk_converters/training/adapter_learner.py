"""What an adapter learns: to say the next token of texts, by terms of low rank beside frozen products.

The graph is the decoder's own with `LowRank` terms (`transforms/add_low_rank.py`), so there is no second
definition of it. Embedding table and head may learn as a whole, for tokens that the model has never seen.
Paper: LoRA (Hu et al., 2106.09685), whose dropout is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.stack_record import GATES
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import LOWERINGS
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.low_rank_term import INNER, WRITTEN, LowRankTerm
from edgesdk_converters.graph.program import Program
from edgesdk_converters.training.frozen_target import Array, rotate_by_table, run_graph
from edgesdk_converters.transforms.add_low_rank import add_low_rank

Parameters = dict[str, Array]


class Batch(TypedDict):
    """What a step learns from: windows, and the weights that stay as they are, by name."""

    tokens: Array
    frozen: dict[str, Array]


TABLES = ("embed", "head")


class AdapterLearner:
    """A `Learner` that trains an adapter on windows of text.

    Attributes:
        products: names of the weights that get a term.
    """

    def __init__(
        self,
        program: Program,
        windows: NDArray[np.int32],
        *,
        rank: int,
        scale: float,
        layers: Sequence[int] | None,
        tables: bool,
        of_a_step: int,
        seed: int,
    ) -> None:
        """Reads the weights.

        Args:
            program: the decoder of the checkpoint, before any transform.
            windows: (n, W) tokens to learn from.
            rank: r.
            scale: of B A.
            layers: which blocks get terms; None for all.
            tables: whether embedding table and head learn.
            of_a_step: windows that one step learns from.
            seed: of the order of windows and of A.

        Raises:
            UnsupportedOption: a layer is not there.
        """
        self.products = _products(program, layers)
        shapes = {name: program.weights.shape(name) for name in self.products}
        terms = {
            name: LowRankTerm(
                (rank,), np.zeros((rank, inputs), np.float32), np.zeros((outputs, rank), np.float32)
            )
            for name, (outputs, inputs) in shapes.items()
        }
        grown = add_low_rank(program, terms, gates=1)
        self._graph = dataclasses.replace(grown.graph, outputs=("logits",))
        self._learnt = [f"{name}{end}" for name in self.products for end in (INNER, WRITTEN)]
        if tables:
            self._learnt += [name for name in TABLES if name in program.weights]
        named = set(self._learnt)
        self._frozen = {
            value.name: jnp.asarray(grown.weights.load(value.name))
            for value in grown.graph.weights
            if value.name not in named
        }
        self._tables = {name: jnp.asarray(program.weights.load(name)) for name in TABLES if name in named}
        self._shapes, self._rank, self._seed = shapes, rank, seed
        self._windows, self._of_a_step = windows, min(of_a_step, len(windows))
        length = windows.shape[1]
        inputs = sequence_inputs(grown, [np.zeros(length, np.int32)])
        inputs[GATES] = np.full((length, 1), scale, np.float32)
        self._inputs = {name: jnp.asarray(value) for name, value in inputs.items() if name != "tokens"}
        self._lowerings = {**LOWERINGS, ops.Rotate: rotate_by_table(length)}
        self._score = jax.jit(self._nats)

    @property
    def tokens_of_a_step(self) -> int:
        """Positions that one step learns from."""
        return self._of_a_step * (int(self._windows.shape[1]) - 1)

    @property
    def of_a_pass(self) -> int:
        """Steps in which every window is read once."""
        return max(1, len(self._windows) // self._of_a_step)

    def start(self) -> Parameters:
        """A drawn as LoRA has it, B zero: the model as it is."""
        keys = jax.random.split(jax.random.key(self._seed), len(self.products))
        found: Parameters = dict(self._tables)
        for key, name in zip(keys, self.products, strict=True):
            outputs, inputs = self._shapes[name]
            shape, bound = (self._rank, inputs), 1 / np.sqrt(inputs)
            found[f"{name}{INNER}"] = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
            found[f"{name}{WRITTEN}"] = jnp.zeros((outputs, self._rank))
        return found

    def batch(self, step: int) -> Batch:
        """Windows of a step: each once in a pass, every pass in another order.

        With them the frozen weights, which else were constants of the program: compiling folds those for
        seconds, and no two models share what was compiled.
        """
        passed, place = divmod(step, self.of_a_pass)
        order = np.random.default_rng([self._seed, passed]).permutation(len(self._windows))
        chosen = order[place * self._of_a_step : (place + 1) * self._of_a_step]
        return {"tokens": jnp.asarray(self._windows[chosen]), "frozen": self._frozen}

    def loss(
        self, parameters: Parameters, batch: Batch, key: Array, progress: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean negative log-likelihood of the next token, nats."""
        weights = {**batch["frozen"], **parameters}
        nats = jax.vmap(lambda tokens: self._nats(weights, tokens))(batch["tokens"])
        return nats.mean(), {}

    def score(self, parameters: Parameters, windows: NDArray[np.int32]) -> float:
        """Nats that all tokens of windows but the first of each cost."""
        return float(self.nats(parameters, windows).sum())

    def nats(self, parameters: Parameters, windows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Nats of each token of windows but the first.

        Args:
            parameters: as far as they are.
            windows: (n, W), W as of those that are learnt from.

        Returns:
            (n, W - 1).
        """
        weights = {**self._frozen, **parameters}
        return np.stack([np.asarray(self._score(weights, jnp.asarray(tokens))) for tokens in windows])

    def _nats(self, weights: Parameters, tokens: Array) -> Array:
        inputs = {**self._inputs, "tokens": tokens}
        logits = run_graph(self._graph, weights, inputs, self._lowerings)["logits"]
        chosen = jax.nn.log_softmax(logits[:-1], axis=-1)
        return -jnp.take_along_axis(chosen, tokens[1:, None], axis=-1)[:, 0]


def _products(program: Program, layers: Sequence[int] | None) -> tuple[str, ...]:
    """Weights of the linear layers of some blocks, each read once.

    Raises:
        UnsupportedOption: a block is not there.
    """
    count = len(program.spec.blocks)
    absent = sorted(set(layers or ()) - set(range(count)))
    if absent:
        raise UnsupportedOption(f"layers names {absent[0]}, expected 0 to {count - 1}")
    wanted = tuple(f"layers.{i}." for i in (range(count) if layers is None else layers))
    weights = {value.name for value in program.graph.weights}
    names = [node.inputs[1] for node in program.graph.nodes if isinstance(node.op, ops.Linear)]
    return tuple(name for name in names if name.startswith(wanted) and name in weights)
