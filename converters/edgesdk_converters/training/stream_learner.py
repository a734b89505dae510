"""What streams learn: to say what their model says some tokens later, by the rows of that model itself.

The text runs through the frozen blocks, then the streams of some of its places run over its keys and values
(`stream_graph`). Each stream is compared with the target's own distribution after the text in between, which
it has not seen. Nothing of the target learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import LOWERINGS, Lowering
from edgesdk_converters.graph.program import Program
from edgesdk_converters.streams.stream_config import START, StreamConfig, adapted_weights
from edgesdk_converters.training.draft_learner import Frozen
from edgesdk_converters.training.frozen_target import HIDDEN, rotate_by_table, run_graph, scaled_embedding
from edgesdk_converters.training.losses import Array, Judged, Loss, acceptance
from edgesdk_converters.training.products import Numbers, find_product
from edgesdk_converters.training.stream_batches import StreamBatch, StreamBatches
from edgesdk_converters.training.stream_graph import stream_graphs

Tensors = dict[str, Array]
Batch = Mapping[str, Any]
"""Arrays by name, and the weights of the target, by their names, under `weights`."""
_MASKED = jnp.float32(-1e9)


class StreamRows:
    """The rows of streams, as a function of their parameters that jax can trace."""

    def __init__(
        self, config: StreamConfig, program: Program, tokens: int, numbers: Numbers, *, whole: bool = False
    ) -> None:
        """Cuts the graph.

        Args:
            config: of the streams.
            program: the target, before any transform.
            tokens: S, of a batch.
            numbers: of the factors of products.
            whole: whether `read` gives what the head reads of the text, too.

        Raises:
            UnsupportedOption: the target's blocks have no such streams.
        """
        self.config, self._spec = config, program.spec
        self.adapted = adapted_weights(config, program.spec)
        ranks = dict.fromkeys(self.adapted, config.rank)
        self._graphs = stream_graphs(program.graph, program.spec, config.first, ranks, whole=whole)
        names = {value.name for value in (*self._graphs.text.weights, *self._graphs.rows.weights)}
        learnt = {f"{name}.{side}" for name in self.adapted for side in "AB"}
        self.weights: Tensors = {
            name: jnp.asarray(program.weights.load(name)) for name in sorted(names - learnt)
        }
        self._lowerings: Mapping[type[ops.Op], Lowering] = {
            **LOWERINGS,
            ops.Rotate: rotate_by_table(tokens + config.count),
            ops.Linear: _linear_of(numbers),
        }

    def new_parameters(self, program: Program, seed: int) -> Tensors:
        """Parameters to begin with: streams are rows of the target as it is."""
        random = np.random.default_rng(seed)
        G, E, r = self.config.count, program.spec.hidden_size, self.config.rank
        table = scaled_embedding(program)
        scale = float(np.sqrt(np.mean(table[:: max(1, len(table) // 1024)] ** 2)))
        begin = random.standard_normal((G, E)) * (0.1 * scale)
        if self.config.form == "masks":
            begin += table.mean(axis=0)
        found = {START: jnp.asarray(begin, jnp.float32)}
        for name in self.adapted:
            rows, columns = program.weights.shape(name)
            found[f"{name}.A"] = jnp.asarray(
                random.standard_normal((r, columns)) * columns**-0.5, jnp.float32
            )
            found[f"{name}.B"] = jnp.zeros((rows, r), jnp.float32)
        return found

    def hidden(self, parameters: Tensors, batch: Batch) -> Array:
        """(M, G, E) what the head reads in every stream of a batch, over the frozen text."""
        return self.streams(parameters, batch, jax.lax.stop_gradient(self.read(batch)))

    def read(self, batch: Batch) -> dict[str, Array]:
        """Keys and values of a batch's text by name; `HIDDEN` (S, E), too, where it runs whole."""
        positions, owners = batch["positions"], batch["owners"]
        text = {self._graphs.start: self._start(batch), "positions": positions, **self._no_cells()}
        text |= {"rows": jnp.arange(positions.shape[0])} if HIDDEN in self._graphs.text.outputs else {}
        text |= self._masks(positions, owners, positions, owners)
        return run_graph(self._graphs.text, batch["weights"], text, self._lowerings)

    def streams(self, parameters: Tensors, batch: Batch, made: Mapping[str, Array]) -> Array:
        """(M, G, E) what the head reads in every stream of a batch, over the text that `read` gave."""
        graphs, G = self._graphs, self.config.count
        places, positions = batch["places"], batch["positions"]
        M = places.shape[0]
        begin = parameters[START][None]
        if self.config.form == "streams":
            begin = begin + self._start(batch)[places][:, None]
        begin = jnp.broadcast_to(begin, (M, G, self._spec.hidden_size)).reshape(M * G, -1)
        ahead = (positions[places][:, None] + jnp.arange(1, G + 1)).reshape(-1)
        rows = {
            graphs.start: begin,
            "positions": ahead,
            "rows": jnp.arange(M * G),
            **{cell: made[new] for cell, new in graphs.cells.items()},
            **self._row_masks(batch, ahead),
        }
        learnt = {name: value for name, value in parameters.items() if name != START}
        out = run_graph(graphs.rows, {**batch["weights"], **learnt}, rows, self._lowerings)
        return out[HIDDEN].reshape(M, G, -1)

    def _start(self, batch: Batch) -> Array:
        """(S, E) the text's states where streams begin."""
        masks = self.config.form == "masks"
        start = batch["embedding"][batch["tokens"]] if masks else batch["start"]
        return jnp.asarray(start, jnp.float32)

    def _row_masks(self, batch: Batch, ahead: Array) -> dict[str, Array]:
        """A stream sees its token and what that sees, and the streams of the same token before it."""
        G = self.config.count
        places, positions, owners = (batch[name] for name in ("places", "positions", "owners"))
        M = places.shape[0]
        behind = jnp.repeat(positions[places], G)
        owner = jnp.repeat(owners[places], G)
        seen = (owner[:, None] == owners) & (positions <= behind[:, None])
        group, number = jnp.repeat(jnp.arange(M), G), jnp.tile(jnp.arange(G), M)
        beside = (group[:, None] == group) & (number <= number[:, None])
        both = jnp.concatenate([seen, beside], axis=1)
        distance = ahead[:, None] - jnp.concatenate([positions, ahead])
        return self._named(both, distance)

    def _masks(self, at: Array, owner: Array, of: Array, owners: Array) -> dict[str, Array]:
        distance = at[:, None] - of
        return self._named((owner[:, None] == owners) & (distance >= 0), distance)

    def _named(self, seen: Array, distance: Array) -> dict[str, Array]:
        masks = {"mask": jnp.where(seen, 0.0, _MASKED)}
        if self._spec.window is not None:
            masks["window_mask"] = jnp.where(seen & (distance < self._spec.window), 0.0, _MASKED)
        return masks

    def _no_cells(self) -> dict[str, Array]:
        """No cells, of the text's own shapes."""
        values = self._graphs.text.values
        found = {}
        for name in self._graphs.cells:
            if name in values:
                K, _, D = values[name].shape
                found[name] = jnp.zeros((K, 0, D), jnp.float32)
        return found


