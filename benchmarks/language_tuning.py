"""Bits per byte of another language's vocabulary, by every initialisation, before and after equal tuning.

    python benchmarks/language_tuning.py SOURCE TEXT OUT.jsonl [--size N] [--steps N] [--seeds N]
        [--inits LIST] [--curve LIST] [--report]

Nine tenths of TEXT train the tokenizer, the vectors and the model; the beginning of the rest is judged, the
same text by everybody, in windows of 128 tokens, the first of each unjudged. `pruned` is the baseline: the
source's own vocabulary pruned to the text's most used N tokens, tuned as the others are. Tuning is
`edgesdk train adapter --tables`: terms of low rank in every product, and the tables as a whole. A step reads
one window. All runs have tables of one size, so the step is compiled once. Rows go to OUT.jsonl as they come,
all inits of a seed before the next seed; those that are there are not done again. `--report` prints means
and intervals of what is there, `--plot FILE.svg` draws it, too.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.training.adapter_learner import AdapterLearner
from edgesdk_converters.training.run_state import RunState
from edgesdk_converters.training.trainer import Trainer, TrainOptions
from edgesdk_converters.vocabulary.adapt.adapt_vocab import spell_tokens
from edgesdk_converters.vocabulary.adapt.initialise import VectorsOf, check_init, mixture, new_rows
from edgesdk_converters.vocabulary.adapt.train_tokenizer import train_replacement
from edgesdk_converters.vocabulary.adapt.word_vectors import train_vectors
from edgesdk_converters.vocabulary.choose_tokens import choose_tokens
from edgesdk_converters.vocabulary.prune_request import PruneRequest
from edgesdk_converters.vocabulary.prune_vocab import prune_vocab
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData

_WINDOW = 128
_RANK, _ALPHA = 8, 32.0
_PRUNED = "pruned"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer with its texts in windows.

    Attributes:
        learnt: (n, W) tokens.
        judged: (m, W) tokens, the last window filled up.
        count: (m, W - 1), which of them are judged.
        byte_count: of what is judged.
    """

    learnt: NDArray[np.int32]
    judged: NDArray[np.int32]
    count: NDArray[np.bool_]
    byte_count: int


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=8000)
    parser.add_argument("--bytes", type=int, default=3000, help="that are judged")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--inits", default=f"{_PRUNED},random,mean,clp,clp+,heuristics,focus")
    parser.add_argument("--curve", default="", help="steps after which bits are counted on the way, too")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    rows = _rows(asked.out)
    if asked.report or asked.plot:
        _report(rows)
        if asked.plot:
            _plot(rows, asked.plot)
        return 0
    done = {(row["init"], row["seed"]) for row in rows}
    wanted = [
        (init, seed)
        for seed, init in product(range(asked.seeds), asked.inits.split(","))
        if (init, seed) not in done
    ]
    with asked.out.open("a", encoding="utf-8") as file:
        for row in _runs(asked, wanted):
            print(line := json.dumps(row), flush=True)
            file.write(line + "\n")
            file.flush()
    return 0


