"""What trees of guesses are worth: k tokens of each stream, all of them or the better half, by two judges.

    python benchmarks/stream_trees.py SOURCE STREAMS [--work WORK] [--exit BLOCKS] [--texts N]

SOURCE is a checkpoint, STREAMS a folder that `edgesdk train streams` made of it, WORK its folder of answers
(default: STREAMS/work). Behind every token of the greedy answers that were held back, the k likeliest tokens
of each stream make a tree: k behind the next token, k behind each of those, and so on. A walk through an
answer keeps what of the tree behind the last token is the answer's own, and adds one token: tokens for each
call of the model, as `edgesdk train streams` counts them. Half of the nodes are pruned

    streams   by the product of the shares that streams gave to the tokens of a node's path, which is known
              before the step runs (`edgesdk/drafts/stream_drafts.py`)
    exit      by the product of the shares that an early exit gives to them, each after the path before it:
              the model's own head over the state after BLOCKS blocks (default: where streams begin, or two
              thirds), for which every node has run so far. The paper prunes so (Bhendawade et al., arXiv
              2402.11131), by a head that learns
    fitted    the same, the state turned first by the linear map that comes nearest to the last block's on
              the answers that were learnt from (least squares): the paper's head has rank 8

Everything runs in float32 in the evaluator; nothing is timed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.exit_record import STREAM
from edgesdk.bundle.stack_record import SOURCES, STREAMS
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import MASKED, sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.streams.add_streams import add_streams
from edgesdk_converters.streams.stream_checkpoint import fit_streams, read_streams
from edgesdk_converters.streams.stream_start import stream_before
from edgesdk_converters.training.frozen_target import HIDDEN
from edgesdk_converters.training.measure_draft import walk_steps
from edgesdk_converters.training.teach_texts import read_texts
from edgesdk_converters.training.work_folder import hold_back
from edgesdk_converters.transforms.cut_blocks import take_head

BRANCHES = (1, 2, 3, 4)
JUDGES = ("all", "streams", "exit", "fitted")
_PLACES = 32
_TOKENS = 320
_FITTED_TEXTS = 24

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows behind a text.

    Attributes:
        parents: the row that each follows, of the text or an earlier one of these.
        tokens: of each.
        streams: number of each, 0 for tokens.
        sources: the row of the text that each belongs to.
    """

    parents: list[int]
    tokens: list[int]
    streams: list[int]
    sources: list[int]


def step_inputs(program: Program, text: NDArray[np.int32], rows: Rows) -> dict[str, NDArray[np.generic]]:
    """Inputs of a step of a text and of rows behind it, each of which sees its ancestors."""
    n, spec = len(text), program.spec
    inputs = sequence_inputs(program, [np.concatenate([text, np.array(rows.tokens, np.int32)])])
    total = n + len(rows.parents)
    at = np.arange(total)
    seen = np.zeros((total, total), bool)
    seen[:n, :n] = np.tri(n, dtype=bool)
    for row, parent in enumerate(rows.parents, start=n):
        seen[row] = seen[parent]
        seen[row, row] = True
        at[row] = at[parent] + 1
    inputs |= {"positions": at.astype(np.int32), "mask": np.where(seen, np.float32(0), MASKED)}
    if spec.window is not None:
        near = seen & (at[:, None] - at < spec.window)
        inputs["window_mask"] = np.where(near, np.float32(0), MASKED)
    known = {value.name: value.shape for value in program.graph.inputs}
    if STREAMS in known:
        inputs[STREAMS][np.arange(n, total)[np.array(rows.streams) > 0], np.array(rows.streams) - 1] = 1
    if SOURCES in known:
        inputs[SOURCES] = np.concatenate([np.arange(n), rows.sources]).astype(np.int32)
    return inputs


