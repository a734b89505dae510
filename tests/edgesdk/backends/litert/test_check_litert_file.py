"""Every file that the emitter writes passes; damaged ones and those of another contract do not."""

import ast
import copy
import dataclasses
import random
import struct
from pathlib import Path

import pytest

from edgesdk.backends.litert import check_litert_file as module
from edgesdk.backends.litert.check_litert_file import check_litert_file
from edgesdk.backends.litert.check_signature import TYPES, LitertContract, check_contract
from edgesdk.backends.litert.flatbuffer import Flatbuffer
from edgesdk.backends.litert.keep_signatures import changed_places
from edgesdk.backends.litert.operator_shapes import OPERATORS, Operand
from edgesdk.bundle.step_contract import main_stack, step_contracts
from edgesdk.bundle.step_names import litert_tensors
from edgesdk.bundle.step_shape import MAIN
from edgesdk.errors import BundleError, DeviceError

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert")

ROOT = Path(__file__).parents[4]


def contract_of(bundle, variant):
    vocab_size = bundle.manifest.decoder_of(variant).vocab_size
    contracts = step_contracts(bundle.manifest, variant)
    return LitertContract(contracts, variant.steps, vocab_size, variant.context)


@pytest.fixture
def file(float_bundle):
    return float_bundle.file(float_bundle.variant("litert-f32").entry)


@pytest.fixture
def contract(float_bundle):
    return contract_of(float_bundle, float_bundle.variant("litert-f32"))


def test_numbers_are_those_of_the_schema():
    for number, operator in OPERATORS.items():
        assert getattr(schema.BuiltinOperator, operator.name) == number
    names = {v: k for k, v in vars(schema.BuiltinOptions).items() if isinstance(v, int)}
    options = {operator.name: names[operator.options] for operator in OPERATORS.values() if operator.options}
    shared = dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), "ReducerOptions")
    shared |= dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimumOptions")
    assert options["FULLY_CONNECTED"] == "FullyConnectedOptions"
    for name, found in options.items():
        if name in shared:
            assert found == shared[name]
        else:
            assert found.removesuffix("Options").lower() == name.replace("_", "").lower()


def test_every_operator_that_the_emitter_names_is_known():
    named = set()
    for path in (ROOT / "converters/edgesdk_converters/emit/litert").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if getattr(getattr(call, "func", None), "attr", None) in ("emit", "op", "binary"):
                named.update(
                    a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                )
    named = {name for name in named if name.isupper()}
    assert len(named) > 15
    assert named <= {operator.name for operator in OPERATORS.values()}


@pytest.mark.parametrize("checkpoint", ["gemma3", "smollm3", "phi3"])
@pytest.mark.parametrize(
    ("target", "recipe", "cells"),
    [
        ("litert", "w8-round", "int8"),
        ("litert", "w4b32-round", "float16"),
        ("litert-static", "w4c-round", "float32"),
        ("litert-static", "f16", "float32"),
    ],
)
def test_what_is_written_passes(checkpoint, target, recipe, cells, tmp_path):
    from edgesdk.bundle.reader import open_bundle
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions((target,), (recipe,), 64, prove=False, cells=cells)
    bundle = open_bundle(convert(str(ROOT / "tests/data/tiny" / checkpoint), tmp_path / "b", options))
    for variant in bundle.manifest.variants:
        check_litert_file(bundle.file(variant.entry), contract_of(bundle, variant))


def test_damaged_files_end_in_one_line(file, contract, tmp_path):
    whole, draw, refused = file.read_bytes(), random.Random(1), 0
    path = tmp_path / "model.tflite"
    for _ in range(80):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data) // 2)] = draw.randrange(256)
        path.write_bytes(data if draw.random() < 0.8 else data[: draw.randrange(len(data))])
        try:
            check_litert_file(path, contract)
        except (BundleError, DeviceError) as error:
            refused += 1
            assert "\n" not in str(error)
            assert len(str(error)) < 400
    assert refused > 20


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x08\0\0\0TFL3" + bytes(40), bytes(64), b"x" * 5000])
def test_what_is_no_file_of_ours_is_refused(data, contract, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"^model\.tflite (is damaged|cannot be read)"):
        check_litert_file(path, contract)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"vocab_size": 999}, "logits"),
        ({"head_rows": 7, "tied_head": False}, "logits"),
    ],
)
def test_a_file_of_another_contract_is_refused(float_bundle, file, contract, change, match):
    spec = dataclasses.replace(float_bundle.manifest.decoder, **change)
    with pytest.raises(DeviceError, match=match):
        check_litert_file(file, dataclasses.replace(contract, contracts=main_stack(spec)))


