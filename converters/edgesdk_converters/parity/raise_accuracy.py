"""Finds the products of an ONNX variant whose int8 activations change its answers, and raises those.

MatMulNBits quantises activations to int8 in blocks of 32; a block with one large channel leaves the
others few steps. What that costs is measured against the same file with float activations everywhere,
so that the weights' own error does not count, in three steps:

    1. each group of products (one kind in a quarter of the layers; the head) alone in float: what it
       lowers the divergence by, for what it costs (`Product.cost`)
    2. products in the order of their group's price; the fewest from the front that reach the wish are
       found by bisection
    3. those stay raised in the file

Deterministic. Weights are not touched. It knows ONNX files; other targets have no such choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import AccuracyRecord
from edgesdk.devices.cpu import usable_cores
from edgesdk.evaluation.agreement import Agreement, AgreementReport
from edgesdk_converters.emit.onnx.node_accuracy import Product, quantised_products, set_float_activations

Text = NDArray[np.int32]
Logits = list[NDArray[np.float32]]

BANDS = 4
TEXTS, TEXT_TOKENS = 4, 256
"""What prefixes are measured on. 1,000 positions tell shares apart by half a percent."""

_GROUP_TOKENS = 64
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")


def raise_accuracy(
    path: Path,
    spec: DecoderSpec,
    context: int,
    texts: Sequence[Text],
    wish: float,
    report: Callable[[str], None] | None = None,
) -> AccuracyRecord:
    """Raises the fewest products that bring a model's first choices to a wished agreement.

    Args:
        path: the variant's `model.onnx`; rewritten, but for the data beside it.
        spec: the decoder.
        context: longest sequence.
        texts: token ids, kept apart from what parity is measured on.
        wish: least share of positions with the first choice of float activations, above 0 and below 1.
        report: told what is measured.

    Returns:
        What was raised, and what it brought.

    Raises:
        DeviceError: ONNX Runtime cannot run the model.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    say = report or (lambda line: None)
    products = quantised_products(path)
    trial = _Trial(path, spec, context, [text[: min(TEXT_TOKENS, context)] for text in texts[:TEXTS]])
    say("measuring int8 against float activations")
    trial.reference = trial.run([p.weight for p in products])
    before = trial.measure([])
    raised: tuple[str, ...] = ()
    after = before
    if _share(before) < wish:
        order = _by_price(trial, products, spec, say)
        raised, after = _fewest(trial, order, wish, say)
    set_float_activations(path, raised)
    mine = sum(p.multiplications for p in products if p.weight in raised)
    return AccuracyRecord(
        wish=wish,
        raised=raised,
        multiplications_share=mine / max(1, sum(p.multiplications for p in products)),
        positions=before.positions,
        top1_before=_share(before),
        top1_after=_share(after),
        kl_before_nats=before.kl_nats or 0.0,
        kl_after_nats=after.kl_nats or 0.0,
    )


def _by_price(
    trial: _Trial, products: Sequence[Product], spec: DecoderSpec, say: Callable[[str], None]
) -> list[str]:
    """Weights, those first whose group lowers the divergence most for what it costs."""
    groups = _groups(products, len(spec.layers))
    worst = trial.measure([], _GROUP_TOKENS).kl_nats or 0.0
    prices: dict[str, float] = {}
    for index, (name, members) in enumerate(groups.items()):
        say(f"measuring group {index + 1} of {len(groups)}: {name}")
        left = trial.measure([p.weight for p in members], _GROUP_TOKENS).kl_nats or 0.0
        prices[name] = (worst - left) / sum(p.cost for p in members)
    ranked = sorted(groups, key=lambda name: (-prices[name], name))
    return [product.weight for name in ranked for product in groups[name]]


def _groups(products: Sequence[Product], layers: int) -> Mapping[str, list[Product]]:
    """Products by kind and band of layers, in the order of the nodes."""
    groups: dict[str, list[Product]] = {}
    for product in products:
        match = _LAYER.fullmatch(product.weight)
        band = "" if match is None else f" of quarter {int(match[1]) * BANDS // layers + 1}"
        groups.setdefault((product.weight if match is None else match[2]) + band, []).append(product)
    return groups


def _fewest(
    trial: _Trial, order: Sequence[str], wish: float, say: Callable[[str], None]
) -> tuple[tuple[str, ...], AgreementReport]:
    """The shortest prefix within the wish, by bisection: the whole is, by definition; none is not."""
    short, enough = 0, len(order)
    found = trial.measure(order)
    while enough - short > 1:
        middle = (short + enough) // 2
        say(f"measuring {middle} of {len(order)} products with float activations")
        measured = trial.measure(order[:middle])
        if _share(measured) >= wish:
            enough, found = middle, measured
        else:
            short = middle
    return tuple(order[:enough]), found


def _share(report: AgreementReport) -> float:
    return report.top1_agreement or 0.0


class _Trial:
    """Runs one file with different products in float."""

    def __init__(self, path: Path, spec: DecoderSpec, context: int, texts: Sequence[Text]) -> None:
        self._path, self._spec, self._context = path, spec, context
        self._texts = [text for text in texts if len(text) > 1]
        self.reference: Logits = []

    def run(self, raised: Collection[str], tokens: int | None = None) -> Logits:
        """Logits of each text, (n, V)."""
        set_float_activations(self._path, raised)
        model = ResidentModel(self._path, self._spec, self._context, threads=usable_cores())
        try:
            return [np.array(model.new_sequence().score(text[:tokens])) for text in self._texts]
        finally:
            model.close()

    def measure(self, raised: Collection[str], tokens: int | None = None) -> AgreementReport:
        """Against the reference, on the first tokens of each text."""
        agreement = Agreement()
        for text, logits, reference in zip(
            self._texts, self.run(raised, tokens), self.reference, strict=True
        ):
            agreement.add(text[:tokens], logits, reference[:tokens])
        return agreement.report()
