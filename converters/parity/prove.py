"""Measures emitted variants, as executed, against the float32 evaluator on the source's weights.

The texts are this package's own (`passages.txt`, `prompts.txt`); they catch broken conversions and
are no benchmark of quality. This is the one converter module that uses edgesdk's runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters.graph.full_sequence import sequence_logits
from converters.graph.program import Program
from converters.quantise.recipe import Recipe
from edgesdk.bundle.manifest import ParityReport, Variant
from edgesdk.evaluation.agreement import Agreement
from edgesdk.evaluation.greedy import first_divergence, summarise
from edgesdk.load import load
from edgesdk.model import Model

GREEDY_TOKENS = 32
_LONGEST_TEXT = 256  # tokens: bounds the evaluator's logits to 50 MB at 50k words

Text = NDArray[np.int32]


@dataclass(frozen=True)
class Reference:
    """The evaluator's logits for texts, computed in one pass and kept.

    Attributes:
        texts: token ids.
        logits: (n, V) for each.
    """

    texts: tuple[Text, ...]
    logits: tuple[NDArray[np.float32], ...]


def passages() -> list[str]:
    """The built-in texts."""
    text = (files("converters.parity") / "passages.txt").read_text(encoding="utf-8")
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def prompts() -> list[str]:
    """The built-in prompts."""
    return (files("converters.parity") / "prompts.txt").read_text(encoding="utf-8").splitlines()


def make_reference(program: Program, encode: Callable[[str], Sequence[int]]) -> Reference:
    """Scores the built-in passages with the evaluator.

    Args:
        program: float32, before any transform.
        encode: the model's tokenizer.
    """
    texts = tuple(np.asarray(encode(text), np.int32)[:_LONGEST_TEXT] for text in passages())
    texts = tuple(text for text in texts if len(text) > 1)
    return Reference(texts, tuple(sequence_logits(program, texts)))


def measure(
    bundle: Path, variant: Variant, backend: str, program: Program, reference: Reference, recipe: Recipe
) -> ParityReport:
    """Runs one variant of a bundle and compares it with the reference.

    Args:
        bundle: folder of the bundle.
        variant: what to run.
        backend: what to run it with.
        program: the reference model, for the generated texts.
        reference: its logits for the passages.
        recipe: for the gate.

    Returns:
        The report.

    Raises:
        DeviceError: the backend cannot run the variant.
    """
    agreement = Agreement()
    with load(bundle, backend=backend, variant=variant.name, strict=True) as model:
        for text, logits in zip(reference.texts, reference.logits, strict=True):
            fitting = text[: variant.context]
            agreement.add(fitting, model.score(fitting), logits[: len(fitting)])
        generated = list(_greedy_texts(model))
    lengths = [count for count, _ in generated]
    texts = [text for _, text in generated]
    scored = sequence_logits(program, texts)
    divergences = [first_divergence(n, t, r) for n, t, r in zip(lengths, texts, scored, strict=True)]
    report = agreement.report()
    return ParityReport(
        backend=backend,
        positions=report.positions,
        perplexity=report.perplexity,
        reference_perplexity=report.reference_perplexity or 0.0,
        perplexity_ratio=report.perplexity_ratio or 0.0,
        kl_nats=report.kl_nats or 0.0,
        top1_agreement=report.top1_agreement or 0.0,
        gate_perplexity_ratio=recipe.gate_perplexity_ratio,
        gate_top1_agreement=recipe.gate_top1_agreement,
        greedy=summarise(divergences, GREEDY_TOKENS),
    )


def _greedy_texts(model: Model) -> Iterator[tuple[int, Text]]:
    """Prompt length and tokens of each answer, as far as the context allows."""
    room = model.context
    for prompt in prompts():
        ids = model.render_prompt(prompt)
        if len(ids) + 2 > room:
            continue
        limit = min(GREEDY_TOKENS, room - len(ids))
        answer = model.generate(ids, max_tokens=limit, temperature=0.0, repetition_penalty=1.0)
        yield len(ids), np.asarray([*ids, *answer.tokens], np.int32)


def misses_gate(report: ParityReport) -> str | None:
    """Why a report misses its recipe's gate; None if it does not."""
    if not report.perplexity_ratio <= report.gate_perplexity_ratio:
        return (
            f"perplexity ratio {report.perplexity_ratio:.3f} is above "
            f"the recipe's {report.gate_perplexity_ratio:.3f}"
        )
    if not report.top1_agreement >= report.gate_top1_agreement:
        return (
            f"top-1 agreement {report.top1_agreement:.3f} is below "
            f"the recipe's {report.gate_top1_agreement:.3f}"
        )
    return None
