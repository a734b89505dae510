"""One answer as it is chosen: its tokens, its text, its stop rules, its figures.

`Model` and the engine drive it in the same way:

    tokens, finish = answer.push(chooser.choose(logits), now_s)    # finish is None: run `tokens` next
    chunks = answer.take()                                         # for the caller
    last = answer.complete(finish, started_s)                      # once it has ended, whoever ended it

It does not choose tokens, and it knows nothing of cells or other requests. What a piece of text is and where
it begins is known here alone; who drives it hands the pieces on.
"""

from __future__ import annotations

from edgesdk.decoding.choose import TokenChoice
from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.stopping import FinishReason, StopStrings
from edgesdk.text.detokenize import Detokenizer
from edgesdk.text.find_thought import AnswerReader
from edgesdk.text.read_thought import ThoughtStep
from edgesdk.text.tokenizer import Tokenizer


class Answer:
    """Collects the tokens of one answer."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        options: GenerationOptions,
        *,
        limit: int,
        prompt_tokens: int,
        index: int = 0,
        thought: AnswerReader | None = None,
        shows_special: bool = False,
    ) -> None:
        """Starts empty.

        Args:
            tokenizer: gives the text, and says which tokens end it.
            options: stop strings, whether end tokens count, whether to keep log-probabilities.
            limit: most tokens.
            prompt_tokens: for the figures.
            index: which of several samples it is.
            thought: takes the thought off its beginning; None where it is all text. Stop strings do not end a
                thought.
            shows_special: special tokens are a part of the text.
        """
        self._thought = thought
        self._thoughts: list[str] = []
        self._thoughts_taken = self._logprobs_taken = 0
        self._thought_tokens = 0
        self._strips = False
        """Whether space is left out until there is text: after a thought."""
        self._detokenizer = Detokenizer(tokenizer, skip_special=not shows_special)
        self._stops = StopStrings(options.stop)
        self._eos_ids = frozenset(() if options.ignore_eos else tokenizer.record.eos_ids)
        self._limit = limit
        self._prompt_tokens = prompt_tokens
        self._index = index
        self._text: list[str] = []
        self._taken = 0
        """How many of the pieces of text have been handed on."""
        self._logprobs: list[TokenLogprob] | None = None if options.logprobs is None else []
        self.tokens: list[int] = []
        """Every token so far."""
        self.times_s: list[float] = []
        """When each was chosen, on the driver's clock."""
        self.steps = 0
        """Steps of the model that gave it tokens."""
        self.drafted = 0
        """Drafted tokens that they judged."""
        self.kept = 0
        """Those of them that spared a step."""

    def push(self, choice: TokenChoice, now_s: float) -> tuple[tuple[int, ...], FinishReason | None]:
        """Adds a chosen token and those that are forced after it, as far as the answer goes.

        An end token ends it, chosen or forced. A grammar that is complete with the last token allowed ends
        it as well: there was nothing to cut.

        Args:
            choice: what was chosen.
            now_s: when, on the driver's clock.

        Returns:
            The tokens of the choice that the answer has, and why it ends with the last of them, if it does.
        """
        chosen = (choice.token, *choice.forced)
        for count, token in enumerate(chosen, start=1):
            self.tokens.append(token)
            self.times_s.append(now_s)
            if self._logprobs is not None:
                logprob, top = (choice.logprob, choice.top_logprobs) if count == 1 else (None, ())
                self._logprobs.append(TokenLogprob(token, logprob, top))
            if token in self._eos_ids:
                return chosen[:count], "stop"
            self._text.append(self._stops.push(self._read(token)))
            if self._stops.found is not None:
                return chosen[:count], "stop_string"
            if choice.finished and count == len(chosen):
                return chosen, "stop"
            if len(self.tokens) >= self._limit:
                return chosen[:count], "length"
        return chosen, None

    @property
    def left(self) -> int:
        """Most tokens that may still come."""
        return self._limit - len(self.tokens)

    def count_step(self, drafted: int, kept: int) -> None:
        """Notes a step that gave it tokens, and what became of its draft."""
        self.steps += 1
        self.drafted += drafted
        self.kept += kept

    def take(self) -> list[Chunk]:
        """Pieces of text that are certain and were not taken before."""
        text, thought = "".join(self._text[self._taken :]), "".join(self._thoughts[self._thoughts_taken :])
        self._taken, self._thoughts_taken = len(self._text), len(self._thoughts)
        if not text and not thought:
            return []
        return [Chunk(text, index=self._index, thought=thought, logprobs=self._take_logprobs())]

    def complete(self, finish: FinishReason, started_s: float | None) -> Chunk:
        """Ends the answer.

        Args:
            finish: why.
            started_s: when the prompt began to run, on the driver's clock; None if it never did.

        Returns:
            The last piece: what was not taken or was held back, and the whole.
        """
        rest = "" if self._thought is None else self._take_step(self._thought.finish())
        rest += self._shown(self._detokenizer.finish())
        self._text.append(self._stops.push(rest) + self._stops.finish())
        if self._stops.found is not None:
            finish = "stop_string"
        times = self.times_s
        first_s = times[0] - started_s if times and started_s is not None else 0.0
        later_s = times[-1] - times[0] if len(times) > 1 else 0.0
        completion = Completion(
            text="".join(self._text),
            tokens=tuple(self.tokens),
            finish_reason=finish,
            prompt_tokens=self._prompt_tokens,
            new_tokens=len(self.tokens),
            ttft_ms=first_s * 1e3,
            prefill_tokens_per_s=self._prompt_tokens / first_s if first_s > 0 else 0.0,
            decode_tokens_per_s=(len(times) - 1) / later_s if later_s > 0 else None,
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
            thought="".join(self._thoughts),
            thought_tokens=self._thought_tokens,
            steps=self.steps,
            drafted_tokens=self.drafted,
            kept_tokens=self.kept,
        )
        return Chunk(
            "".join(self._text[self._taken :]),
            completion,
            self._index,
            "".join(self._thoughts[self._thoughts_taken :]),
            self._take_logprobs(),
        )

    def _read(self, token: int) -> str:
        """The text of the answer that a token adds."""
        if self._thought is None:
            return self._shown(self._detokenizer.push(token))
        return self._take_step(self._thought.push(token))

    def _take_step(self, step: ThoughtStep) -> str:
        """Keeps a step's piece of the thought; returns the text of the answer that it has."""
        if step.thought:
            self._thoughts.append(step.thought)
        if self._thought is not None and self._thought.done:
            if self._thoughts:
                self._thought_tokens = self._thought.spent
            self._thought, self._strips = None, bool(self._thoughts)
        return self._shown(step.text + "".join(map(self._detokenizer.push, step.tokens)))

    def _shown(self, text: str) -> str:
        if self._strips:
            text = text.lstrip()
            self._strips = not text
        return text

    def _take_logprobs(self) -> tuple[TokenLogprob, ...]:
        if self._logprobs is None:
            return ()
        taken, self._logprobs_taken = self._logprobs_taken, len(self._logprobs)
        return tuple(self._logprobs[taken:])
