"""Convolutions see the tokens before their own wherever those lie: as run, against transformers' logits.

The tiny LFM2 checkpoint as LiteRT file and as ONNX steps, in float32. However a text is cut, shared, guessed,
moved or kept, the logits are those of the whole text.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_shape import MAIN
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.failover_steps import FailoverStepBackend
from edgesdk.dispatch.split_steps import SplitStepBackend
from edgesdk.engine.engine import Engine
from edgesdk.errors import DeviceError, EmitError
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk.kv.prefix_tree import PrefixTree
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk_converters.convert import ConvertOptions, convert

FOLDER = Path(__file__).parent / "data" / "tiny" / "lfm2"
CONTEXT = 64
TOLERANCE = 1e-4  # of the largest logit
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}


@pytest.fixture(scope="module")
def bundle(converted_once):
    options = {"recipes": ("f32",), "context": CONTEXT, "prove": False}
    return open_bundle(converted_once(FOLDER, targets=("litert", "onnx-step"), **options))


@pytest.fixture(scope="module")
def spec(bundle):
    return bundle.manifest.decoder


@pytest.fixture(scope="module")
def text():
    """Tokens of one sequence, and transformers' logits after each."""
    with np.load(FOLDER / "reference.npz") as file:
        count = int(file["lengths"][0])
        return file["tokens"][:count].astype(np.int32), file["logits"][:count]


def open_litert(bundle):
    variant = bundle.variant("litert-f32")
    contracts = step_contracts(bundle.manifest, variant)
    path = bundle.file(variant.entry)
    return CompiledStepBackend(path, contracts, variant.steps, threads=1, weight_cache=None)


def open_onnx(bundle):
    return OnnxStepBackend(bundle, bundle.variant("onnx-step-f32"), threads=1)


OPENERS = {"litert": open_litert, "onnx-step": open_onnx}


@pytest.fixture(scope="module", params=OPENERS)
def backend(request, bundle):
    opened = OPENERS[request.param](bundle)
    yield opened
    opened.close()


def near(found, expected):
    return float(np.abs(found - expected).max()) < TOLERANCE * float(np.abs(expected).max())


def ids(*tokens):
    return np.array(tokens, np.int32)


@pytest.mark.parametrize("pieces", [(36,), (1,) * 36, (2, 1, 3, 7, 1, 1, 21), (17, 19)])
def test_whole_and_in_pieces(backend, spec, text, pieces):
    tokens, expected = text
    sequence, start = CellSequence(backend, spec, CONTEXT), 0
    for count in pieces:
        assert near(sequence.score(tokens[start : start + count]), expected[start : start + count])
        start += count
    sequence.truncate(5)  # the next piece sees what is left, and nothing of what was there
    assert near(sequence.extend(tokens[5:9]), expected[8])
    sequence.close()


def test_what_is_before_matters(backend, spec, text):
    """Else the tests here would pass with convolutions that see their own token only."""
    tokens, expected = text
    runner = StepRunner(backend, spec, CONTEXT)
    cells = runner.new_list()
    runner.run([StepEntry(cells, tokens[:6])])
    held = runner.pool.contract.held
    runner.pool.cells.arrays[held][:] = 0
    assert not near(runner.run_next(cells, tokens[6:7]), expected[6])
    cells.close()


def test_in_company_forked_and_drafted(backend, spec, text):
    tokens, expected = text
    runner = StepRunner(backend, spec, CONTEXT)
    first, other = runner.new_list(), runner.new_list()
    runner.run([StepEntry(first, tokens[:1]), StepEntry(other, tokens[20:27])])
    found = runner.run([StepEntry(other, tokens[27:30]), StepEntry(first, tokens[1:4], "all")])
    assert near(found[1], expected[1:4])
    fork = first.fork()
    found = runner.run([StepEntry(first, tokens[4:5]), StepEntry(other, ids(3)), StepEntry(fork, ids(9, 8))])
    assert near(found[0], expected[4])
    fork.close()
    # A wrong branch, the right one, and one below it that goes on from the wrong place.
    right, wrong = int(tokens[6]), int(tokens[6]) ^ 1
    tree = DraftTree(ids(wrong, right, int(tokens[7]), int(tokens[7])), ids(-1, -1, 1, 0))
    (found,) = runner.run([StepEntry(first, tokens[5:6], "last", tree)])
    assert near(found[[0, 2, 3]], expected[5:8])
    assert not near(found[4], expected[7])
    runner.keep(first, [1, 2])
    other.close()  # leaves a gap
    assert near(runner.run_next(first, tokens[8:9]), expected[8])
    assert runner.pool.compact() > 0
    for place in range(9, 12):
        assert near(runner.run_next(first, tokens[place : place + 1]), expected[place])
    first.close()


