import os

import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.litert import compiled
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.opened import OpenRequest
from edgesdk.errors import DeviceError


def test_an_interrupted_first_run_still_ends_quietly(float_bundle, monkeypatch):
    """LiteRT has set up by then what it talks about at the end."""
    variant = float_bundle.variant("litert-f32")
    model = open_compiled(OpenRequest(float_bundle, variant, 1)).model
    hushed = []
    monkeypatch.setattr(compiled, "hush_the_end", lambda: hushed.append(True))

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(model._model, "run", interrupt)
    shape = model.shapes[0]
    model.buffers(shape)
    cells = allocate_cells(model.contracts[shape.stack].groups, shape.cells)
    with pytest.raises(KeyboardInterrupt):
        model.run(shape, cells)
    assert hushed


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memory with the name of a file")
def test_after_closing_nothing_is_asked_of_the_library_and_its_memory_is_given_back(
    float_bundle, monkeypatch, tmp_path
):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    model = open_compiled(OpenRequest(float_bundle, float_bundle.variant("litert-f32"), 1)).model
    memory = model._weight_cache._memory
    assert os.path.exists(memory.path)
    model.close()
    assert not os.path.exists(memory.path)
    with pytest.raises(DeviceError, match="was closed"):
        model.accelerated_share  # noqa: B018
    with pytest.raises(DeviceError, match="was closed"):
        model._model.input_shape(0, 0)