def test_a_file_with_other_heads_is_refused(float_bundle, file, contract, other_mixers):
    spec = other_mixers(float_bundle.manifest.decoder, kv_heads=1)
    with pytest.raises(DeviceError, match="k_cache"):
        check_litert_file(file, dataclasses.replace(contract, contracts=main_stack(spec)))


def test_tables_must_reach_as_far_as_ids_do(file, contract):
    with pytest.raises(DeviceError, match="fewer rows than there are positions"):
        check_litert_file(file, dataclasses.replace(contract, context=10_000))


def test_rows_must_be_picked_from_all_tokens(contract):
    step = max(contract.steps)
    assert step.tokens > 1
    tensors = litert_tensors(contract.contracts[MAIN])
    inputs, outputs = (
        {tensor.name: Operand(tensor.shape(step), TYPES[tensor.dtype]) for tensor in wanted}
        for wanted in ((*tensors.inputs_of(step), *tensors.cells), (*tensors.ports_out, *tensors.new))
    )
    check_contract(contract, step, inputs, outputs, {"rows": step.tokens})
    with pytest.raises(DeviceError, match="fewer rows than there are rows"):
        check_contract(contract, step, inputs, outputs, {"rows": step.tokens - 1})
    check_contract(contract, step, inputs, outputs, {"labels": contract.vocab_size})
    with pytest.raises(DeviceError, match="fewer rows than there are labels"):
        check_contract(contract, step, inputs, outputs, {"labels": contract.vocab_size - 1})
    with pytest.raises(DeviceError, match=r"picked from by 'mask\.new_first', whose values nobody bounds"):
        check_contract(contract, step, inputs, outputs, {"mask.new_first": 1 << 20})


@pytest.fixture
def edited(file, contract, tmp_path, monkeypatch):
    """Checks the file after a change of the schema's own objects, which are packed without alignment."""
    monkeypatch.setattr(module, "_ALIGNMENT_BYTES", 1)

    def check(change):
        path = tmp_path / "model.tflite"
        path.write_bytes(packed(file, change))
        check_litert_file(path, contract)

    return check


def packed(file, change):
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read_bytes(), 0))
    change(model)
    builder = flatbuffers.Builder(1 << 16)
    for buffer in model.buffers:
        buffer.offset = buffer.size = 0
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def first(model, name):
    wanted = getattr(schema.BuiltinOperator, name)
    codes = [code.builtinCode for code in model.operatorCodes]
    return next(op for op in model.subgraphs[0].operators if codes[op.opcodeIndex] == wanted)


def by_constants(model):
    """Rows that the file picks itself, all of them there."""
    gather, graph = first(model, "GATHER"), model.subgraphs[0]
    model.buffers.append(schema.BufferT(data=bytes(4 * graph.tensors[gather.inputs[1]].shape[0])))
    constant = copy.deepcopy(graph.tensors[gather.inputs[1]])
    constant.buffer, constant.name, constant.shapeSignature = len(model.buffers) - 1, b"constant", None
    graph.tensors.append(constant)
    gather.inputs = [gather.inputs[0], len(graph.tensors) - 1]


def once_more(model, key, graph=None):
    """The first signature under another name, with a graph of its own where none is given."""
    signature = copy.deepcopy(model.signatureDefs[0])
    signature.signatureKey = key
    if graph is None:
        model.subgraphs.append(copy.deepcopy(model.subgraphs[signature.subgraphIndex]))
        graph = len(model.subgraphs) - 1
    signature.subgraphIndex = graph
    model.signatureDefs.append(signature)


def test_two_signatures_of_one_graph_are_refused(edited):
    edited(lambda model: once_more(model, b"other"))
    with pytest.raises(BundleError, match="two signatures have one graph"):
        edited(lambda model: once_more(model, b"other", model.signatureDefs[0].subgraphIndex))


