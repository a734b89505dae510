"""From what a user says to a drafter: `off`, `auto`, `lookup`, `trained`, `streams`, `shallow`, or a bundle.

Whatever model drafts, lookup and the request's grammar go first: they cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Int, StepBackend
from edgesdk.bundle.manifest import TOKENIZER_NAME, DeviceClass, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.drafts.bundle_drafts import open_bundle_drafts
from edgesdk.drafts.check_draft import OFF, WORDS, check_draft, check_draft_texts
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.grammar_drafts import GrammarDrafts
from edgesdk.drafts.guess import Source
from edgesdk.drafts.lookup import Lookup
from edgesdk.drafts.open_streams import has_streams, require_streams, stream_share
from edgesdk.drafts.stack_drafts import open_stack_drafts, shallow_stack
from edgesdk.drafts.stream_drafts import StreamDrafts
from edgesdk.drafts.trained_draft import has_trained_draft, open_trained_draft
from edgesdk.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class RunningVariant:
    """What drafts are for.

    Attributes:
        bundle: the bundle.
        variant: of it, that runs.
        backend: name of what runs it.
        device: class of devices.
        threads: CPU threads.
        steps: what runs it, where the host owns its cells; None for a backend that keeps them.
    """

    bundle: Bundle
    variant: Variant
    backend: str
    device: DeviceClass
    threads: int
    steps: StepBackend | None = None


def open_drafter(
    draft: str, running: RunningVariant, *, texts: Sequence[str] = (), remember: bool = True
) -> CombinedDrafter | None:
    """Opens what drafts.

    Args:
        draft: `off` for nothing; `lookup`; `trained` for the draft in the file of the variant that runs,
            after lookup; `streams` likewise for the streams of that variant itself; `shallow` for the stack
            beside it; `auto` for the first of these three that there is, else for lookup; or a smaller
            bundle, after lookup.
        running: what drafts are for.
        texts: looked up in, beside prompt and answer.
        remember: look up in answers that have ended, too.

    Returns:
        The drafter; None for `off`.

    Raises:
        UnsupportedOption: it names nothing, texts are none, or the bundle has no trained draft, no streams,
            no shallow stack, or other tokens.
        BundleError, DeviceError, MissingExtra: what it names cannot be opened.
    """
    draft = check_draft(draft)
    if draft == OFF:
        return None
    bundle, variant = running.bundle, running.variant
    lookup = Lookup(_ids(bundle, check_draft_texts(texts)), remember=remember)
    sources: list[Source] = [lookup, GrammarDrafts()]
    streams, share = 0, 1.0
    if draft == "trained" or (draft == "auto" and has_trained_draft(variant, running.steps)):
        sources.append(open_trained_draft(bundle, variant, running.steps))
    elif draft == "streams" or (draft == "auto" and has_streams(variant, running.steps)):
        streams = require_streams(bundle, variant, running.steps).count
        share = stream_share(bundle, variant, running.steps)
        sources.append(StreamDrafts())
    elif draft == "shallow" or (draft == "auto" and shallow_stack(bundle, variant) is not None):
        sources.append(
            open_stack_drafts(
                bundle, variant, backend=running.backend, device=running.device, threads=running.threads
            )
        )
    elif draft not in WORDS:
        sources.append(open_bundle_drafts(bundle, draft, threads=running.threads))
    return CombinedDrafter(sources, streams=streams, stream_share=share)


def _ids(bundle: Bundle, texts: Sequence[str]) -> list[Int]:
    if not texts:
        return []  # the tokenizer's file need not be read
    tokenizer = Tokenizer(bundle.path / TOKENIZER_NAME, bundle.manifest.tokenizer)
    return [np.array(tokenizer.encode(text, add_bos=False), np.int32) for text in texts]
