#!/usr/bin/env bash
# ai-edge-litert 2.3.0: how the time to read a model grows with its operators.
#
# A good guess: it grows as they do; the Interpreter of the same package reads eight times as many in about
# eight times the time.
# Seen: LiteRtCreateModelFromFile, the first half of every CompiledModel, takes about seventy times as long for
# eight times as many: each tensor and each operator is added at the end of a list that is walked from its
# beginning (IrAllocator::EmplaceAt in litert/core/model/ir_allocator.h). A decoder of 30 layers with 3,500
# tensors in each of three signatures is read in 0.2 s instead of 0.05.
#
# Prints both ratios, of the processor time of one thread, between LiteRT's own lines; fails if the first is no
# longer far above the second.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.1
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import ctypes
import os
import sys
import time
from pathlib import Path

import ai_edge_litert
import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

FEW, TIMES = 1000, 8


def write(path, count):
    """A chain of additions, each of a tensor to itself."""
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    for i in range(count + 1):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = str(i).encode(), [1], 0
        graph.tensors.append(tensor)
    for i in range(count):
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [i, i], [i + 1]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], [count]
    model, code = schema.ModelT(), schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.ADD
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def seconds(read):
    """The least of five."""
    least = float("inf")
    for _ in range(5):
        start = time.thread_time()
        read()
        least = min(least, time.thread_time() - start)
    return least


library = ctypes.CDLL(str(next(Path(ai_edge_litert.__file__).parent.glob("libLiteRt.*"))))
environment = ctypes.c_void_p()
assert not library.LiteRtCreateEnvironment(0, None, ctypes.byref(environment))


def compiled(path):
    model = ctypes.c_void_p()
    assert not library.LiteRtCreateModelFromFile(environment, os.fsencode(path), ctypes.byref(model))
    library.LiteRtDestroyModel(model)


def interpreted(path):
    # Read and laid out, without the delegate that CompiledModel would add afterwards.
    Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


folder = Path(sys.argv[1])
small, large = folder / "small.tflite", folder / "large.tflite"
write(small, FEW)
write(large, FEW * TIMES)
ratios = []
for name, read in (("LiteRtCreateModelFromFile", compiled), ("Interpreter", interpreted)):
    before, after = (seconds(lambda path=path: read(path)) for path in (small, large))
    ratios.append(after / before)
    print(f"{name}: {TIMES} times as many operators take {ratios[-1]:.0f} times as long ({after:.3f} s)")
raise SystemExit("this has changed" if ratios[0] < 2.5 * ratios[1] else 0)
PYTHON