class Judge:
    """A model with streams, and an early exit of it."""

    def __init__(self, source: str, folder: Path, exit_blocks: int | None) -> None:
        """Reads both; the exit has no map before `fit`."""
        checkpoint = open_checkpoint(source)
        program = read_program(checkpoint)
        program = replace(program, weights=ResidentWeights(program.weights))
        streams = fit_streams(read_streams(folder), program, checkpoint.tokenizer)
        blocks = len(program.spec.blocks)
        self.program, self.grown = program, add_streams(program, streams)
        self.grown = replace(self.grown, weights=ResidentWeights(self.grown.weights))
        self.config = streams.config
        self.exit = exit_blocks or streams.config.first or blocks - blocks // 3
        if not 0 < self.exit < blocks:
            raise click.ClickException(f"the exit is after {self.exit} blocks, expected 1 to {blocks - 1}")
        self._state = stream_before(program.graph, program.spec, self.exit)
        norm = program.graph.producer(HIDDEN)
        assert norm is not None
        self._last = norm.inputs[0]
        self._head = take_head(program)
        self._map: Floats | None = None

    def fit(self, texts: Sequence[NDArray[np.int32]]) -> None:
        """Finds the linear map from the exit's state to the last block's on some texts."""
        pairs = [self._values(self.program, sequence_inputs(self.program, [text])) for text in texts]
        x = np.concatenate([_with_one(pair[self._state]) for pair in pairs])
        y = np.concatenate([pair[self._last] for pair in pairs])
        self._map = np.linalg.lstsq(x, y, rcond=None)[0].astype(np.float32)

    def streams(self, text: NDArray[np.int32], places: Ints) -> Floats:
        """Shares that the streams behind some tokens give to every word: (P, G, V)."""
        n, G = len(text), self.config.count
        numbers = np.tile(np.arange(1, G + 1), len(places))
        rows = np.arange(n, n + len(numbers)) - 1
        parents = np.where(numbers == 1, np.repeat(places, G), rows)
        asked = Rows(parents.tolist(), [0] * len(numbers), numbers.tolist(), np.repeat(places, G).tolist())
        inputs = step_inputs(self.grown, text, asked)
        logits = evaluate(self.grown.graph, self.grown.weights, inputs)["logits"][n:]
        return _shares(logits).reshape(len(places), G, -1)

    def exits(self, text: NDArray[np.int32], rows: Rows) -> dict[str, Floats]:
        """Shares that the exit gives after each token of a text and after each row behind it: (n + M, V)."""
        state = self._values(self.program, step_inputs(self.program, text, rows))[self._state]
        states = {"exit": state}
        if self._map is not None:
            states["fitted"] = _with_one(state) @ self._map
        return {name: self._shares_of(value) for name, value in states.items()}

    def _shares_of(self, state: Floats) -> Floats:
        given = {STREAM: state, "rows": np.arange(len(state), dtype=np.int32)}
        inputs = {value.name: given[value.name] for value in self._head.graph.inputs}
        return _shares(evaluate(self._head.graph, self._head.weights, inputs)["logits"])

    def _values(self, program: Program, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Floats]:
        """The states after the exit's blocks and, where no exit has a map yet, after the last."""
        wanted = (self._state,) if self._map is not None else (self._state, self._last)
        graph = program.graph
        until = max(place for place, node in enumerate(graph.nodes) if set(wanted) & set(node.outputs))
        cut = replace(graph, nodes=graph.nodes[: until + 1], outputs=wanted)
        return evaluate(cut, program.weights, inputs)


def _with_one(x: Floats) -> Floats:
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)


def _shares(logits: Floats) -> Floats:
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Floats = scores / scores.sum(axis=-1, keepdims=True)
    return found


Node = tuple[int, ...]
"""Which of the likeliest tokens of each stream, from 0: () is the next token, (1,) the second behind it."""


def paths_of(branches: int, depth: int) -> list[Node]:
    """Nodes of a tree in so many levels, parents first."""
    return [path for level in range(1, depth + 1) for path in product(range(branches), repeat=level)]


