"""What generation gives: pieces of text, and the whole with its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.decoding.stopping import FinishReason
from edgesdk.text.tools import ToolCall

if TYPE_CHECKING:  # for few answers
    from edgesdk.dispatch.exit_sequence import ExitFigures


@dataclass(frozen=True)
class Completion:
    """A finished answer.

    Attributes:
        text: without the end token or stop string that ended it, and in a conversation without `thought`.
        tokens: every token chosen, an end token included.
        finish_reason: `stop` (end token, or a grammar that is complete), `stop_string`, `length`
            (limit or end of the context), `cancelled`, and from the engine also `deadline`.
        prompt_tokens: tokens of the prompt.
        new_tokens: tokens chosen.
        ttft_ms: time to first token: from the start of the prompt's processing until it was chosen.
        prefill_tokens_per_s: prompt tokens over that time.
        decode_tokens_per_s: tokens after the first over the time they took; None when one step gave all.
        logprobs: of each token, if asked for.
        tool_calls: the functions that the model wants called, for a conversation with tools.
        thought: what a reasoning model wrote between its marks before the answer to a conversation.
        thought_tokens: tokens of that, its marks included; they are among `new_tokens`.
        steps: steps of the model that gave tokens: fewer than tokens with drafts or a grammar.
        drafted_tokens: tokens that a drafter proposed and these steps judged.
        kept_tokens: those of them that the answer has and needed no step for.
        exits: how early its tokens left the model, and how many have keys and values made of an exit's
            stream; None where no early exit was asked for.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int
    ttft_ms: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    logprobs: tuple[TokenLogprob, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    thought: str = ""
    thought_tokens: int = 0
    steps: int = 0
    drafted_tokens: int = 0
    kept_tokens: int = 0
    exits: ExitFigures | None = None

    @property
    def tokens_per_step(self) -> float:
        """Tokens for each step of the model that gave some; 0 without any."""
        return self.new_tokens / self.steps if self.steps else 0.0


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer as it is generated.

    Attributes:
        text: may be empty.
        completion: the whole answer, with the last piece only.
        index: which of several samples it belongs to.
        thought: a piece of the thought that comes before the answer, likewise.
        logprobs: of the tokens that were chosen since the piece before, if asked for; text lags behind.
    """

    text: str
    completion: Completion | None = None
    index: int = 0
    thought: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
