"""GGUF files as whole checkpoints: the decoder they describe computes what transformers computes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header
from edgesdk_converters.checkpoints.open_gguf import open_gguf
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights


# Those tiny checkpoints that GGUF can describe fully.
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("llama", ""),
        ("llama", ".rope-linear"),
        ("llama", ".rope-llama3"),
        ("llama", ".rope-yarn"),
        ("llama-untied-bias", ""),
        ("qwen3", ""),
        ("phi3", ""),
        ("internlm3", ""),
        ("iquestcoder", ""),
        ("seed_oss", ""),
        ("ernie4_5", ""),
        ("granite", ""),
        ("gemma", ""),
        ("olmo2", ""),
        ("olmo3", ""),
        ("exaone4", ""),
        ("hunyuan", ""),
        ("minicpm", ""),
        ("phi3-longrope", ""),
        ("ministral3", ""),
    ],
)
def test_reference_logits(tmp_path, gguf_from_tiny, tiny_folder, name, variant):
    checkpoint = open_gguf(gguf_from_tiny(tmp_path / "m.gguf", name, f"config{variant}.json"))
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), ResidentWeights(weights_for(checkpoint, spec)))
    with np.load(tiny_folder / name / f"reference{variant}.npz") as reference:
        cuts = np.cumsum(reference["lengths"])[:-1]
        sequences, logits = np.split(reference["tokens"], cuts), np.split(reference["logits"], cuts)
    for found, expected in zip(sequence_logits(program, sequences), logits, strict=True):
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_what_a_file_says_of_itself(tmp_path, gguf_from_tiny):
    checkpoint = open_gguf(gguf_from_tiny(tmp_path / "m.gguf", "llama"))
    assert checkpoint.name == "m"
    assert checkpoint.dialect == "gguf"
    assert checkpoint.licence == "apache-2.0"
    assert checkpoint.source.location == "m.gguf"
    assert checkpoint.source.files[0].size_bytes == (tmp_path / "m.gguf").stat().st_size
    assert checkpoint.tokenizer.record.bos_id == 1
    assert checkpoint.tokenizer.record.eos_ids[0] == 2


def test_recommended_sampling(tmp_path, gguf_from_tiny):
    def fill(writer):
        writer.add_float32("general.sampling.temp", 0.5)
        writer.add_float32("general.sampling.top_k", 40)
        writer.add_float32("general.sampling.min_p", 0.25)

    found = open_gguf(gguf_from_tiny(tmp_path / "m.gguf", "llama", more=fill)).generation
    assert found == GenerationDefaults(0.5, 40, min_p=0.25)


@pytest.mark.parametrize(
    ("key", "value"), [("temp", float("nan")), ("temp", float("inf")), ("top_k", -2.0), ("top_p", 2.0)]
)
def test_sampling_without_a_meaning_is_refused(tmp_path, gguf_from_tiny, key, value):
    path = gguf_from_tiny(
        tmp_path / "m.gguf", "llama", more=lambda writer: writer.add_float32(f"general.sampling.{key}", value)
    )
    with pytest.raises(CheckpointError, match=f"has general.sampling.{key} .*, expected a "):
        open_gguf(path)


@pytest.mark.parametrize(
    ("key", "add", "value", "match"),
    [
        ("general.type", "add_string", "adapter", "general.type of 'adapter'"),
        ("general.type", "add_string", "mmproj", "general.type of 'mmproj'"),
        ("split.count", "add_uint16", 3, "as a whole model, and has split.count 3; give"),
    ],
)
def test_files_that_are_no_whole_model(tmp_path, write_gguf, key, add, value, match):
    path = write_gguf(tmp_path / "m.gguf", {}, lambda writer: getattr(writer, add)(key, value))
    with pytest.raises(CheckpointError, match=match):
        open_gguf(path)


def test_every_kind_of_refusal_keeps_to_one_line(tmp_path, gguf_from_tiny):
    whole = gguf_from_tiny(tmp_path / "m.gguf", "llama").read_bytes()
    path = tmp_path / "bad.gguf"
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError) as caught:
            open_gguf(path)
        assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory, gguf_from_tiny):
    """A file, and where its data begins."""
    path = gguf_from_tiny(tmp_path_factory.mktemp("gguf") / "m.gguf", "gemma3")
    return path.read_bytes(), min(t.offset for t in read_gguf_header(path).tensors.values())


@pytest.mark.real
def test_smollm2(smollm2_gguf):
    checkpoint = open_gguf(smollm2_gguf)
    (file,) = checkpoint.source.files
    assert file.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    spec = read_spec(checkpoint.config)
    assert (spec.vocab_size, spec.hidden_size, len(spec.layers), spec.tied_head) == (49152, 576, 30, True)
    weights = weights_for(checkpoint, spec)
    embedding = weights.load_rows("embed", 100, 103)
    np.testing.assert_array_equal(embedding, checkpoint.tensors.load("token_embd.weight")[100:103])


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_open_or_are_refused(tmp_path, whole_file, data):
    whole, header = whole_file
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzz.gguf"
    path.write_bytes(bytes(damaged))
    try:
        checkpoint = open_gguf(path)
        weights_for(checkpoint, read_spec(checkpoint.config))
    except CheckpointError as error:
        assert "\n" not in str(error)