def better_half(scores: Mapping[Node, float], nodes: Sequence[Node]) -> set[Node]:
    """The half of the nodes that have most, one at least; a parent has no less than its children."""
    order = sorted(nodes, key=lambda path: (-scores[path], len(path)))
    return set(order[: max(1, len(nodes) // 2)])


def reaches(judge: Judge, text: NDArray[np.int32], places: Ints) -> dict[tuple[str, int], list[int]]:
    """How many tokens each tree behind each place would have brought, by judge and k."""
    G, most, n = judge.config.count, max(BRANCHES), len(text)
    shares = judge.streams(text, places)
    likeliest = np.argsort(-shares, axis=-1)[..., :most]
    # The exit sees the next token and every node that has children.
    inner = paths_of(most, G - 1)
    rows, row_of = Rows([], [], [], []), dict[tuple[int, Node], int]()
    for at, place in enumerate(places.tolist()):
        row_of[at, ()] = place + 1
        for path in inner:
            row_of[at, path] = n + len(rows.parents)
            rows.parents.append(row_of[at, path[:-1]])
            rows.tokens.append(int(likeliest[at, len(path) - 1, path[-1]]))
            rows.streams.append(0)
            rows.sources.append(place + 1)
    exits = judge.exits(text, rows)
    found: dict[tuple[str, int], list[int]] = {}
    for at, place in enumerate(places.tolist()):
        said = text[place + 2 : place + 2 + G].tolist()
        scores: dict[str, dict[Node, float]] = {name: {(): 1.0} for name in ("streams", *exits)}
        for path in paths_of(most, G):
            stream, before = len(path) - 1, path[:-1]
            token = int(likeliest[at, stream, path[-1]])
            scores["streams"][path] = scores["streams"][before] * float(shares[at, stream, token])
            for name, given in exits.items():
                scores[name][path] = scores[name][before] * float(given[row_of[at, before], token])
        right = [np.flatnonzero(likeliest[at, j] == token).tolist() for j, token in enumerate(said)]
        for k in BRANCHES:
            nodes = paths_of(k, G)
            kept = {"all": set(nodes)} | {name: better_half(scores[name], nodes) for name in scores}
            for name, there in kept.items():
                way: Node = ()
                while len(way) < len(right) and right[len(way)]:
                    longer = (*way, right[len(way)][0])
                    if longer not in there:
                        break
                    way = longer
                found.setdefault((name, k), []).append(len(way))
    return found


def measure(judge: Judge, texts: Sequence[tuple[NDArray[np.int32], int]]) -> dict[tuple[str, int], float]:
    """Tokens for each call, by judge and k."""
    calls: dict[tuple[str, int], int] = {}
    tokens = 0
    for text, first in texts:
        places = np.arange(first, len(text) - 1)
        if not len(places):
            continue
        pieces = [
            reaches(judge, text, places[begin : begin + _PLACES]) for begin in range(0, len(places), _PLACES)
        ]
        for key in pieces[0]:
            reach = np.array([value for piece in pieces for value in piece[key]])
            calls[key] = calls.get(key, 0) + 1 + walk_steps(reach[:-1])
        tokens += len(places)
    return {key: tokens / count for key, count in calls.items()}


@click.command()
@click.argument("source")
@click.argument("streams", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--work", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--exit", "exit_blocks", type=click.IntRange(min=1), help="Blocks before the early exit.")
@click.option("--texts", "most", type=click.IntRange(min=1), help="Judge on so many answers at most.")
def main(source: str, streams: Path, work: Path | None, exit_blocks: int | None, most: int | None) -> None:
    """Prints a table of tokens for each call."""
    judge = Judge(source, streams, exit_blocks)
    answers = read_texts((work or streams / "work") / "answers.jsonl")
    held = sorted(hold_back(frozenset(i for i, a in enumerate(answers) if a.temperature == 0)))
    texts = [np.array(a.prompt + a.answer, np.int32)[:_TOKENS] for a in answers]
    judge.fit([text for i, text in enumerate(texts) if i not in held][:_FITTED_TEXTS])
    judged = [(texts[i], len(answers[i].prompt) - 1) for i in held][:most]
    found = measure(judge, judged)
    tokens = sum(max(0, len(text) - 1 - first) for text, first in judged)
    G, blocks = judge.config.count, len(judge.program.spec.blocks)
    click.echo(
        f"{G} streams in the form {judge.config.form}, an exit after {judge.exit} of {blocks} blocks; "
        f"{len(judged)} answers, {tokens} tokens\n"
    )
    click.echo(f"| k | nodes | {' | '.join(JUDGES)} |\n|---|---|{'---|' * len(JUDGES)}")
    for k in BRANCHES:
        nodes = len(paths_of(k, G))
        row = [str(k), f"{nodes}, {max(1, nodes // 2)}", *(f"{found[name, k]:.3f}" for name in JUDGES)]
        click.echo(f"| {' | '.join(row)} |", nl=True)


if __name__ == "__main__":
    main()