def test_the_careful_form_of_a_step_is_no_other_step(file, contract, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ALIGNMENT_BYTES", 1)
    path = tmp_path / "model.tflite"
    path.write_bytes(packed(file, lambda model: once_more(model, b"step_1_wide")))
    check_litert_file(path, contract)
    few = next(step for step in contract.steps if step.tokens == step.rows == 8)
    steps = (*contract.steps, dataclasses.replace(few, signature="step_1_wide"))
    with pytest.raises(DeviceError, match=r"not as its manifest says|has the shape"):
        check_litert_file(path, dataclasses.replace(contract, steps=steps))


@pytest.mark.parametrize("place", [0, 2])
def test_what_is_changed_when_signatures_are_left_out_is_nothing_else(file, contract, tmp_path, place):
    data = bytearray(file.read_bytes())
    with memoryview(data) as view:
        flat = Flatbuffer(view)
        at, _ = changed_places(flat)[place]
        model = flat.root(b"TFL3")
        signatures = flat.tables(model, 7, 9)
        named = [(signature, 2) for signature in signatures]
        named += [(tensor, 3) for graph in flat.tables(model, 2, 9) for tensor in flat.tables(graph, 0, 9999)]
        before = next(table.at + table.fields[name] for table, name in named if table.at + table.size <= at)
        struct.pack_into("<I", view, before, at - before)  # a name lies there, too
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(BundleError, match="is something else, too"):
        check_litert_file(path, contract)


def test_packed_anew_it_is_the_same_file(edited):
    edited(lambda model: None)


def test_a_custom_operator_is_refused(edited):
    def change(model):
        model.operatorCodes[0].customCode = b"mine"

    with pytest.raises(BundleError, match="operator of another library"):
        edited(change)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: setattr(m.operatorCodes[0], "version", 99), "in version 99"),
        (lambda m: by_constants(m), "by what is no input"),
        (lambda m: setattr(first(m, "FULLY_CONNECTED"), "inputs", [0, 10**6, -1]), "not there"),
        (lambda m: setattr(first(m, "MUL"), "outputs", [0]), "taken|gives"),
        (lambda m: setattr(first(m, "RESHAPE"), "inputs", [0, 0]), "constants|not there|nothing has made"),
        (lambda m: setattr(first(m, "SOFTMAX"), "mutatingVariableInputs", [True]), "parts that no file"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [7]), "gives|shape"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "isVariable", True), "parts that no file"),
        (lambda m: setattr(m.subgraphs[0], "inputs", m.subgraphs[0].inputs[:1]), "nothing has made|differ"),
        (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 99), "no graph"),
        (lambda m: setattr(m, "metadata", [schema.MetadataT()]), "parts that no file"),
        (lambda m: setattr(m.buffers[5], "data", m.buffers[5].data[:-1]), "bytes, expected"),
    ],
)
def test_whole_flatbuffers_that_mean_something_else_are_refused(edited, change, match):
    with pytest.raises(BundleError, match=match):
        edited(change)


def test_scales_of_blocks_are_not_sparse(tmp_path, monkeypatch):
    """LiteRT reads them as they lie, behind the buffer's end where some are left out."""
    from edgesdk.bundle.reader import open_bundle
    from edgesdk_converters.convert import ConvertOptions, convert

    monkeypatch.setattr(module, "_ALIGNMENT_BYTES", 1)
    options = ConvertOptions(("litert",), ("w4b32-round",), 64, prove=False)
    bundle = open_bundle(convert(str(ROOT / "tests/data/tiny/llama"), tmp_path / "b", options))
    (variant,) = bundle.manifest.variants
    file, path = bundle.file(variant.entry), tmp_path / "model.tflite"

    def vector(values):
        found = schema.Int32VectorT()
        found.values = values
        return found

    def change(model):
        tensors = model.subgraphs[0].tensors
        details = next(
            t.quantization.details for t in tensors if t.quantization and t.quantization.details is not None
        )
        scales = tensors[details.scales]
        rows, columns = map(int, scales.shape)
        sizes = [schema.DimensionMetadataT() for _ in range(4)]
        for size, length in zip(sizes, (rows, None, 1, columns), strict=True):
            size.format, size.denseSize = (1, 0) if length is None else (0, length)
        sizes[1].arraySegmentsType = sizes[1].arrayIndicesType = 1
        sizes[1].arraySegments, sizes[1].arrayIndices = vector([0, *[1] * rows]), vector([0])
        scales.sparsity = schema.SparsityParametersT()
        scales.sparsity.traversalOrder, scales.sparsity.blockMap = [0, 1, 2, 3], [0, 1]
        scales.sparsity.dimMetadata = sizes
        model.buffers.append(schema.BufferT(data=bytes(2 * columns)))
        scales.buffer = len(model.buffers) - 1

    path.write_bytes(packed(file, lambda model: None))
    check_litert_file(path, contract_of(bundle, variant))
    path.write_bytes(packed(file, change))
    with pytest.raises(BundleError, match=r"scales of blocks .* every one of them there"):
        check_litert_file(path, contract_of(bundle, variant))
