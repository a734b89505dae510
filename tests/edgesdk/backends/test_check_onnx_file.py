"""The check of ONNX files: the emitters' own operators and no other, agreement with the `onnx` package."""

import ast
import math
import random
from pathlib import Path

import pytest

from edgesdk.backends.check_onnx_file import CONTRIB, OPERATORS, check_onnx_file
from edgesdk.errors import BundleError

onnx = pytest.importorskip("onnx", reason="needs the extra 'convert'")

EMITTERS = Path(__file__).parents[3] / "converters" / "edgesdk_converters" / "emit" / "onnx"


@pytest.fixture
def file(onnx_bundle):
    return onnx_bundle.bundle.file("variants/step/t1_s48.onnx")


@pytest.fixture
def beside(file):
    return {path.name: path.stat().st_size for path in file.parent.iterdir()}


def test_every_operator_that_an_emitter_names_is_known():
    """Calls of `node` and `binary` name their operator first; those that do not are found by the models."""
    named = set()
    for path in EMITTERS.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(call, "func", None)
            if getattr(called, "attr", None) in ("node", "binary") and call.args:
                named.update(n.value for n in ast.walk(call.args[0]) if isinstance(n, ast.Constant))
    assert len(named) > 20
    assert named <= {kind for _, kind in OPERATORS}


def test_a_compiled_part_may_hold_its_binary_or_name_a_listed_file(tmp_path):
    def write(**attributes):
        node = onnx.helper.make_node("EPContext", ["x"], ["y"], domain=CONTRIB, **attributes)
        info = onnx.helper.make_tensor_value_info("x", 1, [1])
        out = onnx.helper.make_tensor_value_info("y", 1, [1])
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [info], [out]), producer_name="")
        model.metadata_props.add(key="ep_compatibility_info.x", value="1")
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    check_onnx_file(write(embed_mode=1, ep_cache_context=b"\xff" * 9), {}, compiled=True)
    check_onnx_file(write(ep_cache_context="inside"), {}, compiled=True)
    listed = write(embed_mode=0, ep_cache_context="m_qnn.bin")
    check_onnx_file(listed, {"m_qnn.bin": 1}, compiled=True)
    with pytest.raises(BundleError, match=r"loads 'm_qnn.bin', which the manifest does not list beside it"):
        check_onnx_file(listed, {}, compiled=True)
    with pytest.raises(BundleError, match=r"has the field 14 in the model|has the operator 'EPContext'"):
        check_onnx_file(listed, {"m_qnn.bin": 1})


def test_what_is_taken_is_the_same_model_to_the_onnx_package(file, beside, tmp_path):
    whole, draw, taken = file.read_bytes(), random.Random(3), 0
    path = tmp_path / "m.onnx"
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            check_onnx_file(path, beside)
        except BundleError as error:
            assert "\n" not in str(error)
            continue
        try:
            model = onnx.ModelProto.FromString(bytes(data))
        except Exception:  # noqa: BLE001 - types and texts are left to the runtime's own parser
            continue
        taken += 1
        assert {(node.domain, node.op_type) for node in model.graph.node} <= OPERATORS
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                assert entry.key != "location" or entry.value in beside
    assert taken > 10


def test_two_graphs_are_not_one(file, beside, tmp_path):
    """Protobuf merges what stands twice, so a second graph would add to the first unseen."""
    path = tmp_path / "m.onnx"
    path.write_bytes(file.read_bytes() * 2)
    with pytest.raises(BundleError, match="twice in the model"):
        check_onnx_file(path, beside)


@pytest.mark.parametrize("data", [b"", b"\0", b"text that is no model", b"\x3a\x7f"])
def test_what_is_no_model_is_one_line(data, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"^m\.onnx .*\.?") as caught:
        check_onnx_file(path, {})
    assert "\n" not in str(caught.value)


def test_dimensions_are_counted_before_they_are_multiplied(tmp_path, monkeypatch):
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1] * 9, raw_data=b"1234")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor]), producer_name="")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.setattr(math, "prod", lambda _: pytest.fail("they were multiplied"))
    with pytest.raises(BundleError, match="the tensor 'w' of an impossible shape"):
        check_onnx_file(path, {})
