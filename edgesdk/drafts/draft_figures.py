"""What came of drafts, over all answers of a drafter: sums, and the figures that papers give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DraftFigures:
    """Sums over steps in which answers went on.

    Attributes:
        sources: names of the drafter's sources.
        drafted_by_source: tokens that each had judged.
        kept_by_source: those of them that answers have.
        steps: steps in which an answer went on, with or without drafts, counted once for each answer.
        drafting_steps: those with a draft.
        saved_s: about how many seconds answers were faster, by what steps without drafts cost.
        stream_rows: rows of the model's own streams that steps have run for the drafts of those after them.
    """

    sources: tuple[str, ...]
    drafted_by_source: tuple[int, ...]
    kept_by_source: tuple[int, ...]
    steps: int
    drafting_steps: int
    saved_s: float
    stream_rows: int = 0

    @property
    def drafted(self) -> int:
        """Tokens that were judged."""
        return sum(self.drafted_by_source)

    @property
    def kept(self) -> int:
        """Those that answers have."""
        return sum(self.kept_by_source)

    @property
    def kept_per_step(self) -> float:
        """Drafted tokens that a step with a draft keeps, of one answer."""
        return self.kept / self.drafting_steps if self.drafting_steps else 0.0

    @property
    def block_efficiency(self) -> float:
        """Tokens that a step brings an answer: 1 without drafts."""
        return 1 + self.kept / self.steps if self.steps else 1.0

    @property
    def drafted_share(self) -> float:
        """Of the tokens of all answers, those that were drafted."""
        return self.kept / (self.kept + self.steps) if self.steps else 0.0
