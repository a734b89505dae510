"""What a pruned vocabulary costs on texts that did not choose it, and what it saves.

Every text is encoded by both tokenizers, line by line. The predicted gain of decoding assumes what bounds
it on a processor: each step reads every weight once, the head among them, and the embedding table only
where it is tied to the head. Nothing is run; `edgesdk bench` measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.manifest import VocabularyRecord
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.vocabulary.count_tokens import read_blocks
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.tokenizer_data import load_engine


@dataclass(frozen=True)
class TextCoverage:
    """One text under both vocabularies.

    Attributes:
        name: of the text.
        bytes: of its UTF-8.
        lines: that are not empty.
        tokens_before: with the full vocabulary.
        tokens_after: with the pruned one.
        tokens_per_byte_before: the first over the bytes.
        tokens_per_byte_after: the second over the bytes.
        ratio: tokens after over tokens before.
        changed_lines: share of the lines whose tokens are no longer the same.
        round_trips: whether every line decodes to what the full tokenizer decodes it to.
    """

    name: str
    bytes: int
    lines: int
    tokens_before: int
    tokens_after: int
    tokens_per_byte_before: float
    tokens_per_byte_after: float
    ratio: float
    changed_lines: float
    round_trips: bool


@dataclass(frozen=True)
class Savings:
    """Weights before and after, counted in parameters so that they hold for every recipe.

    Attributes:
        head_before: parameters of the head.
        head_after: the same, pruned.
        tables_before: parameters of embedding table and head; a tied table counts once.
        tables_after: the same, pruned.
        model_before: parameters of the model.
        model_after: the same, pruned.
        decode_before: parameters that a decoding step reads.
        decode_after: the same, pruned.
        predicted_step_speedup: steps per second after over before.
    """

    head_before: int
    head_after: int
    tables_before: int
    tables_after: int
    model_before: int
    model_after: int
    decode_before: int
    decode_after: int
    predicted_step_speedup: float


@dataclass(frozen=True)
class CoverageReport:
    """A choice of tokens, judged.

    Attributes:
        checkpoint: its name.
        vocabulary: what was chosen.
        required: tokens that stay whatever is chosen.
        savings: in weights.
        texts: one entry a text.
    """

    checkpoint: str
    vocabulary: VocabularyRecord
    required: int
    savings: Savings
    texts: tuple[TextCoverage, ...]


def report_coverage(
    full: Checkpoint, pruned: Checkpoint, choice: KeptTokens, texts: tuple[Path, ...]
) -> CoverageReport:
    """Judges a choice.

    Args:
        full: the checkpoint.
        pruned: what `prune_vocab` made of it.
        choice: the choice.
        texts: UTF-8 files, one for each domain or language; not those that chose.

    Raises:
        UnsupportedOption: a text cannot be read or is empty.
    """
    return CoverageReport(
        checkpoint=full.name,
        vocabulary=choice.record(),
        required=choice.required,
        savings=_savings(full, pruned, output_only=choice.output_only),
        texts=tuple(_compare(full, pruned, choice, path) for path in texts),
    )


def _compare(full: Checkpoint, pruned: Checkpoint, choice: KeptTokens, path: Path) -> TextCoverage:
    before = load_engine(full.tokenizer.tokenizer_json)
    after = load_engine(pruned.tokenizer.tokenizer_json)
    size = lines = changed = old_count = new_count = 0
    same_text = True
    for block in read_blocks(path):
        size += len(block.encode())
        parts = [line for line in block.splitlines(keepends=True) if line.strip()]
        old = before.encode_batch_fast(parts, add_special_tokens=False)
        new = after.encode_batch_fast(parts, add_special_tokens=False)
        for first, second in zip(old, new, strict=True):
            back = [choice.old_ids[i] for i in second.ids]
            lines += 1
            old_count += len(first.ids)
            new_count += len(back)
            if back != first.ids:
                changed += 1
                same_text &= before.decode(first.ids) == after.decode(second.ids)
    if not old_count:
        raise UnsupportedOption(f"{path} is empty; expected text")
    return TextCoverage(
        name=path.name,
        bytes=size,
        lines=lines,
        tokens_before=old_count,
        tokens_after=new_count,
        tokens_per_byte_before=old_count / size,
        tokens_per_byte_after=new_count / size,
        ratio=new_count / old_count,
        changed_lines=changed / lines,
        round_trips=same_text,
    )


def _savings(full: Checkpoint, pruned: Checkpoint, *, output_only: bool) -> Savings:
    before, after = _parameters(full), _parameters(pruned)
    if output_only:
        # The head becomes a matrix of its own; the table for input stays, and is only looked up.
        head, table = after[0], before[0]
        others = before[2] - before[1]
        after = (head, table + head, others + table + head, others + head)
    return Savings(
        head_before=before[0],
        head_after=after[0],
        tables_before=before[1],
        tables_after=after[1],
        model_before=before[2],
        model_after=after[2],
        decode_before=before[3],
        decode_after=after[3],
        predicted_step_speedup=before[3] / after[3],
    )


def _parameters(checkpoint: Checkpoint) -> tuple[int, int, int, int]:
    """Of the head, of both tables, of the model, and those that one decoding step reads."""
    spec = read_spec(checkpoint.config)
    weights = weights_for(checkpoint, spec)
    table = spec.vocab_size * spec.hidden_size
    model = sum(math.prod(weights.shape(name)) for name in weights)
    tables = table if spec.tied_head else 2 * table
    return table, tables, model, model - (tables - table)
