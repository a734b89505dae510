"""Measures emitted variants, as executed, against the float32 evaluator on the source's weights.

The texts are this package's own (`passages.txt`, `prompts.txt`); they catch broken conversions and
are no benchmark of quality. This is the one converter module that uses edgesdk's runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.litert.weight_cache import forgotten_on_failure
from edgesdk.backends.wide_logits import widen_rows
from edgesdk.bundle.manifest import ChatAgreement, GreedyAgreement, ParityReport, Variant, VocabularyRecord
from edgesdk.bundle.reader import open_bundle
from edgesdk.evaluation.agreement import Agreement, AgreementReport
from edgesdk.evaluation.chats import check_chats
from edgesdk.evaluation.greedy import Divergence, first_divergence, greedy_texts, summarise
from edgesdk.load_model import load
from edgesdk.model import Model
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.parity.answer_questions import ReferenceAnswers
from edgesdk_converters.quantise.recipe import Recipe

GREEDY_TOKENS = 32
_LONGEST_TEXT = 256  # tokens: bounds the evaluator's logits to 50 MB at 50k words
_SCORED_AT_ONCE = 32  # answers, each with logits for all its tokens

Text = NDArray[np.int32]
Ids = NDArray[np.int64]


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
    text = (files("edgesdk_converters.parity") / "passages.txt").read_text(encoding="utf-8")
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def prompts() -> list[str]:
    """The built-in prompts."""
    return (files("edgesdk_converters.parity") / "prompts.txt").read_text(encoding="utf-8").splitlines()


def make_reference(
    program: Program, encode: Callable[[str], Sequence[int]], writable: Ids | None = None
) -> Reference:
    """Scores the built-in passages with the evaluator.

    Args:
        program: float32, before any transform.
        encode: the model's tokenizer.
        writable: (N,) the tokens that a pruned head writes, ascending; None for all.
    """
    texts = tuple(np.asarray(encode(text), np.int32)[:_LONGEST_TEXT] for text in passages())
    texts = tuple(text for text in texts if len(text) > 1)
    return Reference(texts, tuple(_logits(program, texts, writable)))


def _logits(
    program: Program, texts: Sequence[Text], writable: Ids | None, starts: Sequence[int] | None = None
) -> Iterator[NDArray[np.float32]]:
    """(n, V) for each text, or (n - start, V), whatever the head writes."""
    for rows in sequence_logits(program, texts, starts=starts):
        yield rows if writable is None else widen_rows(rows, writable, program.spec.vocab_size)


def describe_reference(program: Program, vocabulary: VocabularyRecord | None) -> str:
    """What a reference is: the source, and what was left out of it before anything was quantised."""
    parts = ["the source"]
    if vocabulary is not None:
        what = "tokens to write" if vocabulary.output_only else "tokens"
        parts.append(f"with {vocabulary.tokens} of {vocabulary.source_tokens} {what}")
    for record in program.history:
        if record.name == "skip_layers":
            parts.append(f"without {record.settings['skipped']}")
        elif record.name == "repair_stack":
            parts.append("repaired")
    return ", ".join(parts)


@dataclass(frozen=True)
class Measured:
    """What running one variant gave.

    Attributes:
        backend: that ran it.
        agreement: on the passages.
        chats: on the questions; None where none fits.
        answers: prompt length and tokens of each greedy answer.
    """

    backend: str
    agreement: AgreementReport
    chats: ChatAgreement | None
    answers: tuple[tuple[int, Text], ...]


@contextmanager
def own_weights_forgotten(bundle: Path) -> Iterator[None]:
    """Where a bundle is given up inside the block, has what was packed of its weights go with it.

    Args:
        bundle: folder of the bundle.
    """
    manifest = open_bundle(bundle).manifest
    entries = [variant.entry for variant in manifest.variants if variant.format == "litert"]
    if not entries:
        yield
        return
    with forgotten_on_failure([manifest.files[entry].sha256 for entry in entries]):
        yield


def measure(
    bundle: Path,
    variant: Variant,
    backend: str,
    reference: Reference,
    answers: ReferenceAnswers,
    agreed: Callable[[Model, AgreementReport], None] | None = None,
) -> Measured:
    """Runs one variant of a bundle on the passages, the questions and the prompts.

    Args:
        bundle: folder of the bundle.
        variant: what to run.
        backend: what to run it with.
        reference: the reference's logits for the passages.
        answers: of the reference to the questions; made when they are first wanted.
        agreed: handed the loaded model and its agreement on the passages, before it answers anything;
            what it raises ends the measurement.

    Raises:
        DeviceError: the backend cannot run the variant.
    """
    agreement = Agreement()
    with load_packed(bundle, variant, backend) as model:
        for text, logits in zip(reference.texts, reference.logits, strict=True):
            fitting = text[: variant.context]
            agreement.add(fitting, model.score(fitting), logits[: len(fitting)])
        found = agreement.report()
        if agreed is not None:
            agreed(model, found)
        chats = answers.to(model)
        same = None if chats is None else check_chats(model, chats)
        return Measured(backend, found, same, tuple(greedy_texts(model, prompts(), GREEDY_TOKENS)))


def load_packed(bundle: Path, variant: Variant, backend: str) -> Model:
    """Loads a variant, again where that has packed its weights.

    Who has packed holds more than who finds packed weights, which the reference's come on top of: of 1.07
    billion weights 118 MiB of its own, and the packed ones as memory that the system cannot drop.
    """
    model = load(bundle, backend=backend, variant=variant.name, strict=True)
    if model.receipt.weight_cache != "built":
        return model
    model.close()
    return load(bundle, backend=backend, variant=variant.name, strict=True)


def parity_report(
    backend: str,
    found: AgreementReport,
    recipe: Recipe,
    against: str,
    greedy: GreedyAgreement | None = None,
    chats: ChatAgreement | None = None,
) -> ParityReport:
    """What was measured of a variant beside the gate of its recipe."""
    return ParityReport(
        backend=backend,
        positions=found.positions,
        perplexity=found.perplexity,
        reference_perplexity=found.reference_perplexity or 0.0,
        perplexity_ratio=found.perplexity_ratio or 0.0,
        kl_nats=found.kl_nats or 0.0,
        top1_agreement=found.top1_agreement or 0.0,
        gate_perplexity_ratio=recipe.gate_perplexity_ratio,
        gate_top1_agreement=recipe.gate_top1_agreement,
        greedy=greedy,
        against=against,
        chats=chats,
    )


def judge(
    program: Program,
    measured: Sequence[Measured],
    recipes: Sequence[Recipe],
    against: str = "the source",
    writable: Ids | None = None,
) -> list[ParityReport]:
    """Lets the reference score the answers of all variants, each other one once, and sums up.

    Args:
        program: the reference model.
        measured: one entry per variant.
        recipes: the recipe of each, for its gate.
        against: what the reference is.
        writable: (N,) the tokens that a pruned head writes, ascending; None for all.

    Returns:
        A report per variant.
    """
    found = _first_divergences(program, [answer for entry in measured for answer in entry.answers], writable)
    reports = []
    for entry, recipe in zip(measured, recipes, strict=True):
        divergences = [found[_key(answer)] for answer in entry.answers]
        greedy = summarise(divergences, GREEDY_TOKENS)
        report = parity_report(entry.backend, entry.agreement, recipe, against, greedy, entry.chats)
        reports.append(report)
    return reports


def _key(answer: tuple[int, Text]) -> tuple[int, bytes]:
    """An answer's prompt length and tokens, to be looked up by: variants often say the same."""
    return answer[0], answer[1].tobytes()


def _first_divergences(
    program: Program, answers: Sequence[tuple[int, Text]], writable: Ids | None
) -> dict[tuple[int, bytes], Divergence | None]:
    """Where the reference would have gone on otherwise; of a prompt only its last token has logits."""
    others = list({_key(answer): answer for answer in answers}.values())
    found: dict[tuple[int, bytes], Divergence | None] = {}
    for start in range(0, len(others), _SCORED_AT_ONCE):
        part = others[start : start + _SCORED_AT_ONCE]
        starts = [count - 1 for count, _ in part]
        scored = _logits(program, [text for _, text in part], writable, starts)
        for (count, text), rows in zip(part, scored, strict=True):
            found[_key((count, text))] = first_divergence(1, text[count - 1 :], rows)
    return found
