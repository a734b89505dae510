#!/usr/bin/env bash
# ai-edge-litert 2.3.0: what signatures that share their weights take in memory.
#
# A good guess: the weights once. Their buffer stands in the file once, and the file is mapped; that is why a
# decoder is written as one file with a signature for prompts and one for each token.
# Seen: Interpreter packs them for every signature of the file as soon as tensors are allocated, also for those
# that nobody calls: five further signatures over one matrix of 16 MB take 80 MB more. (CompiledModel, given a
# file for packed weights, holds them once.)
#
# Prints what is taken beside the file; fails if further signatures no longer take a copy each.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.1 psutil==7.1.3
cat > "$folder/measure.py" <<'PYTHON'
import sys
from pathlib import Path

import flatbuffers
import numpy as np
import psutil
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

SIDE = 2048


def tensor(name, shape, buffer=0):
    made = schema.TensorT()
    made.name, made.shape, made.hasRank, made.buffer = name, np.int32(shape), True, buffer
    made.type = schema.TensorType.FLOAT32
    return made


def mapping(name, index):
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, index
    return made


def write(path, count):
    """The same product for 1, 2, 3 .. rows, each a signature."""
    model = schema.ModelT()
    model.subgraphs, model.signatureDefs = [], []
    for i in range(count):
        layer = schema.OperatorT()
        layer.inputs, layer.outputs = np.int32([0, 1, -1]), np.int32([2])
        layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        layer.builtinOptions = schema.FullyConnectedOptionsT()
        graph, signature = schema.SubGraphT(), schema.SignatureDefT()
        graph.tensors = [tensor("x", (i + 1, SIDE)), tensor("w", (SIDE, SIDE), 1), tensor("y", (i + 1, SIDE))]
        graph.inputs, graph.outputs, graph.operators = np.int32([0]), np.int32([2]), [layer]
        signature.signatureKey, signature.subgraphIndex = f"rows_{i + 1}", i
        signature.inputs, signature.outputs = [mapping("x", 0)], [mapping("y", 2)]
        model.subgraphs.append(graph)
        model.signatureDefs.append(signature)
    code, empty, weights = schema.OperatorCodeT(), schema.BufferT(), schema.BufferT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    weights.data = np.random.default_rng(0).standard_normal(SIDE * SIDE, np.float32).view(np.uint8)
    model.version, model.operatorCodes, model.buffers = 3, [code], [empty, weights]
    builder = flatbuffers.Builder(1 << 25)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def taken():
    """Memory that is no file's, in 10^6 bytes."""
    seen = psutil.Process().memory_info()
    return (seen.rss - seen.shared) / 1e6


path, count = Path(sys.argv[1]), int(sys.argv[2])
if not path.exists():
    write(path, count)
    raise SystemExit
before = taken()
model = Interpreter(str(path), num_threads=1)
model.get_signature_runner("rows_1")(x=np.ones((1, SIDE), np.float32))
print(round(taken() - before))
PYTHON
for count in 1 6; do
  "$folder/env/bin/python" "$folder/measure.py" "$folder/$count.tflite" $count 2> "$folder/log"
  eval "with_$count=$("$folder/env/bin/python" "$folder/measure.py" "$folder/$count.tflite" $count 2> "$folder/log")"
done
echo "one matrix of 17 MB, the first signature called: ${with_1} MB with one signature, ${with_6} MB with six"
[ $((with_6 - with_1)) -ge 60 ] || { echo "this has changed"; exit 1; }
