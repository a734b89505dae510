"""A tiny bundle in LiteRT's format."""

import pytest

from edgesdk.bundle.reader import open_bundle


@pytest.fixture(scope="session")
def float_bundle(converted_once, request):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    source = request.config.rootpath / "tests/data/tiny/llama"
    return open_bundle(
        converted_once(source, targets=("litert",), recipes=("f32",), context=256, prove=False)
    )
