"""Two variants of one recipe are one model only where their targets store the same numbers."""

import gguf
import pytest

from edgesdk.bundle.reader import open_bundle
from edgesdk.dispatch.plan import same_results
from edgesdk.engine.snapshot_key import snapshot_key
from edgesdk_converters.convert import ConvertOptions, convert


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, gguf_from_tiny):
    """`source` and `w8` of a Q8_0 file, whose blocks only ONNX Runtime can multiply with."""
    folder = tmp_path_factory.mktemp("numbers")
    path = gguf_from_tiny(folder / "m.gguf", "llama", kind_of=lambda name: gguf.GGMLQuantizationType.Q8_0)
    options = ConvertOptions(
        targets=("litert", "onnx-step"), recipes=("source", "w8-round"), context=64, prove=False
    )
    return open_bundle(convert(str(path), folder / "bundle", options))


def test_other_numbers_under_one_recipe_do_not_take_over(bundle):
    litert, step = bundle.variant("litert-source"), bundle.variant("onnx-step-source")
    stored = {record.name: record.kept for record in step.weights}
    other = [record.name for record in litert.weights if stored.get(record.name) not in (None, record.kept)]
    assert len(other) > 4  # LiteRT has them quantised again
    assert not same_results(litert, step)
    assert litert.numbers != step.numbers
    assert snapshot_key(bundle, litert.name) != snapshot_key(bundle, step.name)


def test_the_same_numbers_in_two_formats_do(bundle):
    litert, step = bundle.variant("litert-w8-round"), bundle.variant("onnx-step-w8-round")
    assert same_results(litert, step)
    assert litert.numbers == step.numbers
    assert snapshot_key(bundle, litert.name) == snapshot_key(bundle, step.name)
    assert litert.numbers != bundle.variant("litert-source").numbers
