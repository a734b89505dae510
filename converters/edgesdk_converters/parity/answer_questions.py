"""The float32 reference's own answers to the built-in questions, all generated at once by the evaluator.

Each pass reads every weight once, for a token of every question. All tokens so far are cells of one step,
and a mask says whose they are; what every question begins with, a system prompt, is run once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.step_names import NEW, CellName
from edgesdk.evaluation.chats import Chats
from edgesdk.model import Model
from edgesdk_converters.graph.attend_apart import APART
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import MASKED, closed_gates
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.ops import Attend
from edgesdk_converters.graph.predecessor_inputs import predecessor_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights

ANSWER_TOKENS = 16
_KEPT_BYTES = 640 << 20
"""Of a model whose weights are read once for all passes; those of a larger one are read again each time."""
_CELL_BYTES = 256 << 20
"""Of keys and values; a model with more to keep answers the questions in several groups."""
_PASS_TOKENS = 512
"""Of questions in one pass: what is computed for them is kept while it runs."""
_SHARED = -1

Text = NDArray[np.int32]


def questions() -> list[str]:
    """The built-in questions, which no calibration sees."""
    return (files("edgesdk_converters.parity") / "questions.txt").read_text(encoding="utf-8").splitlines()


class ReferenceAnswers:
    """The reference's answers, made once, for the first model that has met its gate."""

    def __init__(
        self,
        program: Program,
        ends: Sequence[int],
        writable: NDArray[np.int64] | None,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is run yet; arguments as `answer_questions` has them, `say` is told when it begins."""
        self._program, self._ends, self._writable, self._say = program, ends, writable, say
        self._made = False
        self.found: Chats | None = None
        """The answers, once some model has been asked and a question fits."""

    def to(self, model: Model) -> Chats | None:
        """The built-in questions in the model's template, which all variants share, and the answers."""
        if not self._made:
            self._say("answering questions with the reference")
            asked = fitting_questions(model)
            self.found = answer_questions(self._program, asked, self._ends, self._writable)
            self._made = True
        return self.found


def fitting_questions(model: Model, tokens: int = ANSWER_TOKENS) -> list[Text]:
    """The built-in questions as a model is asked them, in its chat template if it has one.

    Args:
        model: loaded.
        tokens: of an answer, for which there must be room.
    """
    asked = [np.asarray(model.render_prompt(question), np.int32) for question in questions()]
    return [text for text in asked if len(text) and len(text) + tokens <= model.context]


def answer_questions(
    program: Program,
    asked: Sequence[Text],
    ends: Sequence[int],
    writable: NDArray[np.int64] | None = None,
    tokens: int = ANSWER_TOKENS,
) -> Chats | None:
    """Answers questions greedily.

    Args:
        program: float32, before any transform.
        asked: (n,) int32 each, not empty.
        ends: tokens that end an answer; they count as its last.
        writable: (N,) the tokens that a pruned head writes, ascending; None for all.
        tokens: most tokens of an answer.

    Returns:
        The questions with their answers; None without questions.
    """
    if not asked:
        return None
    kept = program
    if sum(4 * math.prod(map(int, weight.shape)) for weight in program.graph.weights) <= _KEPT_BYTES:
        kept = dataclasses.replace(program, weights=ResidentWeights(program.weights))
    answers: list[Text] = []
    for group in _groups(kept, asked, tokens):
        answers += _Answers(kept, group, tokens).run(frozenset(ends), writable)
    return Chats(tuple(asked), tuple(answers))


def _groups(program: Program, asked: Sequence[Text], tokens: int) -> Iterator[Sequence[Text]]:
    cell_bytes = 4 * sum(heads * size for _, heads, size in _cell_inputs(program.graph).values())
    cell_bytes += 4 * len(program.spec.convolving) * program.spec.hidden_size
    longest = max(len(question) for question in asked) + tokens
    size = max(1, _CELL_BYTES // (cell_bytes * longest))
    for start in range(0, len(asked), size):
        yield asked[start : start + size]


def _cell_inputs(graph: Graph) -> dict[str, tuple[str, int, int]]:
    """For every input of cells the output with what becomes of new tokens, K and D."""
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, Attend):
            _, keys, values, _, *cells = node.inputs
            for name, new in zip(cells, (keys, values), strict=True):
                heads, _, size = graph.values[name].shape
                found[name] = (new, int(heads), int(size))
    return found


class _Answers:
    """Questions that are answered together."""

    def __init__(self, program: Program, asked: Sequence[Text], tokens: int) -> None:
        self._program, self._asked, self._tokens = program, asked, tokens
        self._common = _common(asked)
        cells = self._common + sum(len(text) - self._common + tokens for text in asked)
        self._owners = np.empty(cells, np.int32)
        self._positions = np.empty(cells, np.int32)
        self._used = 0
        self._new = _cell_inputs(program.graph)
        self._cells = {
            name: np.empty((heads, cells, size), np.float32) for name, (_, heads, size) in self._new.items()
        }

        spec = program.spec
        self._convolved = np.empty((len(spec.convolving), cells, spec.hidden_size), np.float32)

    def run(self, ends: frozenset[int], writable: NDArray[np.int64] | None) -> list[Text]:
        """The answers, in order."""
        if self._common:
            shared = np.full(self._common, _SHARED, np.int32)
            self._step(self._asked[0][: self._common], shared, np.arange(self._common))
        chosen = np.concatenate([*self._begin()])
        answers: list[list[int]] = [[] for _ in self._asked]
        open_ones = np.arange(len(self._asked), dtype=np.int32)
        lengths = np.array([len(text) for text in self._asked], np.int32)
        while True:
            ids = chosen if writable is None else writable[chosen]
            for which, token in zip(open_ones, ids, strict=True):
                answers[which].append(int(token))
            going = [len(answers[i]) < self._tokens and answers[i][-1] not in ends for i in open_ones]
            open_ones = open_ones[going]
            if not len(open_ones):
                return [np.array(answer, np.int32) for answer in answers]
            at = lengths[open_ones] + np.array([len(answers[i]) - 1 for i in open_ones])
            last = np.array([answers[i][-1] for i in open_ones], np.int32)
            chosen = self._step(last, open_ones, at)

    def _begin(self) -> Iterator[NDArray[np.int64]]:
        """First choices, a few questions a pass."""
        tails = [text[self._common :] for text in self._asked]
        start = 0
        while start < len(tails):
            stop, total = start + 1, len(tails[start])
            while stop < len(tails) and total + len(tails[stop]) <= _PASS_TOKENS:
                total, stop = total + len(tails[stop]), stop + 1
            part = tails[start:stop]
            owners = np.repeat(np.arange(start, stop, dtype=np.int32), [len(tail) for tail in part])
            positions = np.concatenate([np.arange(len(tail)) for tail in part]) + self._common
            rows = np.cumsum([len(tail) for tail in part]) - 1
            yield self._step(np.concatenate(part), owners, positions, rows)
            start = stop

    def _step(
        self,
        tokens: Text,
        owners: NDArray[np.int32],
        positions: NDArray[np.integer[Any]],
        rows: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Runs tokens, keeps their keys and values, and gives the first choice after each of `rows`."""
        T, S = len(tokens), self._used
        new = slice(S, S + T)
        self._owners[new] = owners
        self._positions[new] = positions
        known, at = self._owners[: S + T], self._positions[: S + T]
        distance = at[new, None] - at[None, :]
        seen = ((known[None, :] == owners[:, None]) | (known[None, :] == _SHARED)) & (distance >= 0)
        inputs: dict[str, NDArray[np.generic]] = {
            "tokens": np.asarray(tokens, np.int32),
            "positions": self._positions[new],
            "mask": np.where(seen, np.float32(0), MASKED),
            "rows": np.arange(T, dtype=np.int32) if rows is None else rows.astype(np.int32),
        }
        window = self._program.spec.window
        if window is not None:
            inputs["window_mask"] = np.where(seen & (distance < window), np.float32(0), MASKED)
        inputs |= closed_gates(self._program, T)
        inputs |= predecessor_inputs(self._program.spec, seen, distance, self._convolved[:, :S])
        inputs |= {name: cells[:, :S] for name, cells in self._cells.items()}
        found = evaluate(self._program.graph, self._program.weights, inputs, lowerings=APART)
        for name, (out, _, _) in self._new.items():
            self._cells[name][:, new] = found[out]
        for place, kept in enumerate(self._convolved):
            kept[new] = found[str(CellName("x", NEW, place))][0]
        self._used += T
        chosen: NDArray[np.int64] = np.argmax(found["logits"], axis=-1)
        return chosen


def _common(asked: Sequence[Text]) -> int:
    """Tokens that all questions begin with; the last of each is its own."""
    columns = zip(*(text[:-1].tolist() for text in asked), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns)) if len(asked) > 1 else 0
