"""What the registry says that a backend can do is what it does."""

from pathlib import Path

import pytest

from edgesdk.backends.registry import BACKENDS, find_backends, first_backend, host_cell_backends
from edgesdk.bundle.reader import open_bundle
from edgesdk.devices.packages import installed_version
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.open_candidate import open_candidate
from edgesdk.errors import DeviceError, MissingExtra

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
ALWAYS = {"litert", "litert-interpreter", "onnxruntime", "onnxruntime-step"}
"""These open wherever the tests run."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from edgesdk_converters.convert import ConvertOptions, convert

    targets = ("litert", "onnx-step", "onnx", "coreml", "coreml-state")
    options = ConvertOptions(targets=targets, recipes=("f16",), context=64, prove=False)
    return open_bundle(convert(str(TINY), tmp_path_factory.mktemp("registry") / "b", options))


def test_who_owns_the_cells(tiny):
    opened = set()
    for candidate in list_candidates(tiny, BACKENDS):
        if candidate.refusal is not None or candidate.key[1] in opened:
            continue
        try:
            found = open_candidate(tiny, candidate, 1)
        except (DeviceError, MissingExtra):
            continue
        assert (found.step_backend is not None) == candidate.backend.host_cells, candidate.backend.name
        assert bool(candidate.variant.steps) or not candidate.backend.host_cells
        found.opened.model.close()
        opened.add(candidate.backend.name)
    expected = ALWAYS | ({"coreml-interpreter"} if installed_version("coremltools") else set())
    assert opened >= expected


@pytest.mark.parametrize("cells", ["float16", "int8"])
def test_cells_that_it_runs_and_no_others(cells, tmp_path):
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=64, prove=False, cells=cells)
    bundle = open_bundle(convert(str(TINY), tmp_path / "b", options))
    for name in ("litert", "litert-interpreter"):
        (candidate,) = list_candidates(bundle, find_backends(name))
        assert cells in candidate.backend.cell_types
        found = open_candidate(bundle, candidate, 1)
        assert {each.cell_type for each in found.step_backend.contracts.values()} == {cells}
        found.opened.model.close()


def test_it_is_the_one_list_of_names():
    assert first_backend("litert").name == "litert"
    assert first_backend("onnx-context") is None
    able = host_cell_backends()
    assert len(able) + sum(not backend.host_cells for backend in BACKENDS) == len(BACKENDS)
    assert host_cell_backends(["onnx-resident", "coreml-state"]) == ()
    assert host_cell_backends(["onnx-step"]) == (
        "onnxruntime-step",
        "openvino",
        "onnxruntime-qnn",
        "onnxruntime-webgpu",
    )
