"""Chooses which tokens stay: by files, a language or a list, down to a size or a coverage.

Tokens are taken away one by one, always the least used one of those that no kept token is merged from;
its uses go to the two tokens that it falls into. So the choice is closed under merges at every step, and
a token that many removed ones fall into becomes hard to remove. What a sample never uses goes first, the
rarest (by the tokenizer's own order) before the others. It does not rewrite anything.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.vocabulary.count_tokens import count_tokens, read_blocks, token_scripts
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.language_words import language_samples
from edgesdk_converters.vocabulary.prune_request import PruneRequest
from edgesdk_converters.vocabulary.required_tokens import required_tokens
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData

_LANGUAGE_COVERAGE = 0.99
"""Of a word list, when neither size nor coverage is given: its tail is names and rarities."""

_PRIOR_BESIDE_WORDS = 0.5
"""Weight of the tokenizer's own order beside a word list, which has no punctuation, digits or code."""

_LETTERLESS_SHARE = 0.3
"""Of punctuation, digits, spaces and code beside the words of a list, by the tokenizer's own order."""

_PRIOR_BESIDE_TEXT = 0.2
"""The same beside a corpus: it smooths rare counts, and orders what the corpus never uses."""

_PRIOR_SHIFT = 100.0
_LIST_LIMIT_BYTES = 64 << 20


def choose_tokens(checkpoint: Checkpoint, request: PruneRequest) -> KeptTokens:
    """Chooses tokens.

    Args:
        checkpoint: whose vocabulary it is.
        request: what to keep.

    Returns:
        The choice, with everything that has to stay.

    Raises:
        UnsupportedOption: the request cannot be met, and why.
        TransformError: the tokenizer is of a kind that cannot be pruned.
        CheckpointError: the configuration is not that of a known architecture.
        MissingExtra: a language needs a package that is not installed.
    """
    data = TokenizerData(checkpoint.tokenizer.tokenizer_json)
    rows = read_spec(checkpoint.config).vocab_size
    present = {i for i in data.texts if i < rows}
    required = required_tokens(checkpoint, data) & present
    coverage: float | None = None
    if request.tokens is not None:
        kept = required | _closed(data, _listed(request.tokens, data, present))
    else:
        counts = _sample(request, data)
        scripts = {token: token_scripts(data.engine, token) for token in sorted(present)}
        prior = _prior(data, counts, scripts)
        if request.language is not None:
            counts += _LETTERLESS_SHARE * counts.sum() * _letterless(prior, scripts)
        uses = counts / counts.sum() + _prior_share(request, counts) * prior
        kept = _reduce(data, present, required, counts, uses, request)
        coverage = float(counts[sorted(kept)].sum() / counts.sum())
    return KeptTokens(
        old_ids=tuple(sorted(kept & present)),
        source_rows=rows,
        source_tokens=len(present),
        method=request.describe(),
        required=len(required),
        coverage=coverage,
        output_only=request.output_only,
    )


def _sample(request: PruneRequest, data: TokenizerData) -> NDArray[np.float64]:
    """Counts by id: (V,) float64, not all zero."""
    if request.language is not None:
        texts, weights = language_samples(request.language)
        return count_tokens(data.engine, texts, data.size, weights)
    counts = np.zeros(data.size, np.float64)
    for path in request.corpus:
        counts += count_tokens(data.engine, read_blocks(path), data.size)
    if not counts.any():
        raise UnsupportedOption(f"{', '.join(p.name for p in request.corpus)} is empty; expected text")
    return counts


def _prior_share(request: PruneRequest, counts: NDArray[np.float64]) -> float:
    if request.size is None:  # coverage is of the sample alone: no used token goes before an unused one
        return float(0.5 * counts[counts > 0].min() / counts.sum())
    return _PRIOR_BESIDE_TEXT if request.language is None else _PRIOR_BESIDE_WORDS


