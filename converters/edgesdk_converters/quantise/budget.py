"""Mixed precision to a budget: which matrices may have fewer bits before quality or size says stop.

Matrices go to fewer bits in the order of what a saved byte costs (measured alone, one by one), and
how many of them may is found by bisection on texts of their own, where the whole mixture is measured.
Greedy by price is the fractional knapsack's optimum; that costs add up is an assumption, and the
bisection is what corrects it. The same inputs give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.manifest import FrontierPoint
from edgesdk.errors import UnsupportedOption
from edgesdk.evaluation.agreement import Agreement, AgreementReport
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, ResidentWeights, Weights
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.sensitivity import Sensitivity, Text

Measure = Literal["perplexity", "kl", "size_mb"]
_EXAMPLES: dict[Measure, str] = {"perplexity": "perplexity=1.02", "kl": "kl=0.01", "size_mb": "size_mb=90"}


@dataclass(frozen=True)
class Budget:
    """What may be spent.

    Attributes:
        measure: `perplexity` (ratio to the float32 model), `kl` (nats per position) or `size_mb`
            (millions of bytes of quantised matrices).
        limit: the most of it.
    """

    measure: Measure
    limit: float


@dataclass(frozen=True)
class Mixture:
    """The answer of a search.

    Attributes:
        tensors: every matrix in the form chosen for it.
        low: names of those with fewer bits.
        chosen: what was measured for it.
        frontier: every mixture that was measured, smallest `low` first.
    """

    tensors: Mapping[str, QuantisedTensor]
    low: frozenset[str]
    chosen: FrontierPoint
    frontier: tuple[FrontierPoint, ...]


def parse_budget(text: str) -> Budget:
    """Reads `perplexity=1.02`, `kl=0.01` or `size_mb=90`.

    Raises:
        UnsupportedOption: it is none of them, or the limit cannot be met by any model.
    """
    name, _, number = text.partition("=")
    if name not in _EXAMPLES:
        raise UnsupportedOption(
            f"budget {text!r} is unknown; expected for example {', '.join(_EXAMPLES.values())}"
        )
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    least = 1.0 if name == "perplexity" else 0.0
    if not math.isfinite(limit) or limit <= least:
        raise UnsupportedOption(
            f"budget {text!r} has no limit above {least:g}; expected for example {_EXAMPLES[name]}"
        )
    return Budget(name, limit)


def search_mixture(
    program: Program,
    high: Mapping[str, QuantisedTensor],
    low: Mapping[str, QuantisedTensor],
    order: Sequence[Sensitivity],
    texts: Sequence[Text],
    budget: Budget,
    report: Callable[[str], None] | None = None,
) -> Mixture:
    """Finds the mixture that a budget allows.

    Args:
        program: prepared decoder with float32 weights.
        high: matrices in more bits.
        low: matrices in fewer bits.
        order: cheapest byte first, from `measure_sensitivities`.
        texts: to measure mixtures on; not those that the order was measured on.
        budget: the limit. With `size_mb` the fewest matrices are lowered that meet it, else the most.
        report: told what is measured.

    Raises:
        UnsupportedOption: no mixture is within the budget.
    """
    say = report or (lambda line: None)
    judge = _Judge(program, high, low, [s.weight for s in order], texts, say)
    count = len(order)
    if budget.measure == "size_mb":
        fits = [k for k in range(count + 1) if judge.size_bytes(k) <= budget.limit * 1e6]
        if not fits:
            raise UnsupportedOption(
                f"no mixture fits {budget.limit:g} MB: with every matrix at its fewest bits they take "
                f"{math.ceil(judge.size_bytes(count) / 1e3) / 1e3:.3f} MB; use a larger budget"
            )
        chosen = fits[0]
        judge.point(0)
        judge.point(count)
    else:
        chosen = _bisect(judge, budget, count)
    point = judge.point(chosen)
    names = frozenset(s.weight for s in order[:chosen])
    tensors = {name: low[name] if name in names else tensor for name, tensor in high.items()}
    return Mixture(tensors, names, point, tuple(judge.points[k] for k in sorted(judge.points)))


def _bisect(judge: _Judge, budget: Budget, count: int) -> int:
    def within(k: int) -> bool:
        point = judge.point(k)
        found = point.perplexity_ratio if budget.measure == "perplexity" else point.kl_nats
        return found <= budget.limit

    if not within(0):
        point = judge.point(0)
        raise UnsupportedOption(
            f"no mixture stays within {budget.measure} {budget.limit:g}: with every matrix at its most bits "
            f"the perplexity ratio is {point.perplexity_ratio:.4f} and the KL divergence {point.kl_nats:.4f}"
        )
    if within(count):
        return count
    lowest, highest = 0, count  # within, not within
    while highest - lowest > 1:
        middle = (lowest + highest) // 2
        lowest, highest = (middle, highest) if within(middle) else (lowest, middle)
    return lowest


class _Judge:
    """Measures mixtures of the first k matrices of an order, each once."""

    def __init__(
        self,
        program: Program,
        high: Mapping[str, QuantisedTensor],
        low: Mapping[str, QuantisedTensor],
        order: Sequence[str],
        texts: Sequence[Text],
        say: Callable[[str], None],
    ) -> None:
        self._program = program
        self._high, self._low, self._order = high, low, order
        self._texts = texts
        self._say = say
        self._float = ResidentWeights(program.weights)
        self._reference: list[Array] | None = None
        self.points: dict[int, FrontierPoint] = {}

    def size_bytes(self, k: int) -> int:
        lowered = set(self._order[:k])
        return sum((self._low if n in lowered else self._high)[n].nbytes for n in self._high)

    def point(self, k: int) -> FrontierPoint:
        if k not in self.points:
            self._say(f"measuring {k} of {len(self._order)} matrices in fewer bits")
            found = self._measure(k)
            self.points[k] = FrontierPoint(
                k,
                self.size_bytes(k),
                found.perplexity_ratio or 0.0,
                found.kl_nats or 0.0,
                found.top1_agreement or 0.0,
            )
        return self.points[k]

    def _measure(self, k: int) -> AgreementReport:
        if self._reference is None:
            self._reference = list(self._logits(self._float))
        lowered = set(self._order[:k])
        forms = {n: (self._low if n in lowered else self._high)[n] for n in self._high}
        changed = {
            name: Derived(self._float.shape(name), lambda base, tensor=tensor: tensor.dequantise())  # type: ignore[misc]
            for name, tensor in forms.items()
        }
        mixed = DerivedWeights(self._float, changed, frozenset())
        agreement = Agreement()
        for text, logits, reference in zip(self._texts, self._logits(mixed), self._reference, strict=True):
            agreement.add(text, logits, reference)
        return agreement.report()

    def _logits(self, weights: Weights) -> Iterator[Array]:
        """(n, V) for each text. One at a time: attention over all of them at once costs more than weights."""
        program = Program(self._program.spec, self._program.graph, weights)
        for text in self._texts:
            yield from sequence_logits(program, [text])
