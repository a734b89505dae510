"""From a GGUF file to emitted files: integers and scales arrive bit for bit, and mean the same."""

import json

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize

from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.errors import TransformError
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_gguf import open_gguf
from edgesdk_converters.emit.litert.emit_litert import emit_litert
from edgesdk_converters.emit.onnx.resident import emit_resident
from edgesdk_converters.emit.onnx.step import emit_step
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import MASKED, sequence_inputs, sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS, ONNX_BLOCKS, ONNX_STEP_BLOCKS
from edgesdk_converters.quantise.peak_activations import peak_activations
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.keep_blocks import keep_blocks, needs_peaks

KIND = gguf.GGMLQuantizationType
STEPS = (StepShape(1, 32, 1, "s1"), StepShape(32, 32, 32, "s32"))
# The parts of each fused matrix, as the file names them, and whose rows are paired for rotation.
FUSED = {
    "q_k_v": (("attn_q", True), ("attn_k", True), ("attn_v", False)),
    "o": (("attn_output", False),),
    "gate_up": (("ffn_gate", False), ("ffn_up", False)),
    "down": (("ffn_down", False),),
}


@pytest.fixture(params=["Q4_0", "Q4_1", "Q8_0"])
def opened(request, tmp_path, gguf_from_tiny, tiny_folder):
    """A tiny llama in blocks of one type (its table in Q8_0), as a program, with its file."""
    kind = KIND[request.param]
    path = gguf_from_tiny(
        tmp_path / "m.gguf",
        "llama",
        kind_of=lambda name: KIND.Q8_0 if name == "token_embd.weight" else kind,
    )
    checkpoint = open_gguf(path)
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    config = json.loads((tiny_folder / "llama" / "config.json").read_text(encoding="utf-8"))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    return kind, checkpoint, program, Source(path, heads)


