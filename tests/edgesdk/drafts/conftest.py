"""Requests for drafts, and second models over the fake backend."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.decoding.draft import DraftRequest
from edgesdk.kv.step_runner import StepRunner


@pytest.fixture
def ask():
    """`ask(tokens, key=1, most=8, deepest=8, prompt=0)`: one answer that asks for a draft."""

    def make(tokens, key=1, most=8, deepest=8, prompt=0):
        return DraftRequest(key, np.array(tokens, np.int32), most, deepest, prompt)

    return make


@pytest.fixture
def second_model():
    """`second_model(..)`: a fake backend and a runner over it."""

    def make(vocab_size=50, context=64, capacity=None, tokens=(1, 4, 16), script=None):
        spec = UniformDecoder(
            architecture="llama",
            vocab_size=vocab_size,
            hidden_size=8,
            ffn_size=8,
            heads=2,
            kv_heads=1,
            head_size=3,
            context=context,
            layers=(LayerSpec(None, None),) * 2,
            norm_eps=1e-5,
            activation="silu",
            attention_scale=1.0,
        ).spec()
        shapes = [StepShape(T, S, T, f"t{T}_s{S}") for T in tokens for S in (context // 2, context)]
        backend = FakeStepBackend(spec, shapes, script=script)
        return backend, StepRunner(backend, spec, context, capacity, free_windows=False)

    return make
