"""What streams and their model learn together: the paper's own training, after which the model is another.

The rows of tokens learn, too: products that have a low-rank part for streams get one for every row, W + B A,
and the text's next token is learnt beside what streams say. So streams can be prepared by rows before them
(Bhendawade et al.: Speculative Streaming, arXiv 2402.11131, equation 3: CE of the next token and 0.1 of that
of each stream). A stream is compared with the changed model itself, as it is in that step.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from edgesdk_converters.training.frozen_target import HIDDEN, TargetHead
from edgesdk_converters.training.losses import Array, Judged, acceptance
from edgesdk_converters.training.stream_batches import StreamBatch
from edgesdk_converters.training.stream_learner import Batch, StreamLearner, Tensors

BASE = "base."
"""Before the names of what changes the model: `base.WEIGHT.A` (r, I) and `base.WEIGHT.B` (O, r)."""

STREAMS_WEIGHT = 0.1
"""Of the loss of each stream, beside the next token's; the paper's."""


def low_rank_changes(parameters: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    """A and B of every weight of the model that learnt; none where it did not."""
    names = [name[len(BASE) : -2] for name in parameters if name.startswith(BASE) and name.endswith(".A")]
    return {name: (parameters[f"{BASE}{name}.A"], parameters[f"{BASE}{name}.B"]) for name in names}


def changed_weights(weights: Mapping[str, Array], parameters: Mapping[str, Array]) -> dict[str, Array]:
    """Weights of the model as it is after its changes."""
    changes = low_rank_changes(parameters)
    return {**weights, **{name: weights[name] + b @ a for name, (a, b) in changes.items()}}


class SharedLearner(StreamLearner):
    """A `Learner` that trains streams and the model that they are rows of; `rows` must run the text whole."""

    @cached_property
    def _all_rows(self) -> Array:
        return TargetHead(self._program, np.arange(self._program.spec.vocab_size, dtype=np.int32)).rows

    def start(self) -> Tensors:
        """Parameters to begin with: the model as it is."""
        found = super().start()
        keys = jax.random.split(jax.random.key(self._seed), len(self._rows.adapted))
        for key, name in zip(keys, self._rows.adapted, strict=True):
            b, a = found[f"{name}.B"], found[f"{name}.A"]
            bound = a.shape[1] ** -0.5
            found[f"{BASE}{name}.A"] = jax.random.uniform(key, a.shape, minval=-bound, maxval=bound)
            found[f"{BASE}{name}.B"] = jnp.zeros_like(b)
        return found

    def tensors(self, batch: StreamBatch) -> dict[str, object]:
        """A batch as the traced functions take it, with the head's rows of all words."""
        return {**super().tensors(batch), "all_rows": self._all_rows}

    def loss(
        self, parameters: Tensors, batch: Batch, key: Array, progress: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The next token's, and a tenth of each stream's; `nats` is the first of the two."""
        judged, valid, hidden = self._run(parameters, batch, key, progress)
        places = batch["places"]
        said = jax.nn.log_softmax(self._frozen.head.logits(hidden[places], batch["all_rows"]), axis=-1)
        nats = -jnp.take_along_axis(said, batch["tokens"][places + 1][:, None], axis=-1).mean()
        count = jnp.maximum(valid.sum(axis=1), 1)
        streams = (self._loss(judged) * valid).sum(axis=1) / count
        kept = (acceptance(judged) * valid).sum(axis=1) / count
        figures = {f"kept.{j + 1}": kept[j] for j in range(valid.shape[0])}
        return nats + STREAMS_WEIGHT * streams.sum(), {"nats": nats, **figures}

    def judge(self, parameters: Tensors, batch: Batch, key: Array, progress: Array) -> tuple[Judged, Array]:
        """What streams and the changed model say of a batch: (G, M) guesses; and which of them are there."""
        return self._run(parameters, batch, key, progress)[:2]

    def _run(
        self, parameters: Tensors, batch: Batch, key: Array, progress: Array
    ) -> tuple[Judged, Array, Array]:
        """The same, and what the head reads of the text, (S, E)."""
        rows, head = batch["rows"], self._frozen.head
        batch = {**batch, "weights": changed_weights(batch["weights"], parameters)}
        made = self._rows.read(batch)
        own = {name: value for name, value in parameters.items() if not name.startswith(BASE)}
        said = head.logits(self._rows.streams(own, batch, made).swapaxes(0, 1), rows)
        G = said.shape[0]
        at = batch["places"][None] + jnp.arange(1, G + 1)[:, None]
        hidden = jax.lax.stop_gradient(made[HIDDEN])[jnp.minimum(at, batch["tokens"].shape[0] - 1)]
        log_z = jax.nn.logsumexp(head.logits(hidden, batch["all_rows"]), axis=-1)
        target = head.logits(hidden, rows) - log_z[..., None]
        place = jnp.where(batch["follows"] < 0, -1, batch["place"][batch["follows"]])
        judged = Judged(said, jax.lax.stop_gradient(target), place, key, progress)
        return judged, batch["valid"], made[HIDDEN]
