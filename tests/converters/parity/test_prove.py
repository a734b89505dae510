"""What a proof holds in memory while a variant runs."""

from pathlib import Path

from edgesdk_converters.convert import ConvertOptions, convert

TINY = Path(__file__).parents[2] / "data" / "tiny"


def test_the_model_that_is_compared_has_found_its_packed_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    seen = []
    options = ConvertOptions(("litert", "onnx-step"), ("f32",))
    convert(
        str(TINY / "llama"),
        tmp_path / "bundle",
        options,
        proven=lambda model, report: seen.append((report.backend, model.receipt.weight_cache)),
    )
    assert seen == [("litert", "hit"), ("onnxruntime-step", None)]
