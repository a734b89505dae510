"""Models over one data file, read back by the `onnx` package and run."""

import numpy as np
import onnx
import onnxruntime
import pytest

from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.model_file import ExternalData, OnnxModel


def write(folder, names):
    """Models that add one large constant, which they share."""
    made = []

    def large():
        made.append(1)
        return np.arange(70_000, dtype=np.float32)

    with ExternalData(folder / "w.data") as data:
        for name in names:
            model = OnnxModel(name, data)
            model.input("x", "FLOAT", (1,))
            small = model.constant("small", "FLOAT", (3,), lambda: np.ones(3, np.float32))
            key = model.constant("large", "FLOAT", (70_000,), large)
            model.node("Add", ["x", key], ["y"])
            model.node("Add", ["x", small], ["z"])
            model.output("y", "FLOAT", (70_000,))
            model.output("z", "FLOAT", (3,))
            model.save(folder / f"{name}.onnx")
    return len(made)


def test_models_share_one_copy(tmp_path):
    assert write(tmp_path, ["a", "b"]) == 1
    assert (tmp_path / "w.data").stat().st_size == 280_000
    for name in "ab":
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"))
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        y, z = session.run(None, {"x": np.float32([2])})
        np.testing.assert_array_equal(y, np.arange(70_000, dtype=np.float32) + 2)
        assert z.tolist() == [3, 3, 3]


def test_small_constants_stay_inside(tmp_path):
    write(tmp_path, ["a"])
    stored = {t.name: t for t in onnx.load(tmp_path / "a.onnx", load_external_data=False).graph.initializer}
    assert not stored["small"].external_data
    assert {e.key for e in stored["large"].external_data} == {"location", "offset", "length"}


def test_a_constant_of_another_shape_is_refused(tmp_path):
    with (
        ExternalData(tmp_path / "w.data") as data,
        pytest.raises(EmitError, match=r"'c' has 4 elements, its shape \(5,\)"),
    ):
        data.tensor("c", "FLOAT", (5,), lambda: np.ones(4, np.float32))


def test_a_closed_file_takes_nothing(tmp_path):
    data = ExternalData(tmp_path / "w.data")
    with pytest.raises(EmitError, match="closed"):
        data.tensor("c", "FLOAT", (1000,), lambda: np.ones(1000, np.float32))
