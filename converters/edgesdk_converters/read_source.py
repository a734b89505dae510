"""Reads what is converted: a checkpoint, less what is to be left out, as a program in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgesdk.bundle.adapter_record import AdapterRecord
from edgesdk.bundle.manifest import VocabularyRecord
from edgesdk_converters.adapters.adapter import AdapterRequest
from edgesdk_converters.adapters.merge_adapter import merge_adapters
from edgesdk_converters.adapters.runtime_adapters import read_runtime_adapters
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.calibration_windows import calibration_windows
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import DraftCheckpoint
from edgesdk_converters.drafts.draft_stack import DraftStack
from edgesdk_converters.drafts.fit_draft import fit_draft
from edgesdk_converters.graph.program import Program
from edgesdk_converters.progress import ProgressMeter
from edgesdk_converters.quantise.calibration.calibration_text import CalibrationText
from edgesdk_converters.quantise_program import Texts
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.streams.add_streams import add_streams
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint, fit_streams
from edgesdk_converters.transforms.add_low_rank import add_low_rank
from edgesdk_converters.transforms.give_hidden import give_hidden
from edgesdk_converters.transforms.give_states import give_states
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens

_WINDOW_TOKENS = 512
_CALIBRATION_TOKENS = 8192


@dataclass(frozen=True)
class SourceModel:
    """What every variant is made from, and compared with.

    Attributes:
        checkpoint: with the tokens that stay.
        kept: which those are; None for all.
        sample: calibration text; None where nothing reads any.
        texts: the sample in the model's tokens; empty without one.
        program: the decoder, before anything is quantised.
        draft: what is written beside it; None for nothing.
        streams: what its program can have rows of; None for nothing.
        adapters: that its program has gates for.
    """

    checkpoint: Checkpoint
    kept: KeptTokens | None
    sample: CalibrationText | None
    texts: Texts
    program: Program
    draft: DraftStack | None = None
    streams: StreamCheckpoint | None = None
    adapters: tuple[AdapterRecord, ...] = ()

    @property
    def vocabulary(self) -> VocabularyRecord | None:
        """Which tokens stay, for the manifest."""
        return None if self.kept is None else self.kept.record()


def read_source(
    source: str,
    revision: str | None,
    reshaping: Reshaping,
    sample: CalibrationText | None,
    meter: ProgressMeter,
    *,
    adapters: Sequence[AdapterRequest] = (),
    run_adapters: Sequence[AdapterRequest] = (),
    hidden_states: bool = False,
    embeddings: bool = False,
    draft: DraftCheckpoint | None = None,
    streams: StreamCheckpoint | None = None,
    suits: Callable[[Checkpoint], None] | None = None,
) -> SourceModel:
    """Opens a checkpoint, merges adapters into it and leaves out what is to be left out.

    Args:
        source: a Hugging Face directory, a `.gguf` file, a hub id, or a named model.
        revision: commit, branch or tag of a hub id.
        reshaping: what to leave out.
        sample: calibration text, where something reads it.
        meter: told how far it is.
        adapters: to merge, in this order.
        run_adapters: to be added for requests to ask for, on top of those.
        hidden_states: have the program give what its head reads, too, as it does with a draft.
        embeddings: have it give the state of every token, as a model does that embeds texts.
        draft: to be written beside it.
        streams: that rows of it can be.
        suits: raises where the checkpoint is not one for what was asked, before more of it is read.

    Raises:
        CheckpointError: the source or an adapter cannot be read, or an adapter or the draft was trained for
            another.
        UnsupportedOption: what is to be left out cannot be, or an adapter cannot have its scale.
    """
    if sample is not None:
        meter.note("note: calibrating takes minutes; recipes that end in -round do without and lose more")
    meter.enter("reading", f"reading {source}")
    checkpoint, merged = merge_adapters(open_checkpoint(source, revision=revision), adapters)
    if suits is not None:
        suits(checkpoint)
    beside = read_runtime_adapters(checkpoint, run_adapters)
    for note in checkpoint.notes:
        meter.note(f"note: {note}")
    if reshaping.changes:
        meter.enter("reshaping", "choosing what to leave out")
    checkpoint, kept = reshaping.prune(checkpoint, meter.say)
    texts: Texts = []
    if sample is not None:
        texts = calibration_windows(checkpoint, sample, _WINDOW_TOKENS, _CALIBRATION_TOKENS)
    program = read_program(checkpoint, merged)
    program = reshaping.narrow(reshaping.shorten(program, texts, meter.say), kept)
    fitted = None if draft is None else fit_draft(draft, program, checkpoint.tokenizer)
    if hidden_states or fitted is not None:
        program = give_hidden(program)
    if program.spec.is_causal and (embeddings or checkpoint.embedding is not None):
        program = give_states(program)
    if streams is not None:
        program = add_streams(program, fit_streams(streams, program, checkpoint.tokenizer))
    if beside.records:
        there = {value.name for value in program.graph.weights}  # layers may have been left out
        terms = {name: term for name, term in beside.terms.items() if name in there}
        program = add_low_rank(program, terms, len(beside.records))
    return SourceModel(checkpoint, kept, sample, texts, program, fitted, streams, beside.records)
