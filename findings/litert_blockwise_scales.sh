#!/usr/bin/env bash
# ai-edge-litert 2.3.0: with which scales a fully connected layer in blocks of int4 is computed on the CPU.
#
# A good guess: with those in the file. LiteRT wants them as float16 numbers, of 11 significant bits.
# Seen: XNNPACK, which takes these layers, multiplies with the nearest bfloat16 number, of 8 bits: each block of
# weights is up to 0.4 % larger or smaller than the file says. Every scale that is no bfloat16 number is
# rounded; those that are, are used as they stand. A converter that rounds its scales to bfloat16 first, and
# its weights by these, loses nothing.
#
# Prints how far the scales in use are from both; fails if they are no longer the nearest bfloat16 numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.1 ml-dtypes==0.5.4
"$folder/env/bin/python" - "$folder/layer.tflite" <<'PYTHON'
import sys
from pathlib import Path

import flatbuffers
import ml_dtypes
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

ROWS, COLUMNS, BLOCK = 64, 128, 32
TOP = 7  # the weight at the start of each block


def tensor(name, shape, kind, buffer=0):
    made = schema.TensorT()
    made.name, made.shape, made.hasRank, made.buffer = name, np.int32(shape), True, buffer
    made.type = getattr(schema.TensorType, kind)
    return made


def buffer(data=None):
    made = schema.BufferT()
    made.data = data
    return made


def write(path, weights, scales):
    """One layer: y = x W', with a scale for each 32 weights of a row."""
    nibbles = (weights & 15).astype(np.uint8).reshape(-1, 2)
    matrix = tensor("w", (ROWS, COLUMNS), "INT4", 1)
    blocks = schema.BlockwiseQuantizationT()
    blocks.scales, blocks.zeroPoints, blocks.blockSize = 2, -1, BLOCK
    matrix.quantization = schema.QuantizationParametersT()
    matrix.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    matrix.quantization.details, matrix.quantization.quantizedDimension = blocks, 0

    layer = schema.OperatorT()
    layer.inputs, layer.outputs = np.int32([0, 1, -1]), np.int32([3])
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    layer.builtinOptions.asymmetricQuantizeInputs = True

    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("x", (1, COLUMNS), "FLOAT32"),
        matrix,
        tensor("scales", scales.shape, "FLOAT16", 2),
        tensor("y", (1, ROWS), "FLOAT32"),
    ]
    graph.inputs, graph.outputs, graph.operators = np.int32([0]), np.int32([3]), [layer]
    code, model = schema.OperatorCodeT(), schema.ModelT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 13
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(), buffer(nibbles[:, 0] | nibbles[:, 1] << 4), buffer(scales.reshape(-1).view(np.uint8))]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


random = np.random.default_rng(0)
weights = random.integers(-8, 8, (ROWS, COLUMNS)).astype(np.int8)
weights[:, ::BLOCK] = TOP
scales = random.uniform(0.01, 0.02, (ROWS, COLUMNS // BLOCK)).astype(np.float16)
path = Path(sys.argv[1])
write(path, weights, scales)
layer = Interpreter(str(path), num_threads=1)
layer.allocate_tensors()
used = np.empty(scales.shape, np.float32)
for at in range(scales.shape[1]):
    # A single 1 among zeros is rounded to 8 bits without loss, so what comes out is scale times weight.
    x = np.zeros((1, COLUMNS), np.float32)
    x[0, at * BLOCK] = 1
    layer.set_tensor(layer.get_input_details()[0]["index"], x)
    layer.invoke()
    used[:, at] = layer.get_tensor(layer.get_output_details()[0]["index"])[0] / TOP
away = {}
for name, kind in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
    stated = scales.astype(kind).astype(np.float32)
    away[name] = float(np.abs(used / stated - 1).max())
    print(f"scales in use and the {name} numbers nearest to those in the file: at most {away[name]:.2%} apart")
raise SystemExit("this has changed" if away["bfloat16"] > 1e-5 or away["float16"] < 1e-3 else 0)
PYTHON
