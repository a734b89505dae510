"""Embeddings in the index beside the very model's own pipeline, sentence-transformers, on the same passages.

    pip install sentence-transformers && python benchmarks/index_embeddings.py ENCODER CHECKPOINT [--json]

CHECKPOINT is a model as sentence-transformers has it, ENCODER the same one with its ONNX file. Passages are
Python's own reference (`pydoc_data.topics`); a question is the first sentence of a passage, which is taken
out of it, and that passage is the one to be found (the inverse cloze task of Lee et al., ORQA). Recall@10 of
words alone, of words ranked by vectors, which is what an index does, and of vectors alone by both pipelines;
how much their vectors differ; and the processor time of both for one text, one thread each, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgesdk.retrieval.read_text import Text
from edgesdk.retrieval.split_passages import split_passages
from edgesdk.retrieval.text_index import make_index, open_index
from edgesdk.vectors.encoder import open_encoder

_SENTENCE = re.compile(r"^\s*(\S[^.!?:]{30,200}[.!?])\s+(?=\S)")
_FOUND = 10
_ROUNDS = 3
_TIMED = 48


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoder", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    peer = SentenceTransformer(str(asked.checkpoint), device="cpu")
    passages, questions = _passages()
    texts = [text for text, _ in questions]
    places = [place for _, place in questions]

    def peer_vectors(given: list[str]) -> np.ndarray:
        return peer.encode(given, normalize_embeddings=True, batch_size=16, show_progress_bar=False)

    with open_encoder(asked.encoder, threads=1) as encoder, tempfile.TemporaryDirectory() as folder:
        ours, theirs = encoder.embed(passages), peer_vectors(passages)
        asked_ours, asked_theirs = encoder.embed(texts), peer_vectors(texts)
        words, ranked = _by_index(Path(folder), encoder, passages, texts)
        figures = {
            "passages": len(passages),
            "questions": len(questions),
            "recall_at_10": {
                "words": _recall(words, places),
                "words ranked by vectors": _recall(ranked, places),
                "vectors": _recall(_nearest(asked_ours, ours), places),
                "vectors of sentence-transformers": _recall(_nearest(asked_theirs, theirs), places),
            },
            "first": {
                "words": _recall([each[:1] for each in words], places),
                "words ranked by vectors": _recall([each[:1] for each in ranked], places),
                "vectors of sentence-transformers": _recall(_nearest(asked_theirs, theirs)[:, :1], places),
            },
            "least_cosine": float((ours * theirs).sum(axis=1).min()),
            "largest_difference": float(np.abs(ours - theirs).max()),
            "ms_a_passage": _times(
                lambda: encoder.embed(passages[:_TIMED]), lambda: peer_vectors(passages[:_TIMED])
            ),
        }
    print(json.dumps(figures, indent=None if asked.json else 1))
    return 0


def _passages() -> tuple[list[str], list[tuple[str, int]]]:
    """Passages, and questions with the place of theirs."""
    from pydoc_data.topics import topics

    passages: list[str] = []
    questions: list[tuple[str, int]] = []
    for title, text in sorted(topics.items()):
        for piece in split_passages(Text(title, text)):
            found = _SENTENCE.match(piece.text)
            rest = piece.text if found is None else piece.text[found.end() :]
            if len(rest.split()) < 20:
                continue
            if found is not None:
                questions.append((" ".join(found.group(1).split()), len(passages)))
            passages.append(" ".join(rest.split()))
    return passages, questions


def _by_index(folder: Path, encoder, passages, texts) -> tuple[list[list[int]], list[list[int]]]:
    notes = folder / "texts"
    notes.mkdir()
    for place, passage in enumerate(passages):
        (notes / f"{place:06}.txt").write_text(passage, encoding="utf-8")
    with make_index(folder / "index", embedder=encoder) as index:
        index.add([notes])
        ranked = [[int(p.path.stem) for p in index.search(text, top=_FOUND)] for text in texts]
    with open_index(folder / "index") as index:
        words = [[int(p.path.stem) for p in index.search(text, top=_FOUND)] for text in texts]
    return words, ranked


def _nearest(asked: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :_FOUND]


def _recall(found, places: list[int]) -> float:
    return float(np.mean([place in list(each) for each, place in zip(found, places, strict=True)]))


def _times(ours, theirs, passages: list[str]) -> dict[str, float]:
    times: dict[str, list[float]] = {"edgesdk": [], "sentence-transformers": []}
    for _ in range(_ROUNDS):
        for name, run in (("edgesdk", ours), ("sentence-transformers", theirs)):
            began = time.process_time()
            run(passages)
            times[name].append(1e3 * (time.process_time() - began) / _TIMED)
    return {name: float(np.median(each)) for name, each in times.items()}


if __name__ == "__main__":
    sys.exit(main())
