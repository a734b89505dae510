"""Damaged models before our own readers of them: ONNX, LiteRT, Core ML. No runtime opens any."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.check_onnx_file import OPERATORS, check_onnx_file
from edgesdk.backends.litert.check_litert_file import check_litert_file
from edgesdk.backends.litert.check_signature import LitertContract
from edgesdk.backends.litert.graph_operations import read_signature
from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from fuzz_targets.bundles import tiny_bundle
from fuzz_targets.damage import damaged, scratch

SPEC = UniformDecoder(
    architecture="tiny",
    vocab_size=32,
    hidden_size=16,
    ffn_size=16,
    heads=2,
    kv_heads=1,
    head_size=16,
    context=24,
    layers=(LayerSpec(None, RotarySpec("default", 10000.0, 16)),),
    norm_eps=1e-5,
    activation="silu",
    attention_scale=0.25,
).spec()
STEPS = (StepShape(1, 24, 1, "step_1"),)


@cache
def _onnx() -> tuple[bytes, dict[str, int]]:
    bundle = tiny_bundle()
    entry = bundle.file("variants/onnx-f32/model.onnx")
    return entry.read_bytes(), {p.name: p.stat().st_size for p in entry.parent.iterdir()}


def onnx_file(draw: random.Random) -> None:
    """What is taken is a message for the `onnx` package, too, and names nothing that is not listed."""
    import onnx
    from google.protobuf.message import DecodeError

    whole, beside = _onnx()
    data = damaged(draw, whole)
    path = scratch() / "model.onnx"
    path.write_bytes(data)
    check_onnx_file(path, beside)
    try:
        model = onnx.ModelProto.FromString(data)
    except (
        DecodeError
    ):  # types and texts are left to the runtime's parser, which refuses them as this one does
        return
    assert not model.functions
    assert not model.metadata_props
    assert all((node.domain.replace("ai.onnx", ""), node.op_type) in OPERATORS for node in model.graph.node)
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            end = int(entries.get("offset", "0")) + int(entries.get("length", "0"))
            assert end <= beside[entries["location"]]


@cache
def _program() -> tuple[Program, QuantisedWeights]:
    """A decoder of one layer: the fewer operators, the more inputs a second."""
    from edgesdk_converters.graph.decoder import build_decoder
    from edgesdk_converters.quantise.recipe import find_recipe

    graph = build_decoder(SPEC)
    base = RandomWeights({value.name: tuple(int(size) for size in value.shape) for value in graph.weights})
    weights = QuantisedWeights(base, find_recipe("w8-round"))
    return Program(SPEC, graph, weights), weights


class RandomWeights:
    """Normal numbers."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def load(self, name: str) -> NDArray[np.float32]:
        draw = np.random.default_rng(len(name))
        return draw.standard_normal(self._shapes[name]).astype(np.float32)


@cache
def _litert() -> tuple[bytes, LitertContract]:
    from edgesdk_converters.emit.litert.emit_litert import emit_litert

    path = scratch() / "whole.tflite"
    emit_litert(*_program(), path, STEPS, SPEC.context)
    return path.read_bytes(), LitertContract(main_stack(SPEC), STEPS, SPEC.vocab_size, SPEC.context)


def litert_file(draw: random.Random) -> None:
    """What is taken can be read by the schema's own classes as well."""
    whole, contract = _litert()
    path = scratch() / "model.tflite"
    # Weights make up most of the file, and damage there is only another number: hit the rest.
    head = whole[: 48 << 10]
    path.write_bytes(
        damaged(draw, head, 2) + whole[len(head) :] if draw.random() < 0.8 else damaged(draw, whole)
    )
    check_litert_file(path, contract)
    if draw.random() < 0.1:
        read_signature(path, contract.steps[0].signature)


@cache
def _package() -> tuple[Path, bytes, bytes]:
    from edgesdk.backends.coreml.mil_program import MODEL_PATH, WEIGHTS_PATH
    from edgesdk_converters.emit.coreml.emit_coreml import emit_coreml

    package = scratch() / "model.mlpackage"
    emit_coreml(*_program(), package, STEPS, SPEC.context, "cells")
    return package, (package / MODEL_PATH).read_bytes(), (package / WEIGHTS_PATH).read_bytes()


def core_ml_package(draw: random.Random) -> None:
    """A damaged program or weight file before the interpreter, which checks it whole."""
    from edgesdk.backends.coreml.interpreter import MilInterpreter
    from edgesdk.backends.coreml.mil_program import MODEL_PATH, WEIGHTS_PATH

    package, program, weights = _package()
    hit = draw.random() < 0.7
    for name, data, damage in ((MODEL_PATH, program, hit), (WEIGHTS_PATH, weights, not hit)):
        path = package / name
        path.unlink(missing_ok=True)  # the file before may still be mapped
        path.write_bytes(damaged(draw, data) if damage else data)
    MilInterpreter(package)


TARGETS = {"ONNX file": onnx_file, "LiteRT file": litert_file, "Core ML package": core_ml_package}
