"""The float32 evaluator of a source, for `edgesdk eval`; the converters are imported when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgesdk.cli.convert import converters_installed
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.bundle.manifest import Manifest
    from edgesdk.evaluation.evaluate_text import Scorer


def open_reference(source: str, manifest: Manifest) -> Scorer:
    """Opens a source and keeps its weights in memory once they are read.

    Args:
        source: whatever `convert` takes.
        manifest: of the bundle that is compared with it.

    Returns:
        A function from token ids to float32 logits.

    Raises:
        CheckpointError: the source cannot be read.
        UnsupportedOption: its vocabulary is not that of the bundle.
        MissingExtra: a package of the `convert` extra is missing.
    """
    with converters_installed():
        from converters.architectures.registry import read_spec, weights_for
        from converters.checkpoints.open_checkpoint import open_checkpoint
        from converters.graph.decoder import build_decoder
        from converters.graph.full_sequence import sequence_logits
        from converters.graph.program import Program
        from converters.graph.weights import ResidentWeights

        checkpoint = open_checkpoint(source)
        spec = read_spec(checkpoint.config)
        if spec.vocab_size != manifest.decoder.vocab_size:
            raise UnsupportedOption(
                f"{source} has {spec.vocab_size} words, {manifest.name} has {manifest.decoder.vocab_size}; "
                "give the source that the bundle was made from"
            )
        weights = ResidentWeights(weights_for(checkpoint, spec))
    program = Program(spec, build_decoder(spec), weights)
    return lambda window: next(sequence_logits(program, [window]))
