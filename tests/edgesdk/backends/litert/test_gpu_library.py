"""Processors that LiteRT's library for GPUs would end the process on, by what their /proc says."""

import platform

import pytest

from edgesdk.backends.litert import compiled
from edgesdk.backends.litert.gpu_library import refusal
from edgesdk.backends.litert.open_litert import open_compiled, open_interpreter
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import DeviceError

FLAGS = {
    "cortex-a72": ("aarch64", "Features\t: fp asimd evtstrm crc32 cpuid"),
    "cortex-a55": (
        "aarch64",
        "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
        "dcpop asimddp",
    ),
    "nehalem": ("x86_64", "flags\t\t: fpu sse sse2 ssse3 cx16 sse4_1 sse4_2 popcnt lm"),
    "sandy bridge": (
        "x86_64",
        "flags\t\t: fpu sse sse2 pclmulqdq ssse3 cx16 sse4_1 sse4_2 popcnt aes xsave avx lm",
    ),
    "unknown": ("riscv64", "isa\t: rv64imafdcv"),
}


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "ai_edge_litert"
    folder.mkdir()
    (folder / "libLiteRtWebGpuAccelerator.so").touch()
    return folder


@pytest.fixture
def become(tmp_path, monkeypatch):
    """Writes the /proc of a processor and returns where it is mounted."""

    def become(name):
        machine, line = FLAGS[name]
        monkeypatch.setattr(platform, "machine", lambda: machine)
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\n")
        return tmp_path

    return become


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("cortex-a72", "aes, sha2, atomics, asimdrdm, fphp, asimdhp, asimddp,"),
        ("nehalem", "aes, pclmulqdq, avx,"),
    ],
)
def test_old_processors_are_refused_by_what_they_lack(name, lacking, become, package):
    reason = refusal(become(name), package)
    assert f"has no {lacking} " in reason
    assert "litert-interpreter" in reason


@pytest.mark.parametrize("name", ["cortex-a55", "sandy bridge", "unknown"])
def test_others_are_not(name, become, package):
    assert refusal(become(name), package) is None


def test_without_the_library_nothing_is_asked(become, package):
    (package / "libLiteRtWebGpuAccelerator.so").unlink()
    assert refusal(become("cortex-a72"), package) is None


def test_a_hidden_processor_is_not_refused(tmp_path, package):
    assert refusal(tmp_path, package) is None


def test_this_machine_loads_it():
    assert refusal() is None


def test_a_refusal_is_one_line_and_the_interpreter_goes_on(tmp_path, monkeypatch, request):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=64, prove=False)
    source = request.config.rootpath / "tests/data/tiny/llama"
    bundle = open_bundle(convert(str(source), tmp_path / "bundle", options))
    wanted = OpenRequest(bundle, bundle.variant("litert-f32"), 1)
    monkeypatch.setattr(compiled, "refusal", lambda: "this processor has no avx")
    with pytest.raises(DeviceError, match=r"^LiteRT cannot load model.tflite: this processor has no avx$"):
        open_compiled(wanted)
    assert open_interpreter(wanted).provider == "XNNPACK"
