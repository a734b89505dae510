"""What each matrix costs when it alone is stored in fewer bits: measured, not estimated.

The model runs in float32 but for one matrix; the divergence of its next-token distribution from the
float32 model's is that matrix's sensitivity. Measured figures are kept in a file as they come, so an
interrupted search goes on where it stopped. It does not choose: see `edgesdk_converters.quantise.budget`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.evaluation.agreement import Agreement
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.replay import Replay
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor

Text = NDArray[np.int32]
_SCORED_EVERY = 4
"""One position in so many is scored: neighbours say much the same, and a row of logits is dear."""


@dataclass(frozen=True)
class Sensitivity:
    """One matrix.

    Attributes:
        weight: its name.
        kl_nats: mean KL(float32 || this matrix in few bits) per scored position.
        bytes_saved: against its form in more bits.
    """

    weight: str
    kl_nats: float
    bytes_saved: int

    @property
    def price(self) -> float:
        """Divergence per byte saved."""
        return max(self.kl_nats, 0.0) / self.bytes_saved


def measure_sensitivities(
    program: Program,
    high: Mapping[str, QuantisedTensor],
    low: Mapping[str, QuantisedTensor],
    texts: Sequence[Text],
    *,
    store: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Sensitivity]:
    """Measures every matrix that has two forms.

    Args:
        program: prepared decoder with float32 weights.
        high: matrices in more bits, by name.
        low: the same matrices in fewer bits; those that are missing or no smaller stay as they are.
        texts: token ids to measure on.
        store: file that keeps figures between runs; damaged lines are measured again.
        report: told how far it is.

    Returns:
        One entry per matrix, cheapest byte first; equal prices by name.
    """
    say = report or (lambda line: None)
    names = sorted(n for n in low if n in high and low[n].nbytes < high[n].nbytes)
    known = _read(store)
    inputs = sequence_inputs(program, texts)
    inputs["rows"] = np.arange(0, len(inputs["tokens"]), _SCORED_EVERY, dtype=np.int32)
    following = _following(texts)[inputs["rows"]]
    replay: Replay | None = None
    found = []
    for index, name in enumerate(names):
        key = _key(texts, low[name], name)
        if key not in known:
            if replay is None:  # a search that only reads its file runs no model
                say("running the float32 model")
                replay = Replay(program.graph, ResidentWeights(program.weights), inputs)
            if index % 10 == 0:
                say(f"measuring matrix {index + 1} of {len(names)}")
            logits = replay.run(replay.cut_before(name), changed={name: low[name].dequantise()})
            known[key] = _divergence(following, logits, replay.result)
            _append(store, key, known[key])
        found.append(Sensitivity(name, known[key], high[name].nbytes - low[name].nbytes))
    return sorted(found, key=lambda s: (s.price, s.weight))


def _following(texts: Sequence[Text]) -> Text:
    """The token after each position; -1 after the last of a text."""
    return np.concatenate([np.append(text[1:], -1) for text in texts]).astype(np.int32)


def _divergence(following: Text, logits: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    scored = following >= 0
    agreement = Agreement()
    agreement.add_rows(following[scored], logits[scored], reference[scored])
    return agreement.report().kl_nats or 0.0


def _key(texts: Sequence[Text], tensor: QuantisedTensor, name: str) -> str:
    """What a figure depends on: the texts and the very integers, which name the model too."""
    digest = hashlib.sha256(name.encode())
    for array in (*texts, tensor.values, tensor.scales):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _read(store: Path | None) -> dict[str, float]:
    known: dict[str, float] = {}
    if store is None or not store.exists():
        return known
    try:
        lines = store.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return known
    for line in lines:
        try:
            key, value, check = json.loads(line)
            if check == _check(key, value):  # else the disk has damaged it
                known[str(key)] = float(value)
        except (ValueError, TypeError):  # the line that an interrupt cut short
            continue
    return known


def _append(store: Path | None, key: str, value: float) -> None:
    if store is None:
        return
    with contextlib.suppress(OSError):  # without, the next run measures again
        store.parent.mkdir(parents=True, exist_ok=True)
        with store.open("a", encoding="utf-8") as file:
            # The newline comes first: what an interrupt cut short must not swallow the next figure.
            file.write("\n" + json.dumps([key, value, _check(key, value)]))


def _check(key: str, value: float) -> str:
    return hashlib.sha256(f"{key} {value!r}".encode()).hexdigest()[:16]
