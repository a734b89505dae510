"""Instructions that a model is given so that it writes texts to learn from.

They are made from templates over topics (`seed_instructions.json`), written for edgesdk, under its licence,
and from passages that are given: those ask for summaries. The order is drawn once from a seed, so that a
longer list begins with a shorter one. Nothing here is asked by a benchmark of ours (a test compares), and no
German is in it: German is what drafts are judged on that were not trained for it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from edgesdk_converters.quantise.calibration.calibration_text import builtin_calibration

LICENCE = "Apache-2.0"
_FILE = "seed_instructions.json"
_SUMMARY = "summary"
_PASSAGE_DOMAINS = ("prose", "encyclopaedia", "howto")
_MOST_PASSAGE = 1200  # characters: about 300 tokens
_SHARES = {
    "ask": 0.26,
    "advice": 0.16,
    "story": 0.10,
    "poem": 0.03,
    "compare": 0.05,
    "code": 0.14,
    "query": 0.02,
    "fact": 0.07,
    "mail": 0.04,
    "sum": 0.02,
    _SUMMARY: 0.11,
}
"""How often a kind is asked."""


@dataclass(frozen=True)
class Instruction:
    """What a model is asked.

    Attributes:
        kind: of the task, as in the file; `summary` where a passage is part of it.
        text: of the user's message.
        turn: how often this one was asked before.
    """

    kind: str
    text: str
    turn: int


def shipped_passages() -> list[str]:
    """Passages of the shipped calibration sample, cut where they are long."""
    domains = [d for d in builtin_calibration().domains if d.name in _PASSAGE_DOMAINS]
    return [text[:_MOST_PASSAGE] for domain in domains for text in domain.documents]


def seed_digest() -> str:
    """sha256 of the templates and topics."""
    return hashlib.sha256(_text().encode()).hexdigest()


def instructions(seed: int, passages: Sequence[str]) -> Iterator[Instruction]:
    """Instructions without end, kinds mixed; each comes again only after all others of its kind.

    Args:
        seed: of the order.
        passages: texts to be summarised; none leaves summaries out.
    """
    kinds = _all_kinds(passages)
    random = np.random.default_rng(seed)
    queues = {kind: _queue(kind, kinds[kind], int(random.integers(1 << 31))) for kind in sorted(kinds)}
    names = sorted(kinds)
    shares = np.array([_SHARES[name] for name in names])
    while True:
        yield next(queues[names[int(random.choice(len(names), p=shares / shares.sum()))]])


def _queue(kind: str, texts: Sequence[str], seed: int) -> Iterator[Instruction]:
    order = np.random.default_rng(seed).permutation(len(texts))
    for turn in itertools.count():
        for index in order:
            yield Instruction(kind, texts[index], turn)


def _all_kinds(passages: Sequence[str]) -> dict[str, list[str]]:
    document = json.loads(_text())
    apart = set(document["kept_apart"])  # benchmarks and the proof of a conversion ask these
    kinds = {
        kind: [text for text in _filled(entry) if text not in apart]
        for kind, entry in document["kinds"].items()
    }
    if passages:
        kinds[_SUMMARY] = [each.replace("{x}", text) for each in document["passage"] for text in passages]
    return kinds


def _filled(entry: Mapping[str, list[str]]) -> list[str]:
    """Every template with every topic."""
    slots = itertools.product(entry["x"], entry.get("y", [""]))
    made = [
        t.replace("{x}", x).replace("{y}", y) for (x, y), t in itertools.product(slots, entry["templates"])
    ]
    return list(dict.fromkeys(made))


def _text() -> str:
    return (files("edgesdk_converters.training") / _FILE).read_text(encoding="utf-8")
