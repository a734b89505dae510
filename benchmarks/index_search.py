"""The index of texts beside a public BM25: what it finds, how fast it is built and searched.

    pip install bm25s PyStemmer && python benchmarks/index_search.py [--passages N] [--questions N] [--json]

The texts are the sources and documents of this Python and its packages, cut into passages, the same for both.
A question is three words of one passage, drawn with a seed: that passage is the one to be found, and
recall@10 is the share of questions for which it is among the first ten. Of exact doubles one is kept.
The peer stems with the Porter stemmer of PyStemmer, as FTS5 does, and keeps its index in memory.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgesdk.retrieval.read_text import Text
from edgesdk.retrieval.split_passages import split_passages
from edgesdk.retrieval.text_index import make_index

_WORD = re.compile(r"[^\W\d_]{3,}")
_FOUND = 10


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    passages = list(_passages(asked.passages))
    questions = _questions(passages, asked.questions)
    figures = {"passages": len(passages), "questions": len(questions)}
    with tempfile.TemporaryDirectory() as folder:
        figures["edgesdk"] = _ours(Path(folder), passages, questions)
    figures["bm25s"] = _peers(passages, questions)
    print(json.dumps(figures, indent=None if asked.json else 2))
    return 0


def _passages(most: int) -> Iterator[str]:
    seen: set[str] = set()
    roots = [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")]
    files = sorted(
        {p for root in roots for kind in ("py", "md", "rst", "txt") for p in Path(root).rglob(f"*.{kind}")}
    )
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) > 1_000_000:
            continue
        for piece in split_passages(Text(file.stem, text)):
            key = " ".join(piece.text.split())
            if key not in seen and len(set(_WORD.findall(key.lower()))) >= 12:
                seen.add(key)
                yield key
                if len(seen) == most:
                    return
    print(f"only {len(seen)} passages are at hand", file=sys.stderr)


def _questions(passages: Sequence[str], count: int) -> list[tuple[str, int]]:
    chance = random.Random(0)
    questions = []
    for place in chance.sample(range(len(passages)), count):
        words = sorted(set(_WORD.findall(passages[place].lower())))
        questions.append((" ".join(chance.sample(words, 3)), place))
    return questions


def _ours(folder: Path, passages: Sequence[str], questions: Sequence[tuple[str, int]]) -> dict[str, float]:
    # Each passage a file of its own, which is the slowest way to be given them.
    texts = folder / "texts"
    texts.mkdir()
    for place, passage in enumerate(passages):
        (texts / f"{place:06}.txt").write_text(passage, encoding="utf-8")
    with make_index(folder / "index") as index:
        began, used = time.perf_counter(), time.process_time()
        report = index.add([texts])
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        found, times = 0, []
        for question, place in questions:
            began = time.perf_counter()
            got = index.search(question, top=_FOUND)
            times.append(time.perf_counter() - began)
            found += any(int(p.path.stem) == place for p in got)
        size = index.stats().size_bytes
    return _figures(found, times, report.passages / wall, report.passages / cpu) | {"size_mb": size / 1e6}


def _peers(passages: Sequence[str], questions: Sequence[tuple[str, int]]) -> dict[str, float]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("porter")
    began, used = time.perf_counter(), time.process_time()
    index = bm25s.BM25()
    # Words as FTS5 has them, and none left out.
    options = {"stemmer": stemmer, "stopwords": None, "token_pattern": r"[^\W_]+", "show_progress": False}
    index.index(bm25s.tokenize(list(passages), **options), show_progress=False)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    found, times = 0, []
    for question, place in questions:
        began = time.perf_counter()
        tokens = bm25s.tokenize([question], **options)
        got, _ = index.retrieve(tokens, k=_FOUND, show_progress=False)
        times.append(time.perf_counter() - began)
        found += place in got[0]
    return _figures(found, times, len(passages) / wall, len(passages) / cpu)


def _figures(found: int, times: Sequence[float], a_second: float, cpu_second: float) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    return {
        "recall_at_10": found / len(times),
        "search_p50_ms": float(p50),
        "search_p99_ms": float(p99),
        "built_passages_a_second": a_second,
        "built_passages_a_cpu_second": cpu_second,
    }


if __name__ == "__main__":
    sys.exit(main())
