"""Prunes a checkpoint's vocabulary: fewer rows of embedding and head, a tokenizer and ids to match.

It comes before everything else in a conversion, because it changes what a token id means: the decoder,
its transforms, recipes and targets see a checkpoint with a smaller vocabulary and nothing more (papers:
PAPERS.md, section 8).
"""

from __future__ import annotations

import dataclasses

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import TransformError
from edgesdk_converters.architectures.registry import find_architecture, read_spec
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.pruned_tensors import PrunedTensors
from edgesdk_converters.vocabulary.required_tokens import remap_ids
from edgesdk_converters.vocabulary.rewrite_tokenizer import rewrite_tokenizer
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData


def prune_vocab(checkpoint: Checkpoint, choice: KeptTokens) -> Checkpoint:
    """Returns the checkpoint with only the chosen tokens; reads no weights yet.

    Args:
        checkpoint: with the full vocabulary.
        choice: which tokens stay.

    Returns:
        A checkpoint whose logits of a kept token are those of the full model, bit for bit in float32.

    Raises:
        TransformError: the choice is for another vocabulary, or lacks a token that has to stay.
        CheckpointError: the configuration is not that of a known architecture.
    """
    spec = read_spec(checkpoint.config)
    if spec.vocab_size != choice.source_rows:
        raise TransformError(
            f"the choice is for {choice.source_rows} rows, the checkpoint has {spec.vocab_size}; choose again"
        )
    names = find_architecture(spec.architecture).names[checkpoint.dialect].tensors
    tables = (names[key] for key in ("embed", "head", "layer_inputs.embed") if key in names)
    pruned = frozenset(name for name in tables if name in checkpoint.tensors)
    config: dict[str, JsonValue] = remap_ids(checkpoint.config, choice.new_ids)
    config["vocab_size"] = len(choice.old_ids)
    if spec.layer_inputs is not None:
        config["vocab_size_per_layer_input"] = len(choice.old_ids)
    return dataclasses.replace(
        checkpoint,
        config=config,
        tensors=PrunedTensors(checkpoint.tensors, pruned, choice.rows),
        tokenizer=_tokenizer(checkpoint.tokenizer, choice),
    )


def _tokenizer(files: TokenizerFiles, choice: KeptTokens) -> TokenizerFiles:
    new_ids, record = choice.new_ids, files.record
    for old in (record.bos_id, *record.eos_ids):
        if old is not None and old not in new_ids:
            raise TransformError(f"the choice lacks the token {old}, which begins or ends texts; keep it")
    return dataclasses.replace(
        files,
        tokenizer_json=rewrite_tokenizer(TokenizerData(files.tokenizer_json), choice),
        record=dataclasses.replace(
            record,
            bos_id=None if record.bos_id is None else new_ids[record.bos_id],
            eos_ids=tuple(new_ids[old] for old in record.eos_ids),
        ),
    )
