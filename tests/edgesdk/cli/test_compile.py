"""`edgesdk compile` refuses in one line what it cannot do."""

import importlib.util

import pytest


def test_unknown_soc(edgesdk, npu_bundle):
    result = edgesdk("compile", npu_bundle, "--soc", "a17")
    assert result.code == 1
    assert "SoC 'a17' is unknown; expected sm8550" in result.error


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime_qnn") is not None, reason="the package is here")
def test_missing_package_names_the_extra(edgesdk, npu_bundle):
    result = edgesdk("compile", npu_bundle, "--soc", "sm8750")
    assert result.code == 1
    assert "edgesdk[qnn]" in result.error
