"""Stacks of six layers with chosen parts that add nothing, and texts for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights
from edgesdk_converters.transforms.skip_request import parse_skip


@pytest.fixture
def make_stack(make_program) -> Callable[..., Program]:
    """A random stack by the name of its spec; the parts in `inert` add nothing, those in `faint` little."""

    def make(inert: str = "", faint: str = "", name: str = "untied", layers: int = 6) -> Program:
        small = make_program(name)
        blocks = (
            dataclasses.replace(b, number=i) for i, b in enumerate((small.spec.blocks * layers)[:layers])
        )
        spec = dataclasses.replace(small.spec, blocks=tuple(blocks))
        graph = build_decoder(spec)
        shapes = {v.name: tuple(int(d) for d in v.shape) for v in graph.weights}
        base = type(small.weights)(shapes)
        changed = {}
        for text, factor in ((inert, 0.0), (faint, 0.02)):
            for half in parse_skip(text).halves if text else ():
                weight = f"layers.{half.layer}.{'o' if half.kind == 'attention' else 'down'}"
                changed[weight] = Derived(
                    shapes[weight], lambda b, w=weight, f=factor: b.load(w) * np.float32(f)
                )
        return Program(spec, graph, DerivedWeights(base, changed, frozenset()))

    return make


@pytest.fixture
def texts() -> list[np.ndarray]:
    """Six texts of 24 to 34 tokens."""
    random = np.random.default_rng(11)
    return [random.integers(0, 96, 24 + 2 * i).astype(np.int32) for i in range(6)]


@pytest.fixture
def spoken() -> Callable[[Program], list[np.ndarray]]:
    """Texts that a stack itself finds likeliest: whatever changes it, it loses."""

    def speak(program: Program) -> list[np.ndarray]:
        texts = [np.array([7 * i], np.int32) for i in range(6)]
        for _ in range(24):
            logits = sequence_logits(program, texts)
            texts = [
                np.append(text, rows[-1].argmax()).astype(np.int32)
                for text, rows in zip(texts, logits, strict=True)
            ]
        return texts

    return speak
