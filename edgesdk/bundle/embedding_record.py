"""How a model's states become the vector of a text, as the manifest says of one that was trained to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Pooling = Literal["mean", "last", "cls"]
"""Of the states of a text's tokens: their mean, the last token's, or the first one's."""


@dataclass(frozen=True)
class EmbeddingRecord:
    """How a sentence-embedding model was trained to be read.

    Attributes:
        pooling: which states make the vector.
        normalise: vectors have length 1.
        frames: the tokens that the tokenizer itself puts around a text belong to it.
        prompts: what stands before a text, by what the text is for.
        default_prompt: the one of `prompts` that stands before a text where none is named.
    """

    pooling: Pooling
    normalise: bool
    frames: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    def __post_init__(self) -> None:
        """Refuses a default that is no prompt.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ValueError(f"default_prompt is {self.default_prompt[:60]!r}, expected one of the prompts")
