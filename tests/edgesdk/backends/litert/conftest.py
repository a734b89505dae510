"""A tiny bundle in LiteRT's format."""

import pytest

from edgesdk.bundle.reader import open_bundle


@pytest.fixture(scope="session")
def float_bundle(tmp_path_factory, request):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(targets=("litert",), recipes=("f32",), context=256, prove=False)
    source = request.config.rootpath / "tests/data/tiny/llama"
    return open_bundle(convert(str(source), tmp_path_factory.mktemp("float") / "bundle", options))
