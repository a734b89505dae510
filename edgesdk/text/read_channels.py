"""Answers in channels, told apart token by token: what gpt-oss thinks, says, and calls ("harmony").

Such an answer is a row of messages, each a header, a mark, and a body:

    <|channel|>analysis<|message|>I look it up.<|end|>
    <|start|>assistant<|channel|>commentary to=functions.clock <|constrain|>json<|message|>{}<|call|>
    <|start|>assistant<|channel|>final<|message|>It is noon.<|return|>

`analysis` is a thought; a message with a recipient (`to=`) is a call and is handed on with its marks;
everything else is answer. Marks are special tokens, so no text can be taken for one. Source: OpenAI's
description of the "harmony response format".
"""

from __future__ import annotations

from edgesdk.text.detokenize import Detokenizer
from edgesdk.text.read_thought import ThoughtStep
from edgesdk.text.tokenizer import Tokenizer

PROMPT_END = "<|start|>assistant"
"""What a prompt ends with, before an answer in channels."""

_CHANNEL, _MESSAGE, _START, _END = "<|channel|>", "<|message|>", "<|start|>", "<|end|>"
_MARKS = (_CHANNEL, _MESSAGE, _START, _END)
_TO = "to="
_LONGEST_HEADER = 256
"""Tokens; each is read with all before it, and what has more is no header."""
_ANSWER = "<|channel|>final<|message|>"


class ChannelReader:
    """Reads one answer; the counterpart of `ThoughtReader`.

    A model that answers without a channel is read as if it had none: from the first token of that on, `done`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Starts before the first token, behind `PROMPT_END`.

        Args:
            tokenizer: of the model; `speaks_in_channels` is true of it.
        """
        self._tokenizer = tokenizer
        self._marks = {tokenizer.engine.token_to_id(mark): mark for mark in _MARKS}
        self._thoughts = Detokenizer(tokenizer)
        self._header: list[int] = []
        """Of the message that begins; None of it was handed on."""
        self._body: str | None = None
        """What the body is in which it is: `thought`, `answer` or `call`; None in a header."""
        self._said = self._begun = False
        self._thought = ""
        self.waits = True
        """Whether what must follow rules of the answer has not begun."""
        self.done = False
        """Whether nothing is read here any more."""
        self.spent = 0
        """Tokens that were no part of the answer."""

    @property
    def thinking(self) -> bool:
        """Whether it is within a thought."""
        return self._body == "thought"

    @property
    def ending(self) -> str:
        """Text that ends the thought, or leaves it out, so that the answer follows."""
        return f"{_END}{PROMPT_END}{_ANSWER}" if self.thinking else _ANSWER

    def push(self, token: int) -> ThoughtStep:
        """Adds a token."""
        mark = self._marks.get(token)
        self.spent += 1
        if self._body is None:
            return self._in_header(token, mark)
        if mark is None or (self._body == "call" and mark != _START):
            return self._in_body(token)
        step = ThoughtStep(self._end_thought())
        self._body, self._header = None, [] if mark == _END else [token]
        self._begun = mark != _END
        return step

    def finish(self) -> ThoughtStep:
        """Ends the answer; returns what was held back, but no header without a body."""
        thought = self._end_thought()
        self._body, self._header, self.done, self.waits = None, [], True, False
        return ThoughtStep(thought)

    def _in_header(self, token: int, mark: str | None) -> ThoughtStep:
        self._header.append(token)
        said = self._tokenizer.decode(self._header, skip_special=False)
        if not self._begun:
            head = said.lstrip()
            self._begun = mark in (_CHANNEL, _START) or head.startswith(_TO)
            if not self._begun and not _TO.startswith(head):
                return self._without_channel()
        if mark != _MESSAGE:
            return ThoughtStep() if len(self._header) < _LONGEST_HEADER else self._without_channel()
        if _TO in said:
            self._body = "call"
            return self._hand_on(self._without_role())
        self._body = "thought" if f"{_CHANNEL}analysis" in said else "answer"
        apart = "\n\n" if self._said else ""
        if self._body == "thought":
            return ThoughtStep("\n\n" if self._thought else "")
        self.waits = False
        return ThoughtStep(text=apart)

    def _without_channel(self) -> ThoughtStep:
        self.done, self.waits = True, False
        self.spent -= len(self._header)
        return ThoughtStep(text="\n\n" if self._said else "", tokens=tuple(self._header))

    def _without_role(self) -> tuple[int, ...]:
        """The header of a call from its channel or its recipient on."""
        for place, token in enumerate(self._header):
            rest = self._header[place:]
            if self._marks.get(token) == _CHANNEL or self._tokenizer.decode(rest).lstrip().startswith(_TO):
                return tuple(rest)
        return tuple(self._header)

    def _in_body(self, token: int) -> ThoughtStep:
        if self._body != "thought":
            self._said = self._said or self._body == "answer"
            return self._hand_on((token,))
        piece = self._thoughts.push(token)
        self._thought += piece
        return ThoughtStep(piece)

    def _hand_on(self, tokens: tuple[int, ...]) -> ThoughtStep:
        self.spent -= len(tokens)
        return ThoughtStep(tokens=tokens)

    def _end_thought(self) -> str:
        if self._body != "thought":
            return ""
        rest = self._thoughts.finish()
        self._thought += rest
        return rest


def speaks_in_channels(tokenizer: Tokenizer, prompt: str) -> bool:
    """Whether an answer to a prompt comes in channels: by its end, and the model's special tokens."""
    if not prompt.endswith(PROMPT_END):
        return False
    return all(tokenizer.engine.token_to_id(mark) in tokenizer.special_ids for mark in _MARKS)
