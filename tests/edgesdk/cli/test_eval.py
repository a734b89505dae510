import json

import pytest

TEXT = "The quick brown fox jumps over the lazy dog. " * 12


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_perplexity_alone(edgesdk, tiny_bundle, text):
    result = edgesdk("eval", tiny_bundle, "--text", text, "--tokens", 100, "--window", 32, "--json")
    assert result.code == 0
    agreement = result.json["agreement"]
    assert agreement["positions"] == 100 - 4
    assert agreement["perplexity"] > 1
    assert agreement["reference_perplexity"] is None
    assert result.json["greedy"] is None
    recorded = json.loads((tiny_bundle / "manifest.json").read_text())["variants"][0]["parity"]["chats"]
    assert result.json["receipt"]["variant"] == "litert-f32"
    assert result.json["chats"] == recorded
    assert recorded["questions"] == 8


@pytest.mark.parametrize("variant", ["litert-f32", "onnx-f32"])
def test_beside_the_source(edgesdk, tiny_bundle, tiny_checkpoint, text, tmp_path, variant):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The fox?\n\nThe dog?\n")
    arguments = ("--text", text, "--window", 64, "--reference", tiny_checkpoint, "--variant", variant)
    greedy = ("--greedy-prompts", prompts, "--greedy-tokens", 8)
    result = edgesdk("eval", tiny_bundle, *arguments, *greedy, "--json")
    assert result.code == 0
    assert result.json["agreement"]["perplexity_ratio"] == pytest.approx(1, abs=1e-4)
    assert result.json["agreement"]["kl_nats"] < 1e-6
    assert result.json["agreement"]["top1_agreement"] > 0.99
    found = result.json["greedy"]
    assert (found["prompts"], found["tokens"], found["diverged"]) == (2, 8, 0)
    assert result.json["receipt"]["variant"] == variant
    shown = edgesdk("eval", tiny_bundle, *arguments, *greedy).out
    for line in ("perplexity ratio", "top-1 agreement", "of 8\n", "greedy answers of 8 tokens"):
        assert line in shown


def test_greedy_needs_a_reference(edgesdk, tiny_bundle, text):
    result = edgesdk("eval", tiny_bundle, "--text", text, "--greedy-prompts", text)
    assert result.code == 2
    assert "needs --reference" in result.err


def test_a_reference_of_another_vocabulary(edgesdk, fake_runtime, tiny_checkpoint, text):
    result = edgesdk("eval", fake_runtime(), "--text", text, "--window", 32, "--reference", tiny_checkpoint)
    assert result.code == 1
    assert "give the source that the bundle was made from" in result.error


def test_bad_text_and_windows_are_one_line(edgesdk, tiny_bundle, tmp_path, text):
    binary = tmp_path / "binary"
    binary.write_bytes(b"abc\xff\xfe")
    assert "is not UTF-8 text (byte 3)" in edgesdk("eval", tiny_bundle, "--text", binary).error
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    short = edgesdk("eval", tiny_bundle, "--text", empty, "--window", 64)
    assert "the text has 0 tokens" in short.error
    large = edgesdk("eval", tiny_bundle, "--text", text, "--window", 4096)
    assert large.code == 1
    assert "expected 2 to 128" in large.error
