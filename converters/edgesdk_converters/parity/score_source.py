"""The float32 evaluator of a source as a function from tokens to logits, for texts of the caller's own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.id_map import read_id_map
from edgesdk.bundle.manifest import ID_MAP_NAME
from edgesdk.bundle.reader import Bundle
from edgesdk.errors import UnsupportedOption
from edgesdk.evaluation.evaluate_text import Scorer
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens
from edgesdk_converters.vocabulary.prune_vocab import prune_vocab


def score_source(source: str, bundle: Bundle, revision: str | None = None) -> Scorer:
    """Opens a source and keeps its weights in memory once they are read.

    Args:
        source: whatever `convert` takes.
        bundle: what is compared with it; a source is pruned to its vocabulary.
        revision: commit, branch or tag, for a hub id.

    Returns:
        A function from token ids to float32 logits.

    Raises:
        CheckpointError: the source cannot be read.
        UnsupportedOption: its vocabulary is not that of the bundle.
    """
    manifest = bundle.manifest
    if manifest.vocabulary is not None and manifest.vocabulary.output_only:
        raise UnsupportedOption(
            f"{manifest.name} writes {manifest.vocabulary.tokens} tokens only, so its logits are not "
            "those of its source; leave out the reference"
        )
    checkpoint = open_checkpoint(source, revision=revision)
    if manifest.vocabulary is not None:
        id_map = read_id_map(bundle.file(ID_MAP_NAME))
        checkpoint = prune_vocab(checkpoint, KeptTokens.from_bundle(id_map, manifest.vocabulary))
    spec = read_spec(checkpoint.config)
    if spec.vocab_size != manifest.decoder.vocab_size:
        raise UnsupportedOption(
            f"{source} has {spec.vocab_size} words, {manifest.name} has {manifest.decoder.vocab_size}; "
            "give the source that the bundle was made from"
        )
    program = Program(spec, build_decoder(spec), ResidentWeights(weights_for(checkpoint, spec)))

    def logits(window: NDArray[np.int32]) -> NDArray[np.float32]:
        return next(sequence_logits(program, [window]))

    return logits
