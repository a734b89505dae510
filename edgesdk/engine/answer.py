"""One answer as it is chosen: its text, its stop rules, its figures.

It turns tokens into pieces of text and says when the answer ends; it does not choose them, and it knows
nothing of cells or other requests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgesdk.decoding.choose import Choice
from edgesdk.decoding.completion import Completion
from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.decoding.stopping import FinishReason, StopStrings
from edgesdk.text.detokenize import Detokenizer
from edgesdk.text.tokenizer import Tokenizer


class Answer:
    """Collects the tokens of one answer."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] | None,
        eos_ids: Collection[int],
        limit: int,
        *,
        logprobs: bool = False,
    ) -> None:
        """Starts empty.

        Args:
            tokenizer: gives the text.
            stop: texts that end the answer.
            eos_ids: tokens that end it.
            limit: most tokens.
            logprobs: whether to keep the log-probabilities that come with the choices.
        """
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(stop)
        self._eos_ids = eos_ids
        self._limit = limit
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] | None = [] if logprobs else None
        self.tokens: list[int] = []
        """Every token so far."""
        self.times_s: list[float] = []
        """When each was chosen, on the clock of `time.perf_counter`."""

    def push(self, choice: Choice, now_s: float) -> tuple[str, FinishReason | None, int]:
        """Adds a chosen token and those that it forces.

        Args:
            choice: what was chosen.
            now_s: when, on the clock of `time.perf_counter`.

        Returns:
            The text that is certain now, why the answer ends with it, if it does, and how many tokens of
            the choice it has.
        """
        pieces: list[str] = []
        for count, token in enumerate((choice.token, *choice.forced), start=1):
            if self._logprobs is not None:
                asked = count == 1
                self._logprobs.append(
                    TokenLogprob(
                        token, choice.logprob if asked else None, choice.top_logprobs if asked else ()
                    )
                )
            piece, finish = self._add(token, now_s)
            pieces.append(piece)
            if finish is not None:
                return "".join(pieces), finish, count
        return "".join(pieces), "stop" if choice.finished else None, count

    def _add(self, token: int, now_s: float) -> tuple[str, FinishReason | None]:
        self.tokens.append(token)
        self.times_s.append(now_s)
        if token in self._eos_ids:
            return "", "stop"
        piece = self._stops.push(self._detokenizer.push(token))
        self._text.append(piece)
        if self._stops.found is not None:
            return piece, "stop_string"
        return piece, "length" if len(self.tokens) >= self._limit else None

    def complete(
        self, finish: FinishReason, prompt_tokens: int, started_s: float | None
    ) -> tuple[str, Completion]:
        """Ends the answer.

        Args:
            finish: why.
            prompt_tokens: for the figures.
            started_s: when the prompt began to run; None if it never did.

        Returns:
            The text that was held back, and the whole.
        """
        rest = self._stops.push(self._detokenizer.finish()) + self._stops.finish()
        if self._stops.found is not None:
            finish = "stop_string"
        times = self.times_s
        first_s = times[0] - started_s if times and started_s is not None else 0.0
        later_s = times[-1] - times[0] if len(times) > 1 else 0.0
        return rest, Completion(
            text="".join([*self._text, rest]),
            tokens=tuple(self.tokens),
            finish_reason=finish,
            prompt_tokens=prompt_tokens,
            new_tokens=len(self.tokens),
            ttft_ms=first_s * 1e3,
            prefill_tokens_per_s=prompt_tokens / first_s if first_s > 0 else 0.0,
            decode_tokens_per_s=(len(times) - 1) / later_s if later_s > 0 else None,
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
        )
