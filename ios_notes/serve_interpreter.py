"""Runs a bundle's Core ML program for the Swift tests, on any platform, in place of Core ML.

    EDGEMODEL_PYTHON=$(which python) swift test --package-path ios_notes/EdgeModel

The tests start this script and talk to it through its standard input and output. A request is a line of
JSON, `{"function": NAME, "inputs": [{"name", "type", "shape"}, ...]}`, and the inputs' bytes in that order;
the answer is a line of JSON, `[{"name", "shape"}, ...]`, and the outputs' bytes in float16. Names, types and
shapes must be those of the package. So all of the Swift host is run on a real package, except Core ML itself.
"""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.coreml.interpreter import MilInterpreter
from edgesdk.bundle.reader import open_bundle

_LONGEST_HEADER_BYTES = 1 << 20


def serve(interpreter: MilInterpreter, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more.

    Args:
        interpreter: of a package with cells.
        requests: to read from.
        answers: to write to.

    Raises:
        ValueError: an input is not what the package declares, or is cut short.
    """
    while header := requests.readline(_LONGEST_HEADER_BYTES):
        request = json.loads(header)
        function = request["function"]
        declared = interpreter.inputs(function)
        inputs: dict[str, NDArray[np.generic]] = {}
        for entry in request["inputs"]:
            name, kind = entry["name"], np.dtype(entry["type"])
            expected = declared[name]
            if (kind, tuple(entry["shape"])) != (np.dtype(expected.dtype), tuple(expected.shape)):
                raise ValueError(f"{name} of {function} is {kind} {entry['shape']}, expected {expected}")
            count = int(np.prod(expected.shape))
            data = requests.read(count * kind.itemsize)
            inputs[name] = np.frombuffer(data, kind, count).reshape(expected.shape)
        if inputs.keys() != declared.keys():
            raise ValueError(f"{function} got {sorted(inputs)}, expected {sorted(declared)}")
        outputs = interpreter.predict(function, inputs)
        described = [{"name": name, "shape": list(array.shape)} for name, array in outputs.items()]
        answers.write(json.dumps(described).encode() + b"\n")
        for array in outputs.values():
            answers.write(np.ascontiguousarray(array, np.float16).tobytes())
        answers.flush()


def main() -> int:
    """Runs the script: `serve_interpreter.py BUNDLE VARIANT`."""
    bundle = open_bundle(sys.argv[1])
    package = bundle.file(bundle.variant(sys.argv[2]).entry).parent
    serve(MilInterpreter(package), sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
