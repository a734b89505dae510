"""Profiles ONNX variants by the profile that ONNX Runtime writes, beside the sizes of the file's weights.

Nodes carry the name of their first output after the operator's (`MatMulNBits/layers.3.o.out`); one that ONNX
Runtime fuses keeps the name of one of its parts. Weights are counted from the file, because those that ONNX
Runtime packs anew no longer count as parameters in its profile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgesdk.backends.cell_arrays import cell_views
from edgesdk.backends.onnxruntime_resident import ResidentSequence
from edgesdk.backends.onnxruntime_session import onnxruntime_errors, open_session
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.protocol import Cells, Int, StepBuffers
from edgesdk.backends.resident_adapters import ResidentAdapters
from edgesdk.backends.turns import Turns
from edgesdk.bundle.drafts import scratch_folder
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_names import onnx_tensors
from edgesdk.errors import BundleError, DeviceError, MissingExtra
from edgesdk.evaluation.profile_litert import Profiled
from edgesdk.evaluation.step_profile import OperationTime, layer_of, mean_of_faster_half

_SUFFIX = "_kernel_time"
_RUN = "SequentialExecutor::Execute"  # the nodes of a run, without binding its inputs


def profile_step_file(
    path: Path, threads: int, contract: StepContract, arrays: StepBuffers, cells: Cells, repeat: int
) -> Profiled:
    """Profiles one size of a step variant.

    Args:
        path: the ONNX file of that size.
        threads: CPU threads.
        contract: what it takes.
        arrays: its inputs, filled.
        cells: float32, for its S.
        repeat: profiled runs.

    Raises:
        DeviceError: onnxruntime failed.
        MissingExtra: `onnx`, which reads the file, is not installed.
    """
    tensors = onnx_tensors(contract)
    feeds = {tensor.name: arrays.port(tensor.port.name) for tensor in tensors.ports_in}
    for cell, view in zip(tensors.cells, cell_views(tensors.cells, cells), strict=True):
        feeds[cell.name] = view
    weights = weight_bytes(path, len(arrays.tokens))
    with scratch_folder() as folder:
        session = open_session(path, threads, profile=Path(folder, "step"))
        with onnxruntime_errors("failed"):
            for _ in range(repeat + 1):
                session.run(None, feeds)
            profile = Path(session.end_profiling())
        return read_profile(profile, weights, repeat)


def profile_resident(request: OpenRequest, prompt: Int, tokens: Int, repeat: int) -> Profiled:
    """Profiles extending a sequence of a resident variant.

    Args:
        request: what to open.
        prompt: tokens that the sequence holds before.
        tokens: tokens of the step.
        repeat: profiled runs.

    Raises:
        CapacityError: they do not fit the context.
        DeviceError: onnxruntime failed.
        MissingExtra: `onnx`, which reads the file, is not installed.
    """
    bundle, variant = request.bundle, request.variant
    path = bundle.file(variant.entry)
    weights = weight_bytes(path, len(tokens))
    with scratch_folder() as folder:
        session = open_session(path, request.threads, profile=Path(folder, "resident"))
        spec, none = bundle.manifest.decoder_of(variant), ResidentAdapters({})
        sequence = ResidentSequence(session, Turns(session), spec, variant.context, none)
        sequence.extend(prompt)
        for _ in range(repeat + 1):
            sequence.extend(tokens)
            sequence.truncate(len(prompt))
        sequence.close()
        with onnxruntime_errors("failed"):
            profile = Path(session.end_profiling())
        return read_profile(profile, weights, repeat)


def read_profile(path: Path, weights: Mapping[str, int], repeat: int) -> Profiled:
    """The last runs of a profile.

    Args:
        path: what ONNX Runtime wrote.
        weights: bytes that each node reads, by the name of its first output.
        repeat: how many runs.

    Raises:
        DeviceError: the profile has fewer runs, or other nodes from run to run.
    """
    events = json.loads(path.read_text(encoding="utf-8"))
    runs = [e for e in events if e["cat"] == "Session" and e["name"] == _RUN][-repeat:]
    nodes = [e for e in events if e["cat"] == "Node" and e["name"].endswith(_SUFFIX)]
    if len(runs) < repeat:
        raise DeviceError(f"onnxruntime's profile has {len(runs)} runs, expected {repeat}")
    inside = [[n for n in nodes if run["ts"] <= n["ts"] < run["ts"] + run["dur"]] for run in runs]
    try:
        run_us, means = mean_of_faster_half(
            [
                (float(run["dur"]), [float(n["dur"]) for n in found])
                for run, found in zip(runs, inside, strict=True)
            ]
        )
    except ValueError as error:
        raise DeviceError("onnxruntime ran other nodes from run to run") from error
    operations = []
    for node, mean in zip(inside[0], means, strict=True):
        name = output_name(node["name"].removesuffix(_SUFFIX))
        operations.append(
            OperationTime(name, node["args"]["op_name"], layer_of(name), mean, weights.get(name, 0))
        )
    return Profiled(tuple(operations), run_us, ("profiling adds a few microseconds to every operation",))


def output_name(node: str) -> str:
    """What a node computes, by its name: `layers.0.gated` of `Mul/layers.0.gated/QuickGeluFusion/`."""
    parts = node.split("/")
    return parts[1] if len(parts) > 1 and parts[1] else node


def weight_bytes(path: Path, tokens: int) -> dict[str, int]:
    """Bytes of weights that each node of an ONNX file reads, by the name of its first output.

    Args:
        path: the file; weights beside it are not opened.
        tokens: T: a table that is gathered from is read in so many rows.

    Raises:
        MissingExtra: `onnx` is not installed.
        BundleError: the file is no ONNX model.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "convert") from error
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's own error types differ by its version
        raise BundleError(f"{path.name} is no readable ONNX model; convert the bundle again") from error
    sizes: dict[str, tuple[int, int]] = {}
    for tensor in graph.initializer:
        bits = _bits(tensor.data_type, onnx.helper.tensor_dtype_to_np_dtype)
        sizes[tensor.name] = (-(-math.prod(tensor.dims) * bits // 8), tensor.dims[0] if tensor.dims else 1)
    # A constant that is only reshaped is not read by that.
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    found = {}
    for node in graph.node:
        # Attention looks its rotary tables up by position.
        gathers = node.op_type.startswith("Gather") or node.op_type == "GroupQueryAttention"
        read = 0
        for name in node.input:
            size, rows = sizes.get(name, (0, 1))
            read += size // max(1, rows) * tokens if gathers and rows > 1 else size
        found[node.output[0]] = 0 if node.op_type == "Reshape" else read
    return found


def _bits(data_type: int, to_numpy: Callable[[int], np.dtype[np.generic]]) -> int:
    from onnx import TensorProto

    if data_type in (TensorProto.INT4, TensorProto.UINT4):
        return 4
    return int(to_numpy(data_type).itemsize) * 8