class Source:
    """The file, read by the gguf package and unpacked here by hand."""

    def __init__(self, path, heads):
        self.tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        self.heads = heads

    def fused(self, layer, part):
        """Unsigned integers (O, I) and scales (O, B) of a fused matrix, rows in the graph's order."""
        pieces = [self.piece(f"blk.{layer}.{name}.weight", paired) for name, paired in FUSED[part]]
        return tuple(np.concatenate(both) for both in zip(*pieces, strict=True))

    def piece(self, name, paired=False):
        tensor = self.tensors[name]
        rows, kind = int(tensor.shape[1]), tensor.tensor_type
        size = {KIND.Q4_0: 18, KIND.Q4_1: 20, KIND.Q8_0: 34}[kind]
        blocks = np.array(tensor.data).reshape(rows, -1, size)
        scales = np.ascontiguousarray(blocks[:, :, :2]).view("<f2")[:, :, 0]
        body = blocks[:, :, 4 if kind == KIND.Q4_1 else 2 :]
        if kind == KIND.Q8_0:
            integers = body ^ 0x80
        else:
            integers = np.concatenate([body % 16, body // 16], axis=2)
        integers = integers.reshape(rows, -1)
        if paired:
            heads = self.heads[name.split(".")[2]]
            size = rows // heads
            pairs = [2 * j + half for half in (0, 1) for j in range(size // 2)]
            order = [head * size + row for head in range(heads) for row in pairs]
            integers, scales = integers[order], scales[order]
        return integers, scales


def prepared(program, kernels, tokens):
    recipe = find_recipe("source")
    peaks = peak_activations(program, [tokens]) if needs_peaks(recipe, kernels) else None
    program, recipe = keep_blocks(program, recipe, kernels, peaks)
    return program, QuantisedWeights(program.weights, recipe)


@pytest.fixture
def text(opened):
    return np.random.default_rng(1).integers(0, opened[2].spec.vocab_size, 20).astype(np.int32)


def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def unpack(packed):
    return np.stack([packed & 0xF, packed >> 4], axis=-1)


@pytest.mark.parametrize(
    "kernels", [LITERT_BLOCKS, ONNX_BLOCKS, ONNX_STEP_BLOCKS], ids=["litert", "onnx", "onnx-step"]
)
def test_the_evaluator_sees_the_dequantised_weights(opened, text, kernels):
    _, _, program, _ = opened
    split, _ = prepared(program, kernels, text)
    expected = next(sequence_logits(program, [text]))
    assert error(next(sequence_logits(split, [text])), expected) < 1e-5


def test_the_resident_file_holds_what_the_gguf_file_holds(opened, text, tmp_path):
    import onnx

    _, checkpoint, program, source = opened
    split, weights = prepared(program, ONNX_BLOCKS, text)
    emit_resident(
        split,
        weights,
        tmp_path,
        context=64,
        tokenizer=checkpoint.tokenizer,
        generation=checkpoint.generation,
        accuracy_level=0,
    )
    model = onnx.load(tmp_path / "model.onnx")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    names = [(f"layers.{layer}.{part}", source.fused(layer, part)) for layer in (0, 1) for part in FUSED]
    for name, (integers, scales) in [*names, ("embed", source.piece("token_embd.weight"))]:
        found = stored[f"{name}.integers"]
        if found.shape[-1] == 16:
            found = unpack(found)
        np.testing.assert_array_equal(found.reshape(integers.shape), integers)
        assert stored[f"{name}.scales"].dtype == np.float16
        np.testing.assert_array_equal(
            stored[f"{name}.scales"].view(np.uint16).reshape(scales.shape), scales.view(np.uint16)
        )
    found = ResidentModel(tmp_path / "model.onnx", program.spec, 64, threads=1).new_sequence().score(text)
    assert error(found, next(sequence_logits(program, [text]))) < 1e-3  # minimums are rounded to float16


def test_the_litert_file_holds_what_the_gguf_file_holds(opened, text, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")
    from edgesdk.backends.litert.compiled import CompiledStepBackend

    kind, _, program, source = opened
    split, weights = prepared(program, LITERT_BLOCKS, text)
    path = tmp_path / "model.tflite"
    emit_litert(split, weights, path, STEPS, 64)
    if kind != KIND.Q8_0:
        stored = constants(path)
        for name, layer, part in [(f"layers.{i}.{part}", i, part) for i in (0, 1) for part in FUSED]:
            integers, scales = source.fused(layer, part)
            found = unpack(stored[name]).reshape(*scales.shape, 32)
            expected = (integers ^ 8).reshape(found.shape)  # four bits, around zero
            turned = np.signbit(scales)
            # A negative scale is kept by its magnitude, with the bits of its integers flipped.
            np.testing.assert_array_equal(found, np.where(turned[..., None], expected ^ 15, expected))
            np.testing.assert_array_equal(
                stored[f"{name}.scales"].view("<f2").reshape(scales.shape), np.abs(scales)
            )
            assert turned.any() == (kind == KIND.Q4_0)
    backend = CompiledStepBackend(path, main_stack(program.spec), STEPS, threads=1, weight_cache=None)
    found = CellSequence(backend, program.spec, 32).score(text)
    distance = error(found, next(sequence_logits(program, [text])))
    print(f"{kind.name}: int8 activations move the logits by {distance:.4f} of the largest")
    assert distance < 0.12


def test_the_step_file_means_the_same(opened, text, tmp_path):
    _, _, program, _ = opened
    split, weights = prepared(program, ONNX_STEP_BLOCKS, text)
    emit_step(split, weights, tmp_path, [StepShape(len(text), 1, len(text), "whole")], 64)
    inputs = sequence_inputs(program, [text])
    inputs["mask"] = np.pad(inputs["mask"], ((0, 0), (1, 0)), constant_values=MASKED)  # the one cell
    for name, cells in inputs.items():
        if "cache" in name:
            inputs[name] = np.zeros((cells.shape[0], 1, cells.shape[2]), np.float32)
    found = open_session(tmp_path / "whole.onnx", 1).run(["logits"], inputs)[0]
    quantised = Program(split.spec, split.graph, weights)
    assert error(found, next(sequence_logits(quantised, [text]))) < 1e-3


def test_large_channels_need_measuring(opened):
    with pytest.raises(TransformError, match="measure activations first"):
        keep_blocks(opened[2], find_recipe("source"), LITERT_BLOCKS)


def constants(path):
    """Bytes of every named constant of a LiteRT file's first subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes())
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    data = {t.Name().decode(): model.Buffers(t.Buffer()).DataAsNumpy() for t in tensors if t.Buffer()}
    return {name: found for name, found in data.items() if isinstance(found, np.ndarray)}


def test_a_dequantised_gguf_weight_is_what_the_package_says(opened):
    kind, _, program, source = opened
    tensor = source.tensors["blk.0.ffn_down.weight"]
    expected = dequantize(np.array(tensor.data), kind).reshape(tensor.shape[::-1])
    np.testing.assert_array_equal(program.weights.load("layers.0.down"), expected)
