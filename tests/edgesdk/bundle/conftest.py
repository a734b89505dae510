"""A small manifest, and a bundle written from it."""

import pytest

from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.manifest import (
    SCHEMA_VERSION,
    GenerationDefaults,
    Manifest,
    Source,
    SourceFile,
    StepShape,
    TokenizerRecord,
    Variant,
)
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.bundle.writer import BundleWriter


@pytest.fixture
def manifest():
    rotary = RotarySpec(kind="default", theta=1e4, size=4)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name="tiny",
        licence="apache-2.0",
        created_by="edgesdk tests",
        source=Source("gguf", "tiny.gguf", (SourceFile("tiny.gguf", "0" * 64, 10),)),
        decoder=UniformDecoder(
            architecture="llama",
            vocab_size=32,
            hidden_size=8,
            ffn_size=16,
            heads=2,
            kv_heads=1,
            head_size=4,
            context=64,
            layers=(LayerSpec(None, rotary),) * 2,
            norm_eps=1e-5,
            activation="silu",
            attention_scale=0.5,
        ).spec(),
        tokenizer=TokenizerRecord(bos_id=1, eos_ids=(2,), add_bos=False),
        generation=GenerationDefaults(),
        variants=(
            Variant(
                name="w8",
                format="litert",
                recipe="w8",
                device_classes=("cpu",),
                entry="variants/w8/model.tflite",
                context=64,
                steps=(StepShape(1, 64, 1, "t1_s64"),),
                numbers="0" * 64,
            ),
        ),
        files={},
    )


@pytest.fixture
def write(manifest):
    def write_bundle(target, *, overwrite=False, weights=b"weights" * 1000):
        with BundleWriter(target, overwrite=overwrite) as writer:
            writer.path("tokenizer.json").write_text("{}")
            writer.path("variants/w8/model.tflite").write_bytes(weights)
            writer.finish(manifest)
        return open_bundle(target)

    return write_bundle


@pytest.fixture
def bundle(write, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    return write(tmp_path / "bundle")
