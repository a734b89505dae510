"""Figures of one candidate window by window: kept in the cache folder, and summed up by text.

It does not know what a candidate is, beyond a digest and a function that scores.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from candidates import Candidate
from reference_logits import ReferenceLogits, Window, window_digest

from edgesdk.evaluation.agreement import Agreement, AgreementReport, perplexity_of


@dataclass(frozen=True)
class TextFigures:
    """A candidate on one text.

    Attributes:
        positions: scored.
        perplexity: of the candidate.
        reference_perplexity: of the reference.
        perplexity_ratio: the first over the second.
        ratio_error: standard error of the ratio over windows; None with one window or a broken model.
        kl_nats: mean KL(reference || candidate).
        top1_agreement: share of positions with the same most likely token.
    """

    positions: int
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float
    ratio_error: float | None
    kl_nats: float
    top1_agreement: float


def sum_up(windows: Sequence[AgreementReport]) -> TextFigures:
    """Joins the figures of windows as if they had been measured in one run."""
    positions = sum(w.positions for w in windows)

    def mean(values: Iterator[float]) -> float:
        return sum(v * w.positions for v, w in zip(values, windows, strict=True)) / positions

    loss = mean(math.log(w.perplexity) for w in windows)
    reference = mean(math.log(w.reference_perplexity) for w in windows)
    ratio = perplexity_of(loss - reference)
    differences = [math.log(w.perplexity_ratio) for w in windows]
    known = len(windows) > 1 and all(map(math.isfinite, differences))
    spread = statistics.stdev(differences) / math.sqrt(len(windows)) if known else None
    return TextFigures(
        positions=positions,
        perplexity=perplexity_of(loss),
        reference_perplexity=perplexity_of(reference),
        perplexity_ratio=ratio,
        ratio_error=None if spread is None else ratio * spread,
        kl_nats=mean(w.kl_nats for w in windows),
        top1_agreement=mean(w.top1_agreement for w in windows),
    )


class Measurements:
    """Figures by window of one candidate, kept in a file that is rewritten after every window."""

    def __init__(self, folder: Path, candidate: Candidate, source_digest: str) -> None:
        """Reads what was measured before."""
        key = hashlib.sha256(f"{candidate.digest}\n{source_digest}".encode()).hexdigest()[:32]
        self._path = folder / f"{key}.json"
        self._known: dict[str, AgreementReport] = {}
        if self._path.is_file():
            document = json.loads(self._path.read_text(encoding="utf-8"))
            self._known = {name: AgreementReport(**figures) for name, figures in document.items()}

    def measure(self, candidate: Candidate, window: Window, reference: ReferenceLogits) -> AgreementReport:
        """Figures of one window, measured if they are not known."""
        digest = window_digest(window)
        if digest not in self._known:
            agreement = Agreement()
            agreement.add(window, candidate.score(window), reference(window))
            self._known[digest] = agreement.report()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".part")
            draft.write_text(json.dumps({n: asdict(f) for n, f in self._known.items()}), encoding="utf-8")
            draft.replace(self._path)
        return self._known[digest]
