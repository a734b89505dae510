"""How a model's states become the vector of a text, as the manifest says of one that was trained to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Pooling = Literal["mean", "last", "cls"]
"""Of the states of a text's tokens: their mean, the last token's, or the first one's."""

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


def pooling_modes(settings: Mapping[str, object]) -> list[object]:
    """How a pooling module of sentence-transformers (5.1) pools, in its words: `mean`, `lasttoken`, `cls`, ..

    Args:
        settings: its configuration, with a flag for each way, or all of them under `pooling_mode`.
    """
    said = settings.get("pooling_mode")
    if said is not None:
        return [*said] if isinstance(said, list) else [said]
    known: list[object] = [name for key, name in _MODES.items() if settings.get(key) is True]
    others = [key for key in settings if key.startswith("pooling_mode_") and key not in _MODES]
    return known + [key for key in others if settings[key] is True]


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
