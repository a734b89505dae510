"""States of texts by a bundle: those of the evaluator."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs the extra 'train'")

from edgesdk_converters.architectures.read_program import read_program  # noqa: E402
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint  # noqa: E402
from edgesdk_converters.training.frozen_target import FrozenTarget  # noqa: E402
from edgesdk_converters.training.running_target import RunningTarget  # noqa: E402

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"


def test_a_bundle_reads_texts_as_the_evaluator_does(converted_once):
    program = read_program(open_checkpoint(str(TINY)))
    spec = program.spec
    bundle = converted_once(TINY, targets=("litert",), recipes=("f32",), context=256, embeddings=True)
    random = np.random.default_rng(3)
    texts = [random.integers(0, spec.vocab_size, n).astype(np.int32) for n in (5, 130, 1, 64)]
    with closing(RunningTarget(lambda: bundle, program, 1)) as target:
        assert target.most_tokens == 256
        found = target.states(texts)
    untouched = RunningTarget(lambda: pytest.fail("nothing was asked"), program, 1)
    assert (untouched.most_tokens, untouched.hidden_size) == (256, spec.hidden_size)
    untouched.close()
    for ours, theirs in zip(found, FrozenTarget(program, 256).states(texts), strict=True):
        np.testing.assert_allclose(ours.hidden, theirs.hidden, atol=1e-3)
        np.testing.assert_allclose(ours.log_z, theirs.log_z, atol=1e-4)