class StreamLearner:
    """A `Learner` that trains streams."""

    def __init__(
        self,
        rows: StreamRows,
        program: Program,
        frozen: Frozen,
        batches: StreamBatches,
        loss: Loss,
        seed: int,
        decay: float = 0.8,
    ) -> None:
        """Prepares.

        Args:
            rows: of the streams.
            program: the target, before any transform.
            frozen: the head's rows of the words that are learnt, and the embedding.
            batches: what it learns from.
            loss: of one guess.
            seed: of the first parameters.
            decay: how much less each stream counts than the one before.
        """
        self._rows, self._program, self._frozen = rows, program, frozen
        self._batches, self._loss, self._seed, self._decay = batches, loss, seed, decay

    @property
    def tokens_of_a_step(self) -> int:
        """Places that one step learns from."""
        return self._batches.positions

    def start(self) -> Tensors:
        """Parameters to begin with."""
        return self._rows.new_parameters(self._program, self._seed)

    def batch(self, step: int) -> Mapping[str, object]:
        """What a step learns from; with the frozen parts, which else were constants of the program."""
        return self.tensors(self._batches.at(step))

    def tensors(self, batch: StreamBatch) -> dict[str, object]:
        """A batch as the traced functions take it."""
        found: dict[str, object] = {name: value for name, value in vars(batch).items() if value is not None}
        return found | {
            "embedding": self._frozen.embedding,
            "rows": self._frozen.head.rows,
            "place": self._frozen.place,
            "weights": self._rows.weights,
        }

    def loss(
        self, parameters: Tensors, batch: Batch, key: Array, progress: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean over places and streams; figures are the expected acceptance of each, `kept.j`."""
        judged, valid = self.judge(parameters, batch, key, progress)
        G = valid.shape[0]
        weights = valid * (self._decay ** jnp.arange(G))[:, None]
        loss = (self._loss(judged) * weights).sum() / jnp.maximum(weights.sum(), 1.0)
        kept = (acceptance(judged) * valid).sum(axis=1) / jnp.maximum(valid.sum(axis=1), 1)
        return loss, {f"kept.{j + 1}": kept[j] for j in range(G)}

    def judge(self, parameters: Tensors, batch: Batch, key: Array, progress: Array) -> tuple[Judged, Array]:
        """What streams and their target say of a batch: (G, M) guesses; and which of them are there."""
        hidden = self._rows.hidden(parameters, batch).swapaxes(0, 1)
        rows, head = batch["rows"], self._frozen.head
        target = head.logits(batch["hidden"].astype(jnp.float32), rows) - batch["log_z"][..., None]
        place = jnp.where(batch["follows"] < 0, -1, batch["place"][batch["follows"]])
        said = head.logits(hidden, rows)
        return Judged(said, jax.lax.stop_gradient(target), place, key, progress), batch["valid"]


def _linear_of(numbers: Numbers) -> Lowering:
    product = find_product(numbers)

    def linear(op: ops.Linear, xp: object, x: Array, weight: Array, *bias: Array) -> tuple[Array, ...]:
        y = product(x, weight)
        return (y + bias[0] if bias else y,)

    return cast(Lowering, linear)
