"""Decoders whose tokens see the whole text: which files hold one, and the line that refuses the rest.

A token's keys in the second layer depend on tokens to come in the first, so nothing that has run can be gone
on from: no sequences, no engine, no logits (docs/decisions/0051). It knows only the shape.
"""

from __future__ import annotations

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import Format
from edgesdk.errors import UnsupportedOption

WHOLE_TEXT_FORMATS: tuple[Format, ...] = ("litert",)
"""Of files whose T can be as long as a text."""


def expect_causal(spec: DecoderSpec) -> None:
    """Refuses to write text, or anything else that needs logits or cells, with what gives states only.

    Raises:
        UnsupportedOption: saying so.
    """
    if not spec.is_causal:
        raise UnsupportedOption(
            "this model gives vectors only: its tokens see the whole text, so it cannot go on with one; use "
            "embed, or another bundle for text"
        )
