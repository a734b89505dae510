"""Whether what was trained beside a model, a draft or streams, was trained for this one."""

from __future__ import annotations

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.printable import printable
from edgesdk.errors import CheckpointError
from edgesdk_converters.drafts.draft_checkpoint import DraftTarget, tokenizer_digest
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles


def check_target(
    target: DraftTarget, spec: DecoderSpec, tokenizer: TokenizerFiles, *, trained: str, again: str
) -> None:
    """Refuses what was trained for another model.

    Args:
        target: that it was trained for.
        spec: of the model as its checkpoint has it, with its whole vocabulary.
        tokenizer: the model's.
        trained: what it is, with its verb, such as `the draft was`.
        again: what is to be trained instead, such as `a draft`.

    Raises:
        CheckpointError: naming what is another.
    """
    sizes = (
        ("hidden size", target.hidden_size, spec.hidden_size),
        ("vocabulary", target.vocab_size, spec.vocab_size),
        ("architecture", target.architecture, spec.architecture),
    )
    for what, theirs, mine in sizes:
        if theirs != mine:
            shown = printable(str(theirs)[:80])
            raise CheckpointError(
                f"{trained} trained for {target.name[:80]!r}, whose {what} is {shown}; the model's is "
                f"{mine}; train {again} for this model"
            )
    if target.tokenizer != tokenizer_digest(tokenizer):
        raise CheckpointError(
            f"{trained} trained for {target.name[:80]!r}, whose tokenizer is another than the model's; "
            f"train {again} for this model"
        )
