"""What every reader of tokenizers returns: the texts that a bundle gets, and the record of roles."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.bundle.manifest import TokenizerRecord


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer ready to be written into a bundle.

    Attributes:
        tokenizer_json: text of a `tokenizer.json` that the `tokenizers` package loads.
        chat_template: jinja2 source, when the model has one.
        record: ids and texts by role.
        tool_template: jinja2 source for conversations with tools, where it is another.
        notes: what was decided or left out, a line each.
    """

    tokenizer_json: str
    chat_template: str | None
    record: TokenizerRecord
    tool_template: str | None = None
    notes: tuple[str, ...] = ()
