"""tflite-runtime runs what `litert-static` writes, and refuses what it would answer with zeros.

The interpreter refuses at once what it could not run, and leaves the terminal alone.
"""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edgesdk.backends.litert.interpreter import InterpreterStepBackend
from edgesdk.backends.litert.open_litert import open_interpreter, open_tflite_runtime
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_sequence import CellSequence

TOKENS = np.arange(3, 43, dtype=np.int32)


@pytest.fixture(scope="module")
def int8_bundle(tmp_path_factory, request):
    """A tiny checkpoint in int8, with scales inside its products and behind them."""
    pytest.importorskip("tflite_runtime", reason="needs tflite-runtime")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(
        targets=("litert", "litert-static"), recipes=("w8-round",), context=256, prove=False
    )
    source = request.config.rootpath / "tests/data/tiny/llama"
    return open_bundle(convert(str(source), tmp_path_factory.mktemp("old") / "bundle", options))


def scores(bundle, name, opener):
    variant = bundle.variant(name)
    spec = bundle.manifest.decoder_of(variant)
    return CellSequence(opener(OpenRequest(bundle, variant, 1)).model, spec, 256).score(TOKENS)


def test_scales_inside_are_refused_in_one_line(int8_bundle):
    request = OpenRequest(int8_bundle, int8_bundle.variant("litert-w8-round"), 1)
    with pytest.raises(DeviceError, match=r"one scale only.*convert with --target litert-static") as caught:
        open_tflite_runtime(request)
    assert "\n" not in str(caught.value)


def test_scales_behind_the_product_are_right(int8_bundle):
    found = scores(int8_bundle, "litert-static-w8-round", open_tflite_runtime)
    expected = scores(int8_bundle, "litert-static-w8-round", open_interpreter)
    # Its own kernels round activations in another way.
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_cells_of_another_type_are_refused_when_it_is_opened(float_bundle):
    variant = replace(float_bundle.variant("litert-f32"), cell_type="int8")
    with pytest.raises(DeviceError, match=r"cells are int8, but the LiteRT file .* convert the bundle again"):
        open_interpreter(OpenRequest(float_bundle, variant, 1))


def test_a_signature_that_is_not_there_is_refused_when_it_is_opened(float_bundle):
    variant = float_bundle.variant("litert-f32")
    steps = tuple(replace(shape, signature=f"other_{shape.signature}") for shape in variant.steps)
    with pytest.raises(DeviceError, match="has no signature 'other_step_1'"):
        open_interpreter(OpenRequest(float_bundle, replace(variant, steps=steps), 1))


def test_its_delegate_says_nothing_on_the_terminal(float_bundle):
    command = [sys.executable, "-m", "edgesdk", "run", float_bundle.path, "hi", "--backend"]
    done = subprocess.run(
        [*command, "litert-interpreter", "--max-tokens", "3"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert "litert-interpreter on cpu" in done.stderr
    assert "INFO" not in done.stderr


def test_a_version_that_cannot_multiply_float16_cells_is_refused_when_it_opens(
    request, tmp_path, short_text, monkeypatch
):
    """By its first step, not by its number: here one that fails as 2.1.6 does."""
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(
        targets=("litert",),
        recipes=("w8",),
        context=64,
        prove=False,
        cells="float16",
        calibration=short_text,
    )
    bundle = open_bundle(
        convert(str(request.config.rootpath / "tests/data/tiny/qwen3"), tmp_path / "b", options)
    )
    (variant,) = bundle.manifest.variants
    open_interpreter(OpenRequest(bundle, variant, 1)).model.close()

    def fail(*_):
        raise DeviceError("the interpreter failed in step step_1: it is not prepared")

    monkeypatch.setattr(InterpreterStepBackend, "run", fail)
    with pytest.raises(DeviceError, match="cannot multiply float16 cells: upgrade it"):
        open_interpreter(OpenRequest(bundle, variant, 1))
