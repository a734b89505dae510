"""Proves variants that give states only: their vectors against those of the float32 evaluator.

The texts are the built-in passages, each of their sentences, and all of them as one text, which is longer
than a step of short texts and than windows are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from edgesdk.bundle.manifest import PARITY_NAME, TOKENIZER_NAME, Variant
from edgesdk.bundle.vector_parity import VectorParity
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import EmitError
from edgesdk.evaluation.vector_agreement import misses_vector_gate
from edgesdk.evaluation.vector_probe import VectorProbe, check_vector_probe, write_vector_probe
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.vectors.embed_texts import pool_states
from edgesdk.vectors.read_texts import EmbeddedTexts, vector_form
from edgesdk.vectors.run_texts import RunPiece
from edgesdk_converters.graph.full_sequence import sequence_states
from edgesdk_converters.parity.explain_miss import explain_miss
from edgesdk_converters.parity.prove import describe_reference, load_packed, passages
from edgesdk_converters.progress import ProgressMeter
from edgesdk_converters.read_source import SourceModel
from edgesdk_converters.write_variants import MadeVariant

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def proof_texts() -> list[str]:
    """The built-in texts: passages, their sentences, and all passages as one."""
    whole = passages()
    return [*whole, *(part for text in whole for part in _SENTENCE.split(text)), " ".join(whole)]


def make_vector_reference(model: SourceModel, bundle: Path, context: int) -> VectorProbe:
    """The evaluator's vectors of the built-in texts.

    Args:
        model: what is converted.
        bundle: folder where its tokenizer is.
        context: of the variants; texts are cut to it.
    """
    checkpoint, program = model.checkpoint, model.program
    tokenizer = Tokenizer(bundle / TOKENIZER_NAME, checkpoint.tokenizer.record)
    reader = EmbeddedTexts(tokenizer, checkpoint.embedding, context, program.spec.vocab_size)
    read = reader.read(proof_texts(), None, truncate=True)
    texts = tuple({text.tobytes(): text for text in read}.values())  # cut ones may begin alike
    width = program.spec.states_size
    form = vector_form(checkpoint.embedding, width, None, None, None)
    pieces = [RunPiece(place, rows, True) for place, rows in enumerate(sequence_states(program, texts))]
    return VectorProbe(texts, pool_states(pieces, texts, width, form))


def prove_vectors(
    writer: BundleWriter,
    preview: Path,
    model: SourceModel,
    made: Sequence[MadeVariant],
    meter: ProgressMeter,
    *,
    allow_miss: bool = False,
) -> tuple[Variant, ...]:
    """Measures every variant.

    Args:
        writer: of the bundle, which gets the reference's vectors.
        preview: the bundle as far as it is written; it can be loaded.
        model: what was converted.
        made: the variants.
        meter: told how far it is.
        allow_miss: record a miss of a gate instead of failing.

    Returns:
        The variants with what was measured, in the order of `made`.

    Raises:
        EmitError: one misses the gate of its recipe.
        DeviceError: a backend cannot run one.
    """
    against = describe_reference(model.program, model.vocabulary)
    meter.enter("scoring", f"running the reference: {against}")
    probe = make_vector_reference(model, preview, min(entry.variant.context for entry in made))
    write_vector_probe(writer.path(PARITY_NAME), probe)
    proven = []
    for entry in made:
        variant, recipe, backend = entry.variant, entry.recipe, entry.target.proof_backend
        meter.enter("proving", f"proving {variant.name}")
        with load_packed(preview, variant, backend) as loaded:
            figures = check_vector_probe(loaded, probe)
        report = VectorParity(backend, figures, recipe.gate_cosine, recipe.gate_order, against)
        miss = misses_vector_gate(figures, report)
        if miss is not None and not allow_miss:
            raise EmitError(explain_miss(variant, miss, entry.calibration))
        proven.append(dataclasses.replace(variant, vector_parity=report))
    return tuple(proven)
