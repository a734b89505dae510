"""The drafter that models and engines are given: asks sources in order, and drafts what is worth it.

First those whose guesses cost nothing (lookup), then, for answers where these have little to say, a second
model, as far ahead as pays by what it costs and how often it is right. `choose_rows` then takes from all
guesses what brings the most tokens per second. Where that is nothing, drafts are off; guesses that cost
nothing are compared with what came all the same, and a second model is tried now and then, so that they come
on again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgesdk.decoding.draft import Draft, DraftRequest, JudgedStep, Waits
from edgesdk.drafts.draft_figures import DraftFigures
from edgesdk.drafts.guess import Guess, Source
from edgesdk.drafts.kept_rates import KeptRates
from edgesdk.drafts.step_costs import StepCosts
from edgesdk.drafts.stream_costs import StreamCosts
from edgesdk.drafts.stream_places import StreamPlaces
from edgesdk.drafts.trials import Trials
from edgesdk.drafts.worth import best_depth, choose_rows

_TRIAL_TOKENS = 2
_TRY_COSTS_STEPS = 256
_TRIAL_ROWS = 4


@dataclass(eq=False, slots=True)
class _Asked:
    """A source with what is known of it.

    Attributes:
        source: guesses.
        rates: how often it is right.
        trials: when it is asked although it does not pay.
    """

    source: Source
    rates: KeptRates
    trials: Trials = field(default_factory=Trials)


class CombinedDrafter:
    """Implements `Drafter` over sources."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        costs: StepCosts | None = None,
        weigh: bool = True,
        streams: int = 0,
        stream_share: float = 1.0,
    ) -> None:
        """Takes over sources.

        Args:
            sources: those that cost nothing first; with streams `StreamDrafts` is the last of them.
            costs: what steps cost; None to begin with a guess.
            weigh: False to draft whatever there is, worth it or not.
            streams: G, how many streams the model has, to be put into its steps.
            stream_share: of a token's work that a row of a stream costs.
        """
        self._asked = [_Asked(source, KeptRates(source.priors)) for source in sources]
        # Looked up once: to ask an object about a protocol takes longer than a proposal.
        self._waiting = [source for source in sources if isinstance(source, Waits)]
        self._costs = StepCosts() if costs is None else costs
        self._stream_costs = StreamCosts(self._costs, stream_share)
        self._weigh = weigh
        self._places = StreamPlaces(streams) if streams else None
        self._stream_rows = 0
        self._drafted = [0] * len(self._asked)
        self._kept = [0] * len(self._asked)
        self._steps = self._drafting_steps = 0
        self._saved_s = 0.0
        self._drafted_by: dict[int, int] = {}
        self._ended: list[int] = []
        """Answers whose last step may still be to learn from."""
        self._left_alone = 0
        self._trying = False
        """Whether a model is asked in this step although it does not seem to pay."""

    @property
    def name(self) -> str:
        """The names of its sources."""
        return "+".join(asked.source.name for asked in self._asked)

    @property
    def nbytes(self) -> int:
        """Bytes of all sources."""
        return sum(asked.source.nbytes for asked in self._asked)

    @property
    def waited_s(self) -> float:
        """Seconds that sources have waited for turns on backends that they share."""
        return sum(source.waited_s for source in self._waiting)

    @property
    def costs(self) -> StepCosts:
        """What steps cost."""
        return self._costs

    @property
    def figures(self) -> DraftFigures:
        """What came of its drafts so far."""
        return DraftFigures(
            tuple(each.source.name for each in self._asked),
            tuple(self._drafted),
            tuple(self._kept),
            self._steps,
            self._drafting_steps,
            self._saved_s,
            self._stream_rows,
        )

    def propose(self, asked: Sequence[DraftRequest]) -> list[Draft | None]:
        """Drafts that are worth it; None for answers without any."""
        for each in self._asked:
            for request in asked:
                each.rates.compare(request.key, request.tokens)
        answers = len(asked)
        forced = sum(request.pending for request in asked) - answers
        if self._weigh and not forced and self._costs.stale(answers):
            # What drafts save is known only beside steps without.
            return [None] * answers
        guesses, chances, by = self._guess(asked)
        if not self._weigh:
            rows = [list(range(len(guess.tokens))) if guess is not None else [] for guess in guesses]
        else:
            # What a request may have, all together may: the step's rows are one budget.
            most = max(request.most for request in asked)
            rows = choose_rows(chances, self._costs.seconds, most=most, forced=forced)
            if not any(rows) and any(chances):
                self._left_alone += 1
                if self._trying or self._left_alone >= _TRY_COSTS_STEPS:
                    # What steps with drafts cost may have been learned in a bad moment.
                    most = min(most, _TRIAL_ROWS)
                    rows = choose_rows(chances, lambda _: 1.0, most=most, forced=forced)
            if any(rows):
                self._left_alone = 0
        drafts: list[Draft | None] = []
        for request, guess, source, taken in zip(asked, guesses, by, rows, strict=True):
            if guess is None or not taken:
                drafts.append(None)
                continue
            self._drafted_by[request.key] = source
            drafts.append((guess if len(taken) == len(guess.tokens) else guess.part(taken)).draft())
        if self._places is None:
            return drafts
        return self._places.add(
            asked,
            drafts,
            [[reach[row] for row in taken] for reach, taken in zip(chances, rows, strict=True)],
            rate=self._asked[-1].rates.overall if self._weigh else None,
            cost=self._stream_costs.seconds,
        )

    def learn(self, step: JudgedStep) -> None:
        """Learns what a step cost, and what became of its drafts."""
        streams = sum(draft.streams for draft in step.drafts)
        drafted = sum(draft.drafted for draft in step.drafts)
        kept = sum(draft.kept for draft in step.drafts)
        if not step.prefilled:
            self._stream_costs.learn(step.decoded + step.forced + drafted, streams, step.model_s)
        self._stream_rows += streams
        self._steps += step.decoded
        by = [self._drafted_by.get(draft.key, 0) for draft in step.drafts]
        for key in self._ended:
            self._drafted_by.pop(key, None)
        self._ended.clear()
        if not step.drafts:
            return
        self._drafting_steps += sum(draft.drafted > 0 for draft in step.drafts)
        for draft, source in zip(step.drafts, by, strict=True):
            self._drafted[source] += draft.drafted
            self._kept[source] += draft.kept
        if step.decoded and not step.prefilled and self._costs.known:
            plain_s = self._costs.seconds(step.decoded + step.forced)
            self._saved_s += plain_s * (step.decoded + kept) / step.decoded - step.model_s

    def forget(self, key: int) -> None:
        """Drops what all sources know of an answer."""
        if key in self._drafted_by:  # an answer ends before its last step is judged
            self._ended.append(key)
        for each in self._asked:
            each.rates.forget(key)
            each.source.forget(key)

    def close(self) -> None:
        """Releases all sources; may be called again."""
        for each in self._asked:
            each.source.close()

    def _guess(
        self, asked: Sequence[DraftRequest]
    ) -> tuple[list[Guess | None], list[list[float]], list[int]]:
        """For each answer the best guess, the chances of its tokens, and which source it is from."""
        guesses: list[Guess | None] = [None] * len(asked)
        chances: list[list[float]] = [[] for _ in asked]
        by = [0] * len(asked)
        self._trying = False
        for number, each in enumerate(self._asked):
            open_places = [place for place in range(len(asked)) if self._may_better(each, chances[place])]
            requests = self._requests(each, [asked[place] for place in open_places])
            if not requests:
                continue
            found = each.source.guess(requests)
            for place, request, guess in zip(open_places, requests, found, strict=True):
                if guess is None:
                    continue
                each.rates.expect(request.key, guess, len(request.tokens))
                reach = each.rates.reach(request.key, guess)
                if sum(reach) > sum(chances[place]):
                    guesses[place], chances[place], by[place] = guess, reach, number
        return guesses, chances, by

    def _may_better(self, each: _Asked, chances: Sequence[float]) -> bool:
        """Whether a source may have something better to say than those before it."""
        return not chances or chances[0] < each.rates.overall

    def _requests(self, each: _Asked, asked: list[DraftRequest]) -> list[DraftRequest]:
        """The answers that a source is asked for, as far ahead as it pays; none where it does not."""
        source = each.source
        if not asked or not self._weigh or not source.asks_model:
            return asked
        if not self._costs.known:
            return []
        deepest = max(request.deepest for request in asked)
        depth, _ = best_depth(
            each.rates.overall, self._costs.seconds, source.price_s, answers=len(asked), most=deepest
        )
        if not each.trials.due(depth > 0):
            return []
        if not depth:
            # It is asked only where steps seem cheap, so what they cost is to be seen, too.
            self._trying = True
            depth = _TRIAL_TOKENS
        return [replace(request, deepest=min(request.deepest, depth)) for request in asked]
