"""Which reader tells the thought of an answer from the answer, by how its prompt ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgesdk.text.read_channels import ChannelReader, speaks_in_channels
from edgesdk.text.read_thought import ThoughtReader
from edgesdk.text.thoughts import TAIL_TOKENS, open_thought
from edgesdk.text.tokenizer import Tokenizer

AnswerReader = ThoughtReader | ChannelReader
"""Tells a thought from its answer."""


def find_thought(tokenizer: Tokenizer, prompt: Sequence[int]) -> Callable[[], AnswerReader]:
    """Makes readers for answers to a prompt.

    Args:
        tokenizer: of the model.
        prompt: token ids of a rendered conversation, up to where the answer begins.
    """
    tail = tokenizer.decode(prompt[-TAIL_TOKENS:], skip_special=False)
    if speaks_in_channels(tokenizer, tail):
        return lambda: ChannelReader(tokenizer)
    opened = open_thought(tail)
    return lambda: ThoughtReader(tokenizer, opened)