def test_prefixes_and_snapshots(backend, spec, text, tmp_path):
    tokens, expected = text
    runner = StepRunner(backend, spec, CONTEXT)
    cells = runner.new_list()
    runner.run([StepEntry(cells, tokens[:10])])
    save_snapshot(tmp_path / "x", runner, cells, "model")
    tree = PrefixTree(runner.pool, 1 << 20)
    tree.insert(cells)
    cells.close()
    again = runner.new_list()
    count, matched = tree.match(tokens[:14])
    again.adopt(tokens[:count], matched)
    assert again.length == 10
    (found,) = runner.run([StepEntry(again, tokens[10:14], "all")])
    assert near(found, expected[10:14])
    other = StepRunner(backend, spec, CONTEXT)
    restored = load_snapshot(tmp_path / "x", other, spec, "model")
    assert near(other.run_next(restored, tokens[10:11]), expected[10])
    for each in (again, restored):
        each.close()
    tree.clear()


class Failing:
    """A real backend that is lost after some steps."""

    def __init__(self, backend, steps):
        self._backend, self.left = backend, steps
        self.contracts, self.shapes = backend.contracts, backend.shapes
        self.buffers, self.close = backend.buffers, backend.close

    def run(self, shape, cells):
        if not self.left:
            raise DeviceError("device lost")
        self.left -= 1
        self._backend.run(shape, cells)


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_another_backend_goes_on(bundle, spec, text, steps):
    tokens, expected = text
    litert, onnx = (Runner("v", name, "cpu", "P") for name in ("litert", "onnx"))
    backend = FailoverStepBackend(
        Failing(open_litert(bundle), steps), litert, [(onnx, lambda: (onnx, open_onnx(bundle)))]
    )
    sequence = CellSequence(backend, spec, CONTEXT)
    assert near(sequence.score(tokens[:7]), expected[:7])
    for place in range(7, 13):
        assert near(sequence.extend(tokens[place : place + 1]), expected[place])
    assert near(sequence.score(tokens[13:30]), expected[13:30])
    assert backend.runner == onnx
    backend.close()


def test_prompts_on_one_backend_and_decoding_on_another(bundle, spec, text):
    tokens, expected = text
    backend = SplitStepBackend(open_litert(bundle), open_onnx(bundle))
    sequence = CellSequence(backend, spec, CONTEXT)
    assert near(sequence.extend(tokens[:20]), expected[19])
    for place in range(20, 24):
        assert near(sequence.extend(tokens[place : place + 1]), expected[place])
    assert near(sequence.extend(tokens[24:36]), expected[35])
    backend.close()


@pytest.mark.parametrize("target", ["litert", "onnx-step"])
def test_model_engine_and_session_answer_alike(bundle, text, target):
    prompt = text[0][:20].tolist()
    with edgesdk.load(bundle.path, variant=f"{target}-f32", threads=1, draft="lookup") as model:
        answer = list(model.generate(prompt, max_tokens=24, **GREEDY).tokens)
    with Engine(edgesdk.load(bundle.path, variant=f"{target}-f32", threads=1)) as engine:
        asked = [engine.submit(prompt[:length], max_tokens=8, **GREEDY) for length in (20, 7, 20)]
        found = [list(each.result().tokens) for each in asked]
        assert found[0] == found[2] == answer[:8]
        with engine.session() as session:
            assert list(session.generate(prompt, max_tokens=24, **GREEDY).tokens) == answer


@pytest.mark.parametrize("target", ["onnx", "coreml", "coreml-state"])
def test_who_cannot_hold_them_says_so(tmp_path, target):
    options = ConvertOptions(targets=(target,), recipes=("f16",), context=CONTEXT)
    with pytest.raises(
        EmitError, match=r"lfm2 has 3 convolutions, which .* does not hold; emit the step variant"
    ):
        convert(str(FOLDER), tmp_path / "b", options)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("cells", ["float16", "int8"])
def test_narrow_cells_keep_what_convolutions_read_in_float32(tmp_path, spec, text, cells):
    tokens, expected = text
    options = ConvertOptions(("litert",), ("f32",), CONTEXT, prove=False, cells=cells)
    narrow = open_bundle(convert(str(FOLDER), tmp_path / "b", options))
    (variant,) = narrow.manifest.variants
    contract = step_contracts(narrow.manifest, variant)[MAIN]
    assert [group.dtype for group in contract.groups][-1] == "float32"
    with edgesdk.load(narrow.path, threads=1) as model:
        found = model.score(tokens)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_a_manifest_with_a_convolution_that_sees_nothing_is_refused(spec):
    with pytest.raises(ValueError, match="sees 1 tokens, expected 2 to 8"):
        dataclasses.replace(spec.blocks[0].convolution, kernel=1)
    odd = dataclasses.replace(spec.blocks[0], mixer=dataclasses.replace(spec.blocks[0].mixer, kernel=4))
    with pytest.raises(ValueError, match="convolutions see 3 and 4 tokens, expected one number"):
        dataclasses.replace(spec, blocks=(odd, *spec.blocks[1:]))
