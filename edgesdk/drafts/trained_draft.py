"""Opens the trained draft in the file of the variant that runs, on the very backend that runs it."""

from __future__ import annotations

import numpy as np

from edgesdk.backends.protocol import StepBackend
from edgesdk.bundle.id_map import read_id_map
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.stack_record import DRAFT, DraftRecord
from edgesdk.drafts.recurrent_drafts import RecurrentDrafts
from edgesdk.errors import BundleError, DeviceError, UnsupportedOption


def trained_draft(variant: Variant) -> DraftRecord | None:
    """What a variant's file has of a trained draft."""
    return next((stack.draft for stack in variant.stacks if stack.name == DRAFT), None)


def has_trained_draft(variant: Variant, steps: StepBackend | None) -> bool:
    """Whether a variant has a trained draft, and what runs it can run that too."""
    return steps is not None and DRAFT in steps.contracts and trained_draft(variant) is not None


def open_trained_draft(bundle: Bundle, variant: Variant, steps: StepBackend | None) -> RecurrentDrafts:
    """Opens the draft beside the variant that runs.

    Args:
        bundle: whose.
        variant: that runs.
        steps: what runs it; None for a backend that keeps its cells.

    Raises:
        UnsupportedOption: there is no draft in its file.
        DeviceError: what runs it cannot run the draft.
        BundleError: the list of its tokens is damaged.
    """
    record = trained_draft(variant)
    if record is None:
        raise UnsupportedOption(
            f"{bundle.manifest.name} has no trained draft in {variant.name}, which draft 'trained' needs; "
            "convert it with --draft, or draft with 'lookup'"
        )
    if steps is None or DRAFT not in steps.contracts:
        raise DeviceError(f"what runs {variant.name} cannot run its draft; load it with backend litert")
    ids = read_id_map(bundle.file(record.ids))
    if len(ids.old_ids) != record.vocabulary or ids.source_rows != bundle.manifest.decoder.vocab_size:
        raise BundleError(
            f"{record.ids} lists {len(ids.old_ids)} of {ids.source_rows} tokens, expected "
            f"{record.vocabulary} of {bundle.manifest.decoder.vocab_size}; convert the bundle again"
        )
    return RecurrentDrafts("trained", steps, np.array(ids.old_ids, np.int32), depth=record.depth)
