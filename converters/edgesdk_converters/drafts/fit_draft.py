"""Whether a trained draft belongs to a target, and what it takes from it."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.drafts.check_target import check_target
from edgesdk_converters.drafts.draft_checkpoint import DraftCheckpoint
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
    spec = program.spec
    check_target(draft.config.target, spec, tokenizer, trained="the draft was", again="a draft")
    name = "embed" if spec.tied_head else "head"
    return DraftStack(draft, np.ascontiguousarray(program.weights.load(name)[draft.vocabulary]))