def _reduce(
    data: TokenizerData,
    present: set[int],
    required: set[int],
    counts: NDArray[np.float64],
    uses: NDArray[np.float64],
    request: PruneRequest,
) -> set[int]:
    """Takes tokens away until the request is met."""
    kept = set(present)
    if request.size is not None:
        if request.size < len(required):
            raise UnsupportedOption(
                f"prune-vocab has size={request.size}, but {len(required)} tokens have to stay "
                "(added tokens, bytes or characters, chat template); ask for more"
            )
        if request.size > len(present):
            raise UnsupportedOption(
                f"prune-vocab has size={request.size}, but the vocabulary has {len(present)} tokens; "
                "ask for less"
            )
    asked = request.coverage
    if asked is None:
        asked = _LANGUAGE_COVERAGE if request.language is not None else 1.0
    spare = counts.sum() * (1 - asked) * (1 + 1e-12)
    for token in _least_used(data, kept, required, uses):
        if request.size is not None and len(kept) <= request.size:
            break
        if request.size is None:
            spare -= counts[token]
            if spare < 0:
                break
        kept.discard(token)
    return kept


def _least_used(
    data: TokenizerData, kept: set[int], required: set[int], uses: NDArray[np.float64]
) -> Iterator[int]:
    """Tokens in the order in which they can go; taking the next one removes the one before."""
    uses = uses.copy()
    children = np.zeros(len(uses), np.int64)
    for token in kept:
        for parent in data.parents(token):
            children[parent] += 1
    queue = [(uses[t], -t) for t in kept if not children[t] and t not in required]
    heapq.heapify(queue)
    while queue:
        use, minus = heapq.heappop(queue)
        token = -minus
        if use < uses[token]:  # it has inherited since
            heapq.heappush(queue, (uses[token], minus))
            continue
        yield token
        for parent in data.parents(token):
            uses[parent] += uses[token]
            children[parent] -= 1
            if not children[parent] and parent not in required:
                heapq.heappush(queue, (uses[parent], -parent))


def _prior(
    data: TokenizerData, counts: NDArray[np.float64], scripts: Mapping[int, frozenset[str] | None]
) -> NDArray[np.float64]:
    """How common a token is by the tokenizer's own order, for the scripts that the sample writes in.

    Merges and SentencePiece's pieces are listed from the most to the least frequent of the training text.
    """
    order = sorted(scripts)
    if data.kind == "Unigram":
        scores = data.piece_scores()
        order.sort(key=lambda t: -scores[t] if t < len(scores) else 0.0)
    used: set[str] = set()
    for token in np.flatnonzero(counts).tolist():
        used |= scripts.get(token) or frozenset()
    prior = np.zeros(len(counts), np.float64)
    for rank, token in enumerate(order):
        written = scripts[token]
        foreign = written is None or not written <= used
        prior[token] = (1e-3 if foreign else 1.0) / (rank + _PRIOR_SHIFT)
    prior /= prior.sum()
    return prior


def _letterless(
    prior: NDArray[np.float64], scripts: Mapping[int, frozenset[str] | None]
) -> NDArray[np.float64]:
    """The part of the prior that is not words, which a word list cannot count; sums to 1."""
    part = np.zeros_like(prior)
    for token, written in scripts.items():
        if written is not None and not written:
            part[token] = prior[token]
    part /= max(float(part.sum()), 1e-12)
    return part


def _closed(data: TokenizerData, tokens: set[int]) -> set[int]:
    closed: set[int] = set()
    for token in tokens:
        closed |= data.ancestors(token)
    return closed


def _listed(path: Path, data: TokenizerData, present: set[int]) -> set[int]:
    """Ids of a JSON list of ids and token texts."""
    try:
        if path.stat().st_size > _LIST_LIMIT_BYTES:
            raise UnsupportedOption(
                f"{path} is larger than {_LIST_LIMIT_BYTES >> 20} MiB; it is no token list"
            )
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnsupportedOption(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UnsupportedOption(
            f"{path} is not JSON; expected a list of token ids and token texts"
        ) from error
    if not isinstance(entries, list) or not entries:
        raise UnsupportedOption(f"{path} holds no list; expected one of token ids and token texts")
    found: set[int] = set()
    for entry in entries:
        token = data.ids.get(entry) if isinstance(entry, str) else entry
        if isinstance(token, bool) or not isinstance(token, int) or token not in present:
            raise UnsupportedOption(f"{path} has {str(entry)[:60]!r}, which is no token of this vocabulary")
        found.add(token)
    return found
