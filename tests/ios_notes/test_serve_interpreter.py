"""The interpreter behind a pipe, as the Swift tests use it."""

import io
import json

import numpy as np
import pytest

from edgesdk.backends.coreml.interpreter import MilInterpreter

FUNCTION = "step_1_256"


@pytest.fixture(scope="module")
def interpreter(tiny_bundle):
    return MilInterpreter(tiny_bundle / "variants" / "coreml-w8-round" / "model.mlpackage")


@pytest.fixture
def inputs(interpreter):
    random = np.random.default_rng(1)
    made = {}
    for name, kind in interpreter.inputs(FUNCTION).items():
        if np.dtype(kind.dtype) == np.int32:
            made[name] = np.full(kind.shape, 3, np.int32)
        else:
            made[name] = random.standard_normal(kind.shape).astype(np.float16)
    return made


def ask(script, interpreter, inputs):
    described = [{"name": n, "type": str(a.dtype), "shape": list(a.shape)} for n, a in inputs.items()]
    header = json.dumps({"function": FUNCTION, "inputs": described}).encode() + b"\n"
    answers = io.BytesIO()
    requests = io.BytesIO(header + b"".join(array.tobytes() for array in inputs.values()))
    script("serve_interpreter").serve(interpreter, requests, answers)
    answers.seek(0)
    return answers


def test_it_answers_with_the_interpreters_outputs(script, interpreter, inputs):
    expected = interpreter.predict(FUNCTION, inputs)
    answers = ask(script, interpreter, inputs)
    described = json.loads(answers.readline())
    assert {entry["name"] for entry in described} == set(expected)
    for entry in described:
        data = answers.read(2 * int(np.prod(entry["shape"])))
        found = np.frombuffer(data, np.float16).reshape(entry["shape"])
        np.testing.assert_array_equal(found, expected[entry["name"]].astype(np.float16))
    assert not answers.read()


def test_inputs_that_the_package_does_not_declare_are_refused(script, interpreter, inputs):
    wrong = dict(inputs, mask=inputs["mask"][:, 1:])
    with pytest.raises(ValueError, match="mask of step_1_256"):
        ask(script, interpreter, wrong)
    del inputs["positions"]
    with pytest.raises(ValueError, match="expected"):
        ask(script, interpreter, inputs)
