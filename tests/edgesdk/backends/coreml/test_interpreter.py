"""The interpreter rounds as float16 does, and refuses what it does not know."""

import random

import numpy as np
import pytest

from edgesdk.backends.coreml.interpreter import MilInterpreter
from edgesdk.backends.coreml.mil_program import MODEL_PATH, WEIGHTS_PATH, read_program
from edgesdk.errors import BundleError, DeviceError, EdgeError


@pytest.fixture
def build(tmp_path):
    """A package of one function of any operations; the operands are float16 of 16 elements."""
    from edgesdk_converters.emit.coreml.mil_package import MilPackage

    def run(compute):
        package = MilPackage()
        inputs = {"a": ((16,), "fp16"), "b": ((16,), "fp16")}
        with package.function("f", inputs, {}) as function:
            made = compute(package.mb, *function.values.values())
            # Without any constant there were no weight file, as no model of edgesdk's is.
            ones = function.constant("ones", lambda: np.ones(16, np.float16))
            function.values["out"] = package.mb.mul(x=made, y=ones, name="out")
            function.returns(["out"])
        package.save(tmp_path / "any.mlpackage", "f")
        return tmp_path / "any.mlpackage"

    return run


def edited(package, change):
    """The package with its program changed."""
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / MODEL_PATH).read_bytes())
    for function in spec.mlProgram.functions.values():
        change(function.block_specializations[function.opset].operations)
    (package / MODEL_PATH).write_bytes(spec.SerializeToString())
    return package


def test_results_are_rounded_after_every_operation(build):
    path = build(lambda mb, a, b: mb.sub(x=mb.add(x=a, y=b), y=b))
    a, b = np.full(16, 1.0, np.float32), np.full(16, 2048.5, np.float32)
    out = MilInterpreter(path).predict("f", {"a": a, "b": b})["out"]
    # In float32 it were 1; 2048.5 becomes 2048 on entering, and 2049 is not a float16.
    np.testing.assert_array_equal(out, np.zeros(16))


def test_overflow_is_seen(build):
    path = build(lambda mb, a, b: mb.mul(x=a, y=b))
    a = np.full(16, 300, np.float32)
    assert np.isinf(MilInterpreter(path).predict("f", {"a": a, "b": a})["out"]).all()


def test_unknown_operations_are_refused_by_name(build):
    path = build(lambda mb, a, b: mb.floor(x=a))
    with pytest.raises(BundleError, match="'floor'"):
        MilInterpreter(path)


def test_unknown_parameters_are_refused(package):
    def rename(operations):
        next(op for op in operations if op.type == "softmax").inputs["colour"].CopyFrom(
            next(op for op in operations if op.type == "softmax").inputs["axis"]
        )

    with pytest.raises(BundleError, match="'colour'"):
        MilInterpreter(edited(package, rename))


def test_values_that_nothing_made_are_refused(package):
    def break_name(operations):
        next(op for op in operations if op.type == "softmax").inputs["x"].arguments[0].name = "nowhere"

    with pytest.raises(BundleError, match="'nowhere'"):
        MilInterpreter(edited(package, break_name))


def test_weights_elsewhere_are_refused(package):
    def move(operations):
        op = next(op for op in operations if op.type == "constexpr_blockwise_shift_scale")
        op.inputs["data"].arguments[0].value.blobFileValue.fileName = "/etc/passwd"

    with pytest.raises(BundleError, match="passwd"):
        MilInterpreter(edited(package, move))


def test_declared_shapes_are_checked(package, inputs):
    def shrink(operations):
        op = next(op for op in operations if op.type == "softmax")
        op.outputs[0].type.tensorType.dimensions[0].constant.size = 1

    with pytest.raises(BundleError, match="declared is"):
        MilInterpreter(edited(package, shrink)).predict("step_4", inputs)


def test_huge_tensors_are_refused(package):
    def grow(operations):
        op = next(op for op in operations if op.type == "softmax")
        for dim in op.outputs[0].type.tensorType.dimensions:
            dim.constant.size = 1 << 40

    with pytest.raises(BundleError, match="more than any step needs"):
        MilInterpreter(edited(package, grow))


def test_functions_share_unpacked_weights(package, inputs):
    interpreter = MilInterpreter(package)
    interpreter.predict("step_4", inputs)
    count = len(interpreter._weights)
    one = {**inputs, "tokens": inputs["tokens"][:1], "positions": inputs["positions"][:1]}
    one["mask"] = inputs["mask"][:1, :25]
    del one["rows"]
    interpreter.predict("step_1", one)
    assert len(interpreter._weights) == count


def test_tokens_outside_the_vocabulary_are_refused(package, inputs):
    inputs["tokens"] = np.array([64, 0, 0, 0], np.int32)
    with pytest.raises(BundleError, match="of 64"):
        MilInterpreter(package).predict("step_4", inputs)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tokens", np.zeros(3, np.int32)), ("tokens", np.zeros(4, np.int64)), ("mask", None)],
)
def test_wrong_inputs_are_refused(package, inputs, name, value):
    if value is None:
        del inputs[name]
    else:
        inputs[name] = value
    with pytest.raises(DeviceError, match=f"input '{name}'"):
        MilInterpreter(package).predict("step_4", inputs)


def test_unknown_functions_are_refused(package, inputs):
    with pytest.raises(DeviceError, match="it has step_1, step_4"):
        MilInterpreter(package).predict("main", inputs)


def test_no_program_at_all(package):
    (package / MODEL_PATH).write_bytes(b"")
    with pytest.raises(BundleError, match="no MIL program"):
        read_program(package)


def test_damaged_programs_end_in_one_line(package, inputs):
    """Flipped bytes and cut files: refused, or run to some numbers, never anything else."""
    draw = random.Random(1)
    path = package / MODEL_PATH
    original = path.read_bytes()
    refused = 0
    for _ in range(150):
        data = bytearray(original)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data if draw.random() < 0.8 else data[: draw.randrange(len(data))])
        try:
            MilInterpreter(package).predict("step_4", inputs)
        except EdgeError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


@pytest.fixture
def palettes(write_package, steps):
    """A package with palettes in place of integers."""
    return write_package(steps, recipe="p4-round")


@pytest.mark.parametrize("shape", [(3, 1, 16, 1), (2, 1, 8, 1), (2, 16), (2, 1, 16, 2), (0, 1, 16, 1)])
def test_palettes_that_do_not_fit_are_refused(palettes, inputs, shape):
    def reshape(operations):
        found = next(op for op in operations if op.type == "constexpr_lut_to_dense")
        value = found.inputs["lut"].arguments[0].value
        kind = value.type.tensorType
        kind.rank = len(shape)
        del kind.dimensions[:]
        for size in shape:
            kind.dimensions.add().constant.size = size
        if value.WhichOneof("value") == "immediateValue":
            value.immediateValue.tensor.bytes.values = bytes(2 * int(np.prod(shape)))

    with pytest.raises(BundleError, match=r"palettes of|weight\.bin is damaged"):
        MilInterpreter(edited(palettes, reshape)).predict("step_4", inputs)


def test_damaged_weights_end_in_one_line(package, inputs):
    draw = random.Random(2)
    path = package / WEIGHTS_PATH
    original = path.read_bytes()
    for _ in range(60):
        data = bytearray(original)
        for _ in range(3):
            data[draw.randrange(0, len(data), 64) + draw.randrange(24)] = draw.randrange(256)
        path.write_bytes(data[: draw.randrange(64, len(data))] if draw.random() < 0.2 else data)
        try:
            MilInterpreter(package).predict("step_4", inputs)
        except EdgeError as error:
            assert "\n" not in str(error)
