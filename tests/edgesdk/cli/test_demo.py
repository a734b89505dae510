"""The demo over the tiny checkpoint: every part of it runs; its answer means nothing."""

import numpy as np
import pytest

import edgesdk as sdk
from edgesdk.cli import demo
from edgesdk.drafts import worth
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts import shipped_draft
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
    write_draft,
)


@pytest.fixture(autouse=True)
def small(monkeypatch, tiny_checkpoint):
    monkeypatch.setattr(demo, "MODEL", str(tiny_checkpoint))
    sizes = ("_PROMPT_TOKENS", 16), ("_NEW_TOKENS", 2), ("_REPEAT", 1), ("_DRAFT_TOKENS", 8)
    for name, value in sizes:
        monkeypatch.setattr(demo, name, value)


def test_it_does_the_main_job_and_leaves_a_bundle_that_everything_finds(edgesdk, shelf):
    result = edgesdk("demo", "--recipe", "f32")
    assert result.code == 0
    for text in (
        demo.QUESTION,
        "litert-f32",
        "onnx-f32",
        "litert on cpu",
        "onnxruntime",
        "edgesdk chat smollm2",
    ):
        assert text in result.out
    assert len(result.out[result.out.index("llama litert-f32; ") :].splitlines()) < 20
    # Answered as soon as the first is proven, which is before the table can be known.
    assert result.out.index(demo.QUESTION) < result.out.index("perplexity ratio")
    assert [line.split("] ")[-1] for line in result.err.splitlines() if "proving" in line] == [
        "proving litert-f32",
        "proving onnx-f32",
    ]
    assert "timing onnx-f32" in result.err
    with sdk.load("smollm2") as model:
        assert model.bundle.path == shelf / "smollm2"
    assert edgesdk("run", "smollm2", "x", "--max-tokens", 2).code == 0
    assert edgesdk("inspect", "smollm2").out.startswith("model")


def test_a_second_demo_uses_the_first_ones_bundle(edgesdk, shelf):
    edgesdk("demo", "--recipe", "f32")
    made = (shelf / "smollm2" / "manifest.json").stat().st_mtime_ns
    again = edgesdk("demo")
    assert again.code == 0
    assert again.out.startswith("llama is there already, in ")
    assert demo.QUESTION in again.out
    assert (shelf / "smollm2" / "manifest.json").stat().st_mtime_ns == made
    other = edgesdk("demo", "--recipe", "w8-round")
    assert other.error.endswith("has recipe f32, not w8-round; add --again to convert anew")
    assert edgesdk("demo", "--recipe", "f32", "--again").code == 0
    assert (shelf / "smollm2" / "manifest.json").stat().st_mtime_ns > made


@pytest.mark.parametrize(("asked", "pays"), [(0.0, True), (1e9, False)])
def test_a_draft_that_comes_with_the_model_is_timed(
    edgesdk, shelf, monkeypatch, tmp_path, tiny_checkpoint, asked, pays
):
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    E, V = (int(checkpoint.config[key]) for key in ("hidden_size", "vocab_size"))
    target = DraftTarget("llama", V, E, tokenizer_digest(checkpoint.tokenizer), "tiny")
    config = DraftConfig(E, 16, 1, 3, 1e-5, target)
    tensors = {name: np.ones(shape, np.float32) for name, shape in config.shapes.items()}
    write_draft(tmp_path, DraftCheckpoint(config, tensors, np.arange(V, dtype=np.int32)))
    monkeypatch.setattr(shipped_draft, "shipped_draft", lambda _: tmp_path)
    monkeypatch.setattr(worth, "LEAST_GAIN", asked)
    result = edgesdk("demo", "--recipe", "f32")
    assert result.code == 0
    (row,) = (text.split() for text in result.out.splitlines() if "litert-f32, open text" in text)
    assert min(float(word) for word in row[-3:]) > 0
    assert ("edgesdk chat smollm2 --draft auto" in result.out) == pays


def test_it_may_be_kept_elsewhere(edgesdk, shelf, tmp_path):
    assert edgesdk("demo", "--recipe", "f32", "--keep", tmp_path / "kept").code == 0
    assert (tmp_path / "kept" / "manifest.json").exists()
    assert not shelf.exists()


def test_another_model_under_its_name_is_neither_used_nor_replaced(edgesdk, shelf, monkeypatch):
    edgesdk("demo", "--recipe", "f32")
    monkeypatch.setattr(demo, "MODEL", "smollm2-135m")
    for arguments in ((), ("--again",)):
        assert (
            "holds llama, not the demo's model; give another folder with --keep"
            in edgesdk("demo", *arguments).error
        )


def test_an_interruption_leaves_nothing(edgesdk, shelf, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_answer", interrupt)
    result = edgesdk("demo", "--recipe", "f32")
    assert (result.code, result.err.splitlines()[-1]) == (1, "interrupted")
    assert not shelf.exists()
