#!/usr/bin/env bash
# onnxruntime 1.32.0: what int8 products on the CPU make of an activation that is NaN or infinite.
#
# A good guess: NaN in, NaN out, as in every float product, so a check of a model's logits finds it.
# Seen: DynamicQuantizeLinear + MatMulInteger and MatMulNBits with accuracy_level 4 give ordinary numbers for a
# row that holds a NaN; MatMulNBits with float activations (accuracy_level 1) gives NaN. The ONNX
# specification of DynamicQuantizeLinear says nothing of NaN.
#
# Prints one line for each product; fails if any of them changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q onnxruntime==1.32.0 onnx==1.22.0 numpy==2.4.1
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.disable_telemetry_events()
K, N, BLOCK = 64, 32, 32
random = np.random.default_rng(1)


def run(nodes, weights, row):
    """The product of one row, as the CPU computes it."""
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, K])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, N])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": row})[0]


def dynamic(row):
    weights = {"w": random.integers(-127, 127, (K, N)).astype(np.int8), "w_scale": np.float32([0.01])}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "w_scale"], ["both"]),
        helper.make_node("Mul", ["floats", "both"], ["y"]),
    ]
    return run(nodes, weights, row)


def four_bits(row, accuracy):
    weights = {
        "w": random.integers(0, 255, (N, K // BLOCK, BLOCK // 2)).astype(np.uint8),
        "s": np.full(N * K // BLOCK, 0.01, np.float32),
    }
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft",
        K=K, N=N, bits=4, block_size=BLOCK, accuracy_level=accuracy,
    )  # fmt: skip
    return run([node], weights, row)


row = random.standard_normal((1, K)).astype(np.float32)
row[0, 3] = np.nan
expected = {"DynamicQuantizeLinear + MatMulInteger": "numbers", "MatMulNBits, accuracy 4": "numbers",
            "MatMulNBits, accuracy 1": "NaN"}  # fmt: skip
found = {
    "DynamicQuantizeLinear + MatMulInteger": dynamic(row),
    "MatMulNBits, accuracy 4": four_bits(row, 4),
    "MatMulNBits, accuracy 1": four_bits(row, 1),
}
failed = False
for name, values in found.items():
    said = "NaN" if np.isnan(values).all() else "numbers" if np.isfinite(values).all() else "a mixture"
    print(f"{name}: a NaN among {K} activations gives {said}")
    failed |= said != expected[name]
raise SystemExit("this has changed" if failed else 0)
PYTHON
