"""Drafts with random weights for tiny models: nothing that they guess is right, which no answer may show."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
)
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program

TINY = Path(__file__).parent.parent.parent / "data" / "tiny"


@pytest.fixture(scope="session")
def make_draft():
    """A draft for one of the tiny checkpoints, which folds the token in strongly enough to matter."""

    def make(name, layers=2, **target):
        checkpoint = open_checkpoint(str(TINY / name))
        spec = read_spec(checkpoint.config)
        about = DraftTarget(
            spec.architecture, spec.vocab_size, spec.hidden_size, tokenizer_digest(checkpoint.tokenizer), name
        )
        config = DraftConfig(
            spec.hidden_size, 96, layers, 4, spec.norm_eps, dataclasses.replace(about, **target)
        )
        random = np.random.default_rng(layers)
        tensors = {
            key: (
                1 + 0.2 * random.standard_normal(shape)
                if len(shape) == 1
                else random.standard_normal(shape) / 8
            )
            for key, shape in config.shapes.items()
        }
        tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
        return DraftCheckpoint(config, tensors, np.arange(2, spec.vocab_size, 3, dtype=np.int32))

    return make


@pytest.fixture(scope="session")
def tiny_program():
    """A tiny checkpoint as a program, and its tokenizer."""

    def read(name):
        checkpoint = open_checkpoint(str(TINY / name))
        spec = read_spec(checkpoint.config)
        return Program(spec, build_decoder(spec), weights_for(checkpoint, spec)), checkpoint.tokenizer

    return read


def silu(x):
    return x / (1 + np.exp(-x))


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


@pytest.fixture(scope="session")
def reference():
    """The draft by its definition."""
    return by_definition


def by_definition(draft, program, tokens, state):
    """The draft by its definition, in float64: logits (n, V') and states (n, E) after tokens (n,)."""
    spec, t = program.spec, {k: v.astype(np.float64) for k, v in draft.tensors.items()}
    table = program.weights.load("embed").astype(np.float64)
    head = program.weights.load("embed" if spec.tied_head else "head").astype(np.float64)[draft.vocabulary]
    eps, s = draft.config.norm_eps, state.astype(np.float64)
    e = table[tokens] * spec.embedding_scale
    x = np.concatenate([norm(s, t["norm_s.weight"], eps), norm(e, t["norm_e.weight"], eps)], axis=-1)
    for layer in range(draft.config.layers):
        at = f"layers.{layer}"
        if layer:
            x = norm(s, t[f"{at}.norm.weight"], eps)
        gated = silu(x @ t[f"{at}.gate.weight"].T) * (x @ t[f"{at}.up.weight"].T)
        s = s + gated @ t[f"{at}.down.weight"].T
    return norm(s, t["norm_o.weight"], eps) @ head.T, s
