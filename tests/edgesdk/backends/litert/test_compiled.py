import pytest

from edgesdk.backends.litert import compiled
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.opened import OpenRequest
from edgesdk.kv.cell_memory import new_memory


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
    memory = new_memory(float_bundle.manifest.decoder_of(variant), variant.cell_type, shape.cells)
    memory.lay_out(shape.cells, 0)
    with pytest.raises(KeyboardInterrupt):
        model.run(shape, memory.cells)
    assert hushed
