"""What the target says of texts: by its bundle, in the work folder, for whatever learns from it."""

from __future__ import annotations

from contextlib import closing

from edgesdk_converters.progress import ProgressMeter
from edgesdk_converters.training.features import Features, collect_features
from edgesdk_converters.training.learning_texts import LearningData
from edgesdk_converters.training.running_target import RunningTarget
from edgesdk_converters.training.work_folder import TrainingTarget, target_origin, tell_tokens

READ = "the target has read {} tokens"
_AS = "as its bundle says"  # other states than the evaluator's, and not mixed with them


def read_texts_by_bundle(
    target: TrainingTarget, data: LearningData, threads: int | None, meter: ProgressMeter
) -> Features:
    """States and log Z of all texts; the same for a draft and for streams, which may share a work folder.

    Args:
        target: whose bundle reads.
        data: the texts.
        threads: of the bundle.
        meter: told how many tokens are read.

    Raises:
        CheckpointError: the folder holds other features.
        EdgeError: the bundle cannot be made or loaded, or the backend failed.
        OSError: a file cannot be written; what was whole before is still.
    """
    origin = f"{target_origin(target.checkpoint, target.program)} {_AS}"
    bundle = RunningTarget(lambda: target.bundle("reader", states=True), target.program, threads)
    with closing(bundle):
        say = tell_tokens(meter, READ)
        return collect_features(bundle, data.texts, target.work / "features", origin, say)