def _runs(asked: argparse.Namespace, wanted: list[tuple[str, int]]) -> Iterator[dict[str, object]]:
    source = open_checkpoint(asked.source)
    data = TokenizerData(source.tokenizer.tokenizer_json)
    text = asked.text.read_text(encoding="utf-8")
    cut = text.rindex("\n", 0, len(text) * 9 // 10)
    held_out = text[cut:].encode()[: asked.bytes].decode("utf-8", "ignore")
    blocks = [text[:cut]]
    pruned = _pruned(source, text[:cut], asked.size)
    size = len(TokenizerData(pruned.tokenizer.tokenizer_json).texts)
    record = source.tokenizer.record
    roles = [i for i in (record.bos_id, *record.eos_ids) if i is not None]
    target = train_replacement(data, roles, text[:cut].splitlines(keepends=True), size)
    fresh = TokenizerData(target.text)
    assert fresh.size == size, (fresh.size, size)
    spelled = spell_tokens(data, fresh, target)
    table = read_program(source).weights.load("embed")
    texts = {
        own: _windows(tokenizer.engine, text[:cut], held_out)
        for own, tokenizer in ((False, fresh), (True, TokenizerData(pruned.tokenizer.tokenizer_json)))
    }
    program = read_program(pruned)
    learner = AdapterLearner(
        program,
        texts[True].learnt,
        rank=_RANK,
        scale=_ALPHA / _RANK,
        layers=None,
        tables=True,
        of_a_step=1,
        seed=0,
    )
    vectors: dict[tuple[bool, int], VectorsOf] = {}
    marks = {int(mark) for mark in asked.curve.split(",") if mark}
    with tempfile.TemporaryDirectory() as folder:
        options = TrainOptions(asked.steps, learning_rate=asked.learning_rate)
        trainer = Trainer(learner, options, Path(folder), {})
        began = trainer.state
        for init, seed in wanted:
            rows = program.weights.load("embed")
            if init != _PRUNED:
                likeness = None
                if init in ("clp", "clp+", "focus"):
                    key = (init == "focus", seed)
                    if key not in vectors:
                        vectors[key] = train_vectors(fresh.engine, blocks, parts=key[0], seed=seed)
                    likeness = vectors[key]
                rows = new_rows(table, mixture(check_init(init), spelled, likeness), seed)
            here = texts[init == _PRUNED]
            start = dict(began.parameters)
            start["embed"] = jnp.asarray(rows)
            # A of every product is that of seed 0; by seed differ the order of texts, and drawn rows.
            state = RunState(0, start, began.optimiser)
            before = _bits(learner, start, here)
            clock = time.process_time()
            order = np.random.default_rng(seed).permutation(len(here.learnt))
            losses: list[float] = []
            curve = {0: round(before, 4)}
            for step in range(asked.steps):
                place = step % len(order)  # a short text is read again, in the same order
                batch = {**learner.batch(0), "tokens": jnp.asarray(here.learnt[order[place : place + 1]])}
                state, figures = trainer.after(state, batch)
                losses.append(float(figures["loss"]))
                if step + 1 in marks:
                    curve[step + 1] = round(_bits(learner, state.parameters, here), 4)
            yield {
                "init": init,
                "seed": seed,
                "before": round(before, 4),
                "after": round(_bits(learner, state.parameters, here), 4),
                "steps": asked.steps,
                "tokens": asked.steps * (_WINDOW - 1),
                "tokens_per_byte": round(int(here.count.sum()) / here.byte_count, 4),
                "tuning_cpu_s": round(time.process_time() - clock, 1),
                "curve": curve,
                "losses": [round(each, 3) for each in losses],
            }


def _pruned(source: Checkpoint, text: str, size: int) -> Checkpoint:
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text(text, encoding="utf-8")
        return prune_vocab(source, choose_tokens(source, PruneRequest(corpus=(corpus,), size=size)))


def _windows(engine: object, learnt: str, judged: str) -> Vocabulary:
    ids = np.array(engine.encode(learnt, add_special_tokens=False).ids, np.int32)
    windows = ids[: len(ids) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
    found = engine.encode(judged, add_special_tokens=False).ids
    step = _WINDOW - 1  # windows overlap by a token, so that every token but the very first is judged
    starts = range(0, len(found) - 1, step)
    pieces = [found[start : start + _WINDOW] for start in starts]
    filled = np.array([piece + [0] * (_WINDOW - len(piece)) for piece in pieces], np.int32)
    count = np.array([[i < len(piece) for i in range(1, _WINDOW)] for piece in pieces])
    size = len(judged.encode()) - len(engine.decode(found[:1]).encode())
    return Vocabulary(windows, filled, count, size)


def _bits(learner: AdapterLearner, parameters: dict[str, object], texts: Vocabulary) -> float:
    nats = learner.nats(parameters, texts.judged)
    return float(nats[texts.count].sum()) / math.log(2) / texts.byte_count


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _report(rows: list[dict[str, object]]) -> None:
    for init in dict.fromkeys(row["init"] for row in rows):
        some = [row for row in rows if row["init"] == init]
        shown = "  ".join(f"{key} {_interval([row[key] for row in some])}" for key in ("before", "after"))
        print(f"{init:<11} n {len(some)}  tokens/byte {some[0]['tokens_per_byte']}  bits/byte: {shown}")


def _plot(rows: list[dict[str, object]], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    inits = list(dict.fromkeys(row["init"] for row in rows))
    with matplotlib.rc_context({"svg.hashsalt": "edgesdk", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.5, 3.2), layout="constrained")
        axes = figure.subplots()
        for key, colour, shift in (("before", "tab:gray", -0.1), ("after", "tab:blue", 0.1)):
            places = [inits.index(row["init"]) + shift for row in rows]
            axes.scatter(places, [row[key] for row in rows], s=18, color=colour, label=key)
        axes.set_xticks(range(len(inits)), inits)
        axes.set_ylabel("bits per byte")
        axes.set_ylim(bottom=0)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _interval(values: list[float]) -> str:
    """Mean with a 95 % interval of Student's t."""
    t = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}.get(len(values))
    if t is None:
        return f"{statistics.mean(values):.3f}"
    return f"{statistics.mean(values):.3f} ± {t * statistics.stdev(values) / math.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    sys.exit(main())
