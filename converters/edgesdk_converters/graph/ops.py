"""The closed set of operations that decoders are made of, each with its shape rule.

An operation holds settings only; `graph.Node` says what it reads and writes. Emitters and the
evaluator keep one table from these types to a lowering, and a test checks that no table has a gap.

Dimensions are integers or the letters T (new tokens), S (cached cells), R (rows with logits) and
`S+T`; they become integers when an emitter chooses a size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.decoder_block import Activation, RotarySpec
from edgesdk.errors import TransformError

Dim = int | Literal["T", "S", "R", "S+T"]
Shape = tuple[Dim, ...]


def _expect(condition: bool, op: object, shapes: tuple[Shape, ...]) -> None:
    if not condition:
        raise TransformError(f"{type(op).__name__} cannot take shapes {', '.join(map(str, shapes))}")


@dataclass(frozen=True)
class Embed:
    """tokens (T,), table (V, E) -> (T, E)."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 and len(shapes[0]) == 1 and len(shapes[1]) == 2, self, shapes)
        return ((shapes[0][0], shapes[1][1]),)


@dataclass(frozen=True)
class TakeRows:
    """x (T, E), rows (R,) -> (R, E)."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 and len(shapes[0]) == 2 and len(shapes[1]) == 1, self, shapes)
        return ((shapes[1][0], shapes[0][1]),)


@dataclass(frozen=True)
class RmsNorm:
    """x (..., N), optional weight (N,) -> (..., N): x / sqrt(mean(x^2) + eps) * weight."""

    eps: float

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) in (1, 2) and (len(shapes) == 1 or shapes[1] == shapes[0][-1:]), self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class Linear:
    """x (M, I), weight (O, I), optional bias (O,) -> (M, O): x @ weight.T + bias."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) in (2, 3) and len(shapes[0]) == len(shapes[1]) == 2, self, shapes)
        _expect(shapes[0][1] == shapes[1][1], self, shapes)
        _expect(len(shapes) == 2 or shapes[2] == shapes[1][:1], self, shapes)
        return ((shapes[0][0], shapes[1][0]),)


@dataclass(frozen=True)
class RowProducts:
    """x (M, I), rows (N, I) -> (M, N): x @ rows.T, a product with rows that were picked while it runs."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 and len(shapes[0]) == len(shapes[1]) == 2, self, shapes)
        _expect(shapes[0][1] == shapes[1][1], self, shapes)
        return ((shapes[0][0], shapes[1][0]),)


@dataclass(frozen=True)
class LowRankPart:
    """Columns of a product to which low-rank terms are added.

    Attributes:
        width: how many columns.
        ranks: for each gate the rank of its term, 0 where it leaves the columns as they are.
    """

    width: int
    ranks: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Sum of the ranks: columns of the part's B."""
        return sum(self.ranks)


@dataclass(frozen=True)
class LowRank:
    """y + B (h * gates'): gated terms of low rank beside a product (LoRA, arXiv 2106.09685, section 4.1).

    y (M, O), h (M, sum of ranks), gates (M, G), B (width, rank) for each part that has a rank -> (M, O).
    h is what a linear layer with the rows A makes of the product's input, those of all parts side by side,
    within a part those of all gates; gates' repeats each gate's factor as often as its rank. A row whose
    gates are 0 keeps y. Who gives A and B, and what a gate stands for, is not known here.

    Attributes:
        parts: they cover the columns of y, in order.
    """

    parts: tuple[LowRankPart, ...]

    @property
    def columns(self) -> tuple[int, ...]:
        """For each column of h the gate that it is multiplied by."""
        return tuple(g for part in self.parts for g, rank in enumerate(part.ranks) for _ in range(rank))

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) > 3 and all(len(shape) == 2 for shape in shapes), self, shapes)
        y, h, gates, *written = shapes
        _expect(y[0] == h[0] == gates[0] and y[1] == sum(part.width for part in self.parts), self, shapes)
        _expect(h[1] == len(self.columns), self, shapes)
        _expect(all(len(part.ranks) == gates[1] for part in self.parts), self, shapes)
        _expect(written == [(part.width, part.rank) for part in self.parts if part.rank], self, shapes)
        return (y,)


@dataclass(frozen=True)
class Split:
    """x (M, sum(sizes)) -> one (M, size) per size."""

    sizes: tuple[int, ...]

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1 and shapes[0][-1] == sum(self.sizes), self, shapes)
        return tuple((*shapes[0][:-1], size) for size in self.sizes)


