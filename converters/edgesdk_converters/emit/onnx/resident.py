"""Emits a model with dynamic shapes that keeps its cache on the device: the `resident` variant.

For ONNX Runtime's own kernels: GroupQueryAttention with the cache updated in place, MatMulNBits,
GatherBlockQuantized. The folder is also one that onnxruntime-genai loads as it stands.

The model gives the logits of every new token, as onnxruntime-genai expects. Callers who want fewer
set the optional input `logits_from`, e.g. to -1 for those after the last token; the head is then
computed for those rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgesdk.bundle.adapter_record import AdapterRecord
from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.bundle.stack_record import GATES
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.genai_files import genai_files
from edgesdk_converters.emit.onnx.matrices import kernel_block
from edgesdk_converters.emit.onnx.model_file import ExternalData, OnnxModel
from edgesdk_converters.emit.onnx.resident_adapters import check_terms, inner_outputs, write_adapters
from edgesdk_converters.emit.onnx.resident_attention import HEAD_MULTIPLE, lower_lengths
from edgesdk_converters.emit.onnx.resident_lowering import LOGITS_FROM, LOWERINGS, lower_node
from edgesdk_converters.emit.onnx.resident_state import ResidentLowering
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.program_contract import refuse_convolutions, refuse_further_ports
from edgesdk_converters.quantise.activation_rule import FEW_TOKENS
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

MODEL_NAME = "model.onnx"
DATA_NAME = "model.onnx.data"


def emit_resident(
    program: Program,
    weights: QuantisedWeights,
    folder: Path,
    *,
    context: int,
    tokenizer: TokenizerFiles,
    generation: GenerationDefaults,
    adapters: Sequence[AdapterRecord] = (),
    accuracy_level: int = 4,
) -> None:
    """Writes `model.onnx`, `model.onnx.data`, `genai_config.json`, the tokenizer's files and adapters.

    Args:
        program: the decoder.
        weights: its weights under a recipe.
        folder: an existing folder.
        context: most tokens of a sequence; the rotary tables are as long.
        tokenizer: for onnxruntime-genai.
        generation: recommended sampling, for onnxruntime-genai.
        adapters: what the gates of the program stand for; each becomes a file.
        accuracy_level: what MatMulNBits may do with activations: 0 keeps float32, 4 quantises them to
            int8 per block, which is several times as fast.

    Raises:
        EmitError: the target cannot express the program; nothing has been written.
        MissingExtra: the package `onnx` is not installed, or onnxruntime, which writes adapters.
    """
    check_resident(program, weights)
    beside = genai_files(MODEL_NAME, program.spec, context, tokenizer, generation)
    with ExternalData(folder / DATA_NAME) as data:
        model = OnnxModel(f"{program.spec.architecture} {weights.recipe.name}", data)
        state = _lower(program, weights, model, context, accuracy_level)
        model.save(folder / MODEL_NAME)
    if adapters:
        write_adapters(state.adapter_inputs, weights, folder, adapters)
    for name, text in beside.items():
        (folder / name).write_text(text, encoding="utf-8")


def check_resident(program: Program, weights: QuantisedWeights) -> None:
    """Refuses what cannot be emitted, reading no weight.

    Raises:
        EmitError: naming the operation, the size or the output.
    """
    check_decoder(program)
    check_terms(program, weights)
    for value in program.graph.weights:
        scheme = weights.scheme(value.name)
        if scheme is not None and scheme.bits not in (4, 8):
            raise EmitError(f"MatMulNBits takes 4 or 8 bits, {value.name!r} has {scheme.bits}")
        if scheme is not None and weights.recipe.has_exact_products:
            _check_exact(weights, value.name)


def check_decoder(program: Program) -> None:
    """Refuses what no recipe makes fit.

    Raises:
        EmitError: naming the operation, the size or the output.
    """
    spec = program.spec
    refuse_convolutions(program, "the target onnx")
    refuse_further_ports(program, "the target onnx", but=(GATES,))
    for node in program.graph.nodes:
        if type(node.op) not in LOWERINGS:
            raise EmitError(f"the ONNX resident emitter has no lowering for {type(node.op).__name__}")
    if not spec.is_uniform:
        raise EmitError(
            f"{spec.architecture} has {spec.describe_layers()}, GroupQueryAttention takes "
            "one size, and cells of the layer itself; emit the step variant instead"
        )
    if spec.uniform.head_size % HEAD_MULTIPLE:
        raise EmitError(
            f"{spec.architecture} has heads of {spec.uniform.head_size} channels, GroupQueryAttention takes "
            f"multiples of {HEAD_MULTIPLE}; emit the step variant instead"
        )


def _check_exact(weights: QuantisedWeights, name: str) -> None:
    """Refuses exact activations that one graph for steps of all sizes cannot give."""
    recipe, scheme, columns = weights.recipe, weights.scheme(name), weights.shape(name)[1]
    exact = {recipe.exact(name, tokens) for tokens in (1, FEW_TOKENS, FEW_TOKENS + 1)}
    if len(exact) > 1:
        raise EmitError(
            f"recipe {recipe.name} has exact activations for {name!r} in some steps only, and the target "
            "onnx has one graph for all; give decode, few and prompt the same"
        )
    block = 1 if scheme is None else kernel_block(scheme, columns)
    if True in exact and columns % block:
        raise EmitError(
            f"exact activations need rows of a multiple of {block} with the target onnx, but {name!r} has "
            f"{columns} columns; leave that weight fast"
        )


def _lower(
    program: Program, weights: QuantisedWeights, model: OnnxModel, context: int, accuracy_level: int
) -> ResidentLowering:
    spec, heads = program.spec, program.spec.uniform
    state = ResidentLowering(model, program.graph, weights, context, accuracy_level)
    state.names["tokens"] = model.input("input_ids", "INT64", ("batch", "sequence"))
    model.input("attention_mask", "INT64", ("batch", "total_sequence"))
    # An input with a default: sessions take it or leave it.
    model.input(LOGITS_FROM, "INT64", (1,))
    model.constant(LOGITS_FROM, "INT64", (1,), lambda: np.zeros(1, np.int64))
    for layer in range(len(spec.layers)):
        for kind in ("key", "value"):
            shape = ("batch", heads.kv_heads, "past_sequence", heads.head_size)
            model.input(f"past_key_values.{layer}.{kind}", "FLOAT", shape)
    lower_lengths(state)
    inner = inner_outputs(program.graph)
    for node in program.graph.nodes:
        if node.outputs[0] not in inner:
            lower_node(state, node)
    state.use("logits")  # a sum is deferred until someone reads it
    model.output("logits", "FLOAT", ("batch", "logits_sequence", spec.vocab_size))
    for layer in range(len(spec.layers)):
        for kind in ("key", "value"):
            shape = ("batch", heads.kv_heads, "total_sequence", heads.head_size)
            model.output(f"present.{layer}.{kind}", "FLOAT", shape)
    return state
