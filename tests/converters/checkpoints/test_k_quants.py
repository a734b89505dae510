"""K-quants, IQ4_NL and MXFP4: kept as the file says by targets that can, and measured where one cannot."""

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.gguf_blocks import BLOCK_TYPES, decode_blocks
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.checkpoints.stored_blocks import StoredBlocks
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from tests.data.tiny_gguf import TINY, add_tokenizer, write_gguf

KIND = gguf.GGMLQuantizationType
# Bytes and columns of a block, and where its float16 numbers stand.
LAYOUT = {"Q4_K": (144, 256, (0, 2)), "Q5_K": (176, 256, (0, 2)), "Q6_K": (210, 256, (208,)),
          "IQ4_NL": (18, 32, (0,)), "Q5_0": (22, 32, (0,)), "Q5_1": (24, 32, (0, 2)),
          "MXFP4": (17, 32, ())}  # fmt: skip
E, F, V = 256, 512, 288


def random_blocks(kind, rows, columns, seed=0):
    """Rows with any integers and factors, and scales of the size that trained weights have."""
    size, width, places = LAYOUT[kind]
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (rows, columns // width, size), np.uint8)
    spread = {"Q4_K": 2e-4, "Q5_K": 1e-4, "Q6_K": 1e-5, "IQ4_NL": 8e-4, "Q5_0": 5e-3,
              "Q5_1": 5e-3, "MXFP4": 0}[kind]  # fmt: skip
    if kind == "MXFP4":  # an exponent: some are below float16's, others of numbers up to a tenth
        raw[:, :, 0] = random.choice([100, 118, 119, 120], raw.shape[:2])
    for place in places:
        scales = (np.abs(random.standard_normal((rows, columns // width, 1))) * spread).astype("<f2")
        if place == 2:  # of minimums: about half of the range below zero
            scales *= np.float16(7 if kind == "Q4_K" else 15)
        raw[:, :, place : place + 2] = scales.view(np.uint8)
    return raw.reshape(rows, -1)


def test_scales_that_are_powers_of_two_are_float16_numbers_as_they_are():
    raw = random_blocks("MXFP4", 6, 512)
    raw[:, ::17] = np.random.default_rng(0).integers(104, 144, (6, 16))  # 2^-24 to 2^15
    rounded = decode_blocks(raw, BLOCK_TYPES["MXFP4"]).with_half_scales()
    assert rounded.error == 0
    np.testing.assert_array_equal(rounded.dequantise(), dequantize(raw, KIND.MXFP4))


@pytest.mark.parametrize("name", sorted(LAYOUT))
def test_blocks_stand_for_the_weight(name):
    raw = random_blocks(name, 6, 512)
    expected = dequantize(raw, KIND[name])
    blocks = decode_blocks(raw, BLOCK_TYPES[name])
    assert blocks.values.shape == (6, 512)
    assert blocks.scales.shape == (6, 512 // blocks.kind.block)
    if blocks.minimums is None:
        np.testing.assert_array_equal(blocks.dequantise(), expected)
    else:  # d u - m is summed in another order
        np.testing.assert_allclose(blocks.dequantise(), expected, rtol=0, atol=2e-7)
    halves = blocks.scales.astype(np.float16).astype(np.float32)
    assert blocks.kind.half_scales == np.array_equal(blocks.scales, halves)


def test_rounded_scales_say_what_they_lose():
    blocks = decode_blocks(random_blocks("Q4_K", 6, 512), BLOCK_TYPES["Q4_K"])
    rounded = blocks.with_half_scales()
    weight, kept = blocks.dequantise(), rounded.dequantise()
    assert rounded.error == pytest.approx(np.linalg.norm(kept - weight) / np.linalg.norm(weight))
    assert 0 < rounded.error < 1e-3
    assert rounded.kind.half_scales
    assert rounded.with_half_scales() is rounded


def test_a_scale_beyond_float16_is_refused():
    kind = BLOCK_TYPES["Q6_K"]
    blocks = StoredBlocks(kind, np.ones((1, 16), np.int8), np.array([[7e4]], np.float32), None)
    with pytest.raises(ValueError, match="a scale of 70000 is beyond float16"):
        blocks.with_half_scales()


TYPES = {"attn_q": "Q4_K", "attn_k": "Q4_K", "attn_v": "Q6_K", "attn_output": "IQ4_NL", "ffn_gate": "Q5_K",
         "ffn_up": "Q5_K", "ffn_down": "MXFP4"}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A Llama of two blocks in the types that files of today mix."""
    tensors = {"token_embd.weight": (random_blocks("Q6_K", V, E), KIND.Q6_K)}
    norm = np.ones(E, np.float32)
    tensors["output_norm.weight"] = (norm, KIND.F32)
    shapes = {"attn_q": (E, E), "attn_k": (128, E), "attn_v": (128, E), "attn_output": (E, E),
              "ffn_gate": (F, E), "ffn_up": (F, E), "ffn_down": (E, F)}  # fmt: skip
    for layer in range(2):
        tensors[f"blk.{layer}.attn_norm.weight"] = tensors[f"blk.{layer}.ffn_norm.weight"] = (norm, KIND.F32)
        for seed, (name, shape) in enumerate(shapes.items(), start=10 * layer):
            kind = TYPES[name]
            tensors[f"blk.{layer}.{name}.weight"] = (random_blocks(kind, *shape, seed), KIND[kind])

    def fill(writer):
        writer.add_block_count(2)
        writer.add_context_length(256)
        writer.add_embedding_length(E)
        writer.add_feed_forward_length(F)
        writer.add_head_count(4)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(64)
        writer.add_vocab_size(V)
        add_tokenizer(writer, TINY / "llama")

    return write_gguf(tmp_path_factory.mktemp("k") / "model.gguf", tensors, fill)


@pytest.fixture(scope="module")
def bundle(source, converted_once):
    targets = ("litert", "onnx", "onnx-step")
    return converted_once(source, targets=targets, recipes=("source",), context=64, prove=False)


def records(bundle, target):
    return {r.name: r for r in open_bundle(bundle).variant(f"{target}-source").weights}


@pytest.mark.parametrize("target", ["onnx", "onnx-step"])
def test_targets_with_float32_scales_keep_every_block(bundle, target):
    found = records(bundle, target)
    table = {"embed"} if target == "onnx-step" else set()  # which it would unpack whole
    assert {name for name, record in found.items() if record.kept not in ("exact", "float")} == table
    assert {(r.stored_type, r.bits, r.block) for r in found.values() if r.kept == "exact"} >= {
        ("Q4_K", 4, 32), ("Q5_K", 8, 32), ("Q6_K", 8, 16), ("IQ4_NL", 8, 32),
        ("MXFP4", 8, 32)
    }  # fmt: skip


def test_litert_keeps_four_bits_with_rounded_scales_and_says_what_that_loses(bundle):
    found = records(bundle, "litert")
    kept = [r for r in found.values() if r.algorithm == "stored"]
    assert {r.stored_type for r in kept} == {"Q4_K"}
    assert {(r.bits, r.block, r.kept) for r in kept} == {(4, 32, "requantised")}
    assert all(0 < r.relative_error < 1e-3 for r in kept)
    rounded = [r for r in found.values() if r.kept != "float"]  # which the largest channels are
    others = [r for r in rounded if r.stored_type in ("Q5_K", "Q6_K", "IQ4_NL", "MXFP4")]
    assert {(r.bits, r.kept) for r in others} == {(8, "requantised")}
    assert all(1e-3 < r.relative_error < 0.02 for r in others)


# Activations are rounded to 8 bits: in blocks of 32 by ONNX Runtime, by rows in LiteRT. So is a table.
@pytest.mark.parametrize(("target", "tolerance"), [("onnx", 0.05), ("onnx-step", 0.05), ("litert", 0.1)])
def test_what_runs_is_what_the_file_says(bundle, source, target, tolerance):
    checkpoint = open_checkpoint(str(source))
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    tokens = np.random.default_rng(1).integers(3, V, 40).astype(np.int32)
    expected = next(sequence_logits(program, [tokens]))
    with edgesdk.load(bundle, variant=f"{target}-source", threads=1) as model:
        found = model.score(tokens)
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_a_damaged_scale_is_refused_by_name(tmp_path):
    raw = random_blocks("Q6_K", 2, 256)
    raw[1, 208:210] = np.frombuffer(np.float16(np.inf).tobytes(), np.uint8)
    from edgesdk.errors import CheckpointError
    from edgesdk_converters.checkpoints.gguf_file import GgufTensors
    from edgesdk_converters.checkpoints.gguf_header import read_gguf_header

    path = write_gguf(tmp_path / "m.gguf", {"w": (raw, KIND.Q6_K)})
    tensors = GgufTensors(path, read_gguf_header(path).tensors)
    with pytest.raises(CheckpointError, match=r"a block of 'w' whose scale is not a finite number"):
        tensors.stored_blocks("w")