@dataclass(frozen=True)
class SplitHeads:
    """x (T, heads * D) -> (T, heads, D)."""

    heads: int

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1 and len(shapes[0]) == 2, self, shapes)
        rows, width = shapes[0]
        _expect(isinstance(width, int) and width % self.heads == 0, self, shapes)
        return ((rows, self.heads, int(width) // self.heads),)


@dataclass(frozen=True)
class MergeHeads:
    """x (T, heads, D) -> (T, heads * D)."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1 and len(shapes[0]) == 3, self, shapes)
        rows, heads, size = shapes[0]
        return ((rows, int(heads) * int(size)),)


@dataclass(frozen=True)
class HeadsFirst:
    """x (T, K, D) -> (K, T, D): the layout of cells."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1 and len(shapes[0]) == 3, self, shapes)
        return ((shapes[0][1], shapes[0][0], shapes[0][2]),)


@dataclass(frozen=True)
class Rotate:
    """x (T, heads, D), positions (T,) -> (T, heads, D): rotary embedding, halves paired."""

    rotary: RotarySpec

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 and len(shapes[0]) == 3 and shapes[1] == shapes[0][:1], self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class Attend:
    """Attention of new tokens over cells and over each other, one softmax over both.

    queries (T, H, D), new keys and new values (K, T, D) each, mask (T, S+T), cells of keys and of values
    (K, S, D) each -> (T, H, D). The mask is added to the scaled (and soft-capped) scores. Without cells the
    mask is (T, T).

    Attributes:
        scale: scores are multiplied by it.
        softcap: scores become cap * tanh(scores / cap).
        layer: number of the layer whose cells it reads, from 0: its own or an earlier one.
        window: sliding window in tokens; already in the mask, kept for emitters whose kernel has it.
    """

    scale: float
    softcap: float | None
    layer: int
    window: int | None

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) in (4, 6), self, shapes)
        (T, H, D), (K, *_), _, mask, *cells = shapes
        _expect(shapes[1] == shapes[2] == (K, T, D), self, shapes)
        _expect(mask == (T, "S+T" if cells else T), self, shapes)
        _expect(all(each == (K, "S", D) for each in cells), self, shapes)
        _expect(isinstance(H, int) and isinstance(K, int) and H % K == 0, self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class Convolve:
    """A causal convolution of every channel over the last k tokens: sum over j of tap_j * (x, j tokens ago).

    x (T, E), before (T, count * (k - 1) * E), k - 1 picks (T, T), k taps (E,) -> (T, E). x of the j-th token
    before one is picks_j @ x where that is a new token, and the j-th E columns of its own in `before` where
    it is not; the other is zero.

    Attributes:
        kernel: k.
        place: among the convolutions, whose columns stand in `before` one behind the other.
    """

    kernel: int
    place: int

    def columns(self, j: int, width: int) -> tuple[int, int]:
        """Columns of `before`, from and to, of the j-th token before (j from 1), E being `width`."""
        start = (self.place * (self.kernel - 1) + j - 1) * width
        return start, start + width

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 * self.kernel + 1 and len(shapes[0]) == 2, self, shapes)
        T, E = shapes[0]
        _expect(isinstance(E, int) and len(shapes[1]) == 2 and shapes[1][0] == T, self, shapes)
        _expect(int(shapes[1][1]) >= self.columns(self.kernel - 1, int(E))[1], self, shapes)
        _expect(set(shapes[2 : self.kernel + 1]) == {(T, T)}, self, shapes)
        _expect(set(shapes[self.kernel + 1 :]) == {(E,)}, self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class Activate:
    """x -> silu(x) or gelu(x) in its tanh approximation."""

    kind: Activation

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1, self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class Add:
    """a + b, same shapes."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 and shapes[0] == shapes[1], self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class Multiply:
    """a * b, same shapes."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 and shapes[0] == shapes[1], self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class Scale:
    """x * factor."""

    factor: float

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1, self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class ScaleColumns:
    """x (M, N), weight (N,) -> (M, N): every column times a factor of its own."""

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 2 and len(shapes[0]) == 2 and shapes[1] == shapes[0][1:], self, shapes)
        return (shapes[0],)


@dataclass(frozen=True)
class BlockSums:
    """x (M, I) -> (M, I / block): sums over runs of `block` columns."""

    block: int

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1 and len(shapes[0]) == 2, self, shapes)
        rows, width = shapes[0]
        _expect(isinstance(width, int) and width % self.block == 0, self, shapes)
        return ((rows, int(width) // self.block),)


@dataclass(frozen=True)
class Softcap:
    """cap * tanh(x / cap)."""

    cap: float

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Output shapes."""
        _expect(len(shapes) == 1, self, shapes)
        return (shapes[0],)


Op = (
    Embed
    | TakeRows
    | RmsNorm
    | Linear
    | RowProducts
    | LowRank
    | Split
    | SplitHeads
    | MergeHeads
    | HeadsFirst
    | Rotate
    | Attend
    | Convolve
    | Activate
    | Add
    | Multiply
    | Scale
    | ScaleColumns
    | BlockSums
    | Softcap
)
