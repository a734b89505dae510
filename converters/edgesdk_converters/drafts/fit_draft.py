"""Whether a trained draft belongs to a target, and what it takes from it."""

from __future__ import annotations

import numpy as np

from edgesdk.errors import CheckpointError
from edgesdk_converters.drafts.draft_checkpoint import DraftCheckpoint, tokenizer_digest
from edgesdk_converters.drafts.draft_stack import DraftStack
from edgesdk_converters.graph.program import Program
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles


def fit_draft(draft: DraftCheckpoint, program: Program, tokenizer: TokenizerFiles) -> DraftStack:
    """The draft with the rows of its target's head.

    Args:
        draft: the checkpoint.
        program: the target as its checkpoint has it, with its whole vocabulary.
        tokenizer: the target's.

    Raises:
        CheckpointError: the draft was trained for another model.
    """
    spec, target = program.spec, draft.config.target
    sizes = (
        ("hidden size", target.hidden_size, spec.hidden_size),
        ("vocabulary", target.vocab_size, spec.vocab_size),
        ("architecture", target.architecture, spec.architecture),
    )
    for what, theirs, mine in sizes:
        if theirs != mine:
            raise CheckpointError(
                f"the draft was trained for {target.name[:80]!r}, whose {what} is {theirs}; the model's is "
                f"{mine}; train a draft for this model"
            )
    if target.tokenizer != tokenizer_digest(tokenizer):
        raise CheckpointError(
            f"the draft was trained for {target.name[:80]!r}, whose tokenizer is another than the model's; "
            "train a draft for this model"
        )
    name = "embed" if spec.tied_head else "head"
    return DraftStack(draft, np.ascontiguousarray(program.weights.load(name)[draft.vocabulary]))
