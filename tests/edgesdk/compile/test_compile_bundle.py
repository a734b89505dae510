"""What cannot be compiled is said before the compiler is called."""

import pytest

from edgesdk.bundle.reader import open_bundle
from edgesdk.compile import compile_bundle as module
from edgesdk.compile.compile_bundle import compile_bundle
from edgesdk.errors import DeviceError, UnsupportedOption


def test_unknown_soc(npu_bundle):
    with pytest.raises(UnsupportedOption, match="SoC 'pixel' is unknown; expected sm8550"):
        compile_bundle(npu_bundle, "pixel")


def test_no_variant_for_npus(fake_runtime):
    bundle = fake_runtime()
    with pytest.raises(UnsupportedOption, match="has no onnx-step variant; convert with --target onnx-npu"):
        compile_bundle(bundle, "sm8750")
    with pytest.raises(UnsupportedOption, match="expected an onnx-step variant for NPUs; convert with"):
        compile_bundle(bundle, "sm8750", variant="only")


@pytest.fixture
def compiler(monkeypatch):
    """Stands in for Qualcomm's package, which few machines have: copies the model, or fails."""

    def install(fail=False):
        def compile_context(model, out, soc):
            if fail and "128" in model.name:
                raise DeviceError("the compiler refused it")
            out.write_bytes(model.read_bytes())
            out.with_suffix(".bin").write_bytes(soc.name.encode())

        monkeypatch.setattr(module, "compile_context", compile_context)
        monkeypatch.setattr(module, "compiler_name", lambda: "compiler 1")

    return install


def test_the_rest_of_the_bundle_stays(npu_bundle, compiler, tmp_path):
    compiler()
    compile_bundle(npu_bundle, "sm8750", out=tmp_path / "two")
    compile_bundle(tmp_path / "two", "sm8650")
    compile_bundle(tmp_path / "two", "sm8650")  # a second time replaces the first
    before, after = open_bundle(npu_bundle).manifest, open_bundle(tmp_path / "two").manifest
    assert [v.name for v in after.variants] == [
        "onnx-npu-w8",
        "onnx-npu-w8-sm8750",
        "onnx-npu-w8-sm8650",
    ]
    assert {name: after.files[name] for name in before.files} == before.files
    for variant in after.variants[1:]:
        assert variant.steps == before.variants[0].steps
        assert variant.compatibility.source == "onnx-npu-w8"
        assert variant.compatibility.soc in variant.name


def test_failure_leaves_the_bundle_as_it_was(npu_bundle, compiler, tmp_path):
    compiler()
    compile_bundle(npu_bundle, "sm8750", out=tmp_path / "one")
    before = (tmp_path / "one/manifest.json").read_bytes()
    compiler(fail=True)
    with pytest.raises(DeviceError, match="refused"):
        compile_bundle(tmp_path / "one", "sm8650")
    assert (tmp_path / "one/manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["one"]


def test_the_manifest_says_what_was_not_verified(npu_bundle, compiler, tmp_path):
    compiler()
    done = compile_bundle(npu_bundle, "sm8750", out=tmp_path / "one", positions=0)
    made = open_bundle(tmp_path / "one").variant(done.variant)
    assert made.parity is None
    assert made.parity_skipped.startswith("it should say what onnx-npu-w8 says, which nothing has verified")
    assert done.proof == f"not proven: {made.parity_skipped}"


def test_a_broken_compilation_leaves_nothing(npu_bundle, compiler, tmp_path, monkeypatch):
    def refuse(*_):
        raise DeviceError("it says something else")

    compiler()
    monkeypatch.setattr(module, "prove_compiled", refuse)
    with pytest.raises(DeviceError, match="something else"):
        compile_bundle(npu_bundle, "sm8750", out=tmp_path / "one")
    assert list(tmp_path.iterdir()) == []
