"""Proves what was written: each variant runs, and is compared with its stack in float32 before quantising."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import PARITY_NAME, TOKENIZER_NAME, ParityReport, Variant
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import EmitError, UnsupportedOption
from edgesdk.evaluation.agreement import AgreementReport
from edgesdk.evaluation.gate import misses_gate
from edgesdk.evaluation.probe import write_probe
from edgesdk.model import Model
from edgesdk.text.tokenizer import Tokenizer
from edgesdk_converters.parity.answer_questions import ReferenceAnswers
from edgesdk_converters.parity.explain_miss import explain_miss
from edgesdk_converters.parity.prove import describe_reference, judge, make_reference, measure, parity_report
from edgesdk_converters.parity.prove_draft import draft_agreement
from edgesdk_converters.progress import ProgressMeter
from edgesdk_converters.prove_vectors import prove_vectors
from edgesdk_converters.read_source import SourceModel
from edgesdk_converters.vocabulary.kept_speller import kept_speller
from edgesdk_converters.write_variants import MadeVariant

Proven = Callable[[Model, ParityReport], None]
"""Called with a variant that has met its gate, still loaded, before its greedy answers are compared."""


@dataclasses.dataclass(frozen=True)
class ProofSettings:
    """What is done with what was measured.

    Attributes:
        allow_miss: record a miss of the gate instead of failing.
        told: handed every variant that has met its gate; None for nobody.
    """

    allow_miss: bool = False
    told: Proven | None = None

    def take(self, made: MadeVariant, model: Model, report: ParityReport) -> None:
        """Judges a variant by its gate.

        Raises:
            EmitError: it misses the gate, and may not.
        """
        miss = misses_gate(report, report)
        if miss is None and self.told is not None:
            self.told(model, report)
        if miss is not None and not self.allow_miss:
            raise EmitError(explain_miss(made.variant, miss, made.calibration))


def prove_variants(
    writer: BundleWriter,
    preview: Path,
    model: SourceModel,
    made: Sequence[MadeVariant],
    settings: ProofSettings,
    meter: ProgressMeter,
) -> tuple[Variant, ...]:
    """Measures every variant against its stack in float32, as it was before anything was quantised.

    Args:
        writer: of the bundle, which gets the references' logits.
        preview: the bundle as far as it is written; it can be loaded.
        model: what was converted.
        made: the variants.
        settings: what is done with what was measured.
        meter: told how far it is.

    Returns:
        The variants with what was measured, in the order of `made`.

    Raises:
        EmitError: one misses the gate of its recipe.
        DeviceError: a backend cannot run one.
        UnsupportedOption: somebody is to be told of texts, and the model writes none.
    """
    if not model.program.spec.is_causal:
        if settings.told is not None:
            raise UnsupportedOption(
                "a model that gives vectors only writes no text, so it has no figures of it"
            )
        return prove_vectors(writer, preview, model, made, meter, allow_miss=settings.allow_miss)
    encode, writable = _spelling(model, preview)
    eos = model.checkpoint.tokenizer.record.eos_ids
    proven: dict[str, Variant] = {}
    drafted: dict[str, float] = {}
    for program in {id(entry.reference): entry.reference for entry in made}.values():
        entries = [entry for entry in made if entry.reference is program]
        against = describe_reference(program, model.vocabulary)
        meter.enter("scoring", f"scoring the reference: {against}")
        reference = make_reference(program, encode, writable)
        answers = ReferenceAnswers(program, eos, writable, meter.say)
        measured = []
        for entry in entries:
            meter.enter("proving", f"proving {entry.variant.name}")
            backend = entry.target.proof_backend

            def check(
                model: Model,
                found: AgreementReport,
                entry: MadeVariant = entry,
                against: str = against,
                text: NDArray[np.int32] = reference.texts[0],
            ) -> None:
                report = parity_report(entry.target.proof_backend, found, entry.recipe, against)
                settings.take(entry, model, report)
                if entry.draft is not None:
                    drafted[entry.variant.name] = draft_agreement(model, entry.draft, text)

            measured.append(measure(preview, entry.variant, backend, reference, answers, check))
        probe = entries[0].probe
        write_probe(writer.path(probe or PARITY_NAME), reference.texts, reference.logits, chats=answers.found)
        meter.enter("comparing", "comparing the answers with the reference's")
        reports = judge(program, measured, [entry.recipe for entry in entries], against, writable)
        for entry, report in zip(entries, reports, strict=True):
            variant = dataclasses.replace(entry.variant, parity=report, probe=probe)
            proven[variant.name] = _with_agreement(variant, drafted.get(variant.name))
    return tuple(proven[entry.variant.name] for entry in made)


def _with_agreement(variant: Variant, top1_agreement: float | None) -> Variant:
    """The variant with what was measured of the draft in its file."""
    stacks = tuple(
        record
        if record.draft is None
        else dataclasses.replace(
            record, draft=dataclasses.replace(record.draft, top1_agreement=top1_agreement)
        )
        for record in variant.stacks
    )
    return dataclasses.replace(variant, stacks=stacks)


def _spelling(
    model: SourceModel, preview: Path
) -> tuple[Callable[[str], Sequence[int]], NDArray[np.int64] | None]:
    """How texts become tokens that the model can write, and which those are; None for all."""
    tokenizer, kept = model.checkpoint.tokenizer, model.kept
    if kept is not None and kept.output_only:
        # A text that the model cannot write has no perplexity: what it lacks is spelled by what it has.
        return kept_speller(tokenizer, kept), kept.rows
    return Tokenizer(preview / TOKENIZER_NAME, tokenizer.record).encode, None
