"""A bundle of a tiny random decoder in both ONNX formats, written by the emitters."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.manifest import (
    SCHEMA_VERSION,
    GenerationDefaults,
    Manifest,
    Source,
    StepShape,
    TokenizerRecord,
    Variant,
)
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.bundle.writer import BundleWriter

CONTEXT = 48
STEPS = (StepShape(1, 48, 1, "t1_s48"), StepShape(4, 48, 4, "t4_s48"), StepShape(16, 48, 1, "t16_s48"))
ROTARY = RotarySpec("default", 10000.0, 16)
SPEC = UniformDecoder(
    architecture="tiny",
    vocab_size=64,
    hidden_size=32,
    ffn_size=64,
    heads=4,
    kv_heads=2,
    head_size=16,
    context=CONTEXT,
    layers=(LayerSpec(6, ROTARY), LayerSpec(None, ROTARY)),
    norm_eps=1e-5,
    activation="silu",
    attention_scale=0.25,
).spec()


@dataclass(frozen=True)
class OnnxBundle:
    """A bundle with the variants `resident` and `step`, a text, and the logits after each token."""

    bundle: Bundle
    tokens: NDArray[np.int32]
    logits: NDArray[np.float32]


class RandomWeights:
    """Normal numbers, small enough for logits of about 1."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = shapes

    def __iter__(self):
        return iter(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def load(self, name: str) -> NDArray[np.float32]:
        shape = self._shapes[name]
        values = np.random.default_rng(sum(name.encode())).standard_normal(shape) * shape[-1] ** -0.5
        return (1 + values if len(shape) == 1 else values).astype(np.float32)


@pytest.fixture(scope="session")
def onnx_bundle(tmp_path_factory: pytest.TempPathFactory) -> OnnxBundle:
    """The bundle; weights are float32, so that every backend must agree with the evaluator."""
    pytest.importorskip("onnx", reason="needs the extra 'convert'")
    from edgesdk_converters.emit.onnx.resident import emit_resident
    from edgesdk_converters.emit.onnx.step import emit_step
    from edgesdk_converters.graph.decoder import build_decoder
    from edgesdk_converters.graph.full_sequence import sequence_logits
    from edgesdk_converters.graph.program import Program
    from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
    from edgesdk_converters.quantise.recipe import find_recipe
    from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

    graph = build_decoder(SPEC)
    base = RandomWeights({v.name: tuple(int(d) for d in v.shape) for v in graph.weights})
    weights = QuantisedWeights(base, find_recipe("f32"))
    program = Program(SPEC, graph, weights)
    record = TokenizerRecord(1, (2,), False)
    files = TokenizerFiles('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', None, record)
    tokens = np.random.default_rng(2).integers(0, SPEC.vocab_size, 40).astype(np.int32)
    tokens[19] = 2  # the end token, which onnxruntime-genai would take for padding
    target = tmp_path_factory.mktemp("onnx") / "bundle"
    with BundleWriter(target) as writer:
        writer.path("tokenizer.json").write_text("{}", encoding="utf-8")
        resident: Path = writer.path("variants/resident/model.onnx").parent
        emit_resident(
            program, weights, resident, context=CONTEXT, tokenizer=files, generation=GenerationDefaults()
        )
        emit_step(program, weights, writer.path("variants/step/x").parent, STEPS, CONTEXT)
        variants = (
            Variant(
                "resident",
                "onnx-resident",
                "f32",
                ("cpu",),
                "variants/resident/model.onnx",
                CONTEXT,
                numbers="0" * 64,
            ),
            Variant(
                "step",
                "onnx-step",
                "f32",
                ("cpu",),
                "variants/step/t1_s48.onnx",
                CONTEXT,
                STEPS,
                numbers="0" * 64,
            ),
        )
        writer.finish(
            Manifest(
                schema_version=SCHEMA_VERSION,
                name="tiny",
                licence=None,
                created_by="edgesdk tests",
                source=Source("gguf", "tiny", ()),
                decoder=SPEC,
                tokenizer=record,
                generation=GenerationDefaults(),
                variants=variants,
                files={},
            )
        )
    return OnnxBundle(open_bundle(target), tokens, next(sequence_logits(program, [tokens])))


@dataclass(frozen=True)
class Done:
    """How a command ended: its status, and its last line."""

    code: int
    error: str


@pytest.fixture
def edgesdk_command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs a command of the command line in this process."""
    from edgesdk.cli.main import main

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "stdin", None)  # nothing is piped in
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        code = end.value.code
        return Done(code if isinstance(code, int) else 1, capfd.readouterr().err.splitlines()[-1])

    return run
