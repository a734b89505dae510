"""Spells text with tokens that were kept, in the ids of the full vocabulary.

A model whose head is pruned reads every token and writes some; texts that it is to be scored on must
consist of those.
"""

from __future__ import annotations

from collections.abc import Callable

from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.rewrite_tokenizer import rewrite_tokenizer
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData, load_engine


def kept_speller(files: TokenizerFiles, choice: KeptTokens) -> Callable[[str], list[int]]:
    """A function from text to old ids, all of which were kept; it starts as the model's texts do.

    Args:
        files: the full tokenizer.
        choice: which tokens can be written.

    Raises:
        TransformError: the tokenizer cannot be pruned.
    """
    engine = load_engine(rewrite_tokenizer(TokenizerData(files.tokenizer_json), choice))
    record = files.record
    start = [record.bos_id] if record.add_bos and record.bos_id is not None else []

    def spell(text: str) -> list[int]:
        ids = engine.encode(text, add_special_tokens=False).ids
        return start + [choice.old_ids[i] for i in ids]

    return spell
