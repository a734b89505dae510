"""What the head reads, as a second output: the evaluator's, through every target and form that gives it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.port import Port
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.stack_record import StackRecord
from edgesdk.errors import UnsupportedOption
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs
from edgesdk_converters.graph.program import Program
from edgesdk_converters.reshape import Reshaping
from edgesdk_converters.transforms.give_hidden import give_hidden

TINY = Path(__file__).parent.parent / "data" / "tiny"
TARGETS = ("litert", "litert-static", "onnx-step")
CASES = [(name, target) for name in ("llama", "llama-untied-bias", "gemma2") for target in TARGETS]
if importlib.util.find_spec("coremltools"):
    CASES.append(("gemma2", "coreml"))
TEXT = np.random.default_rng(4).integers(3, 90, 30).astype(np.int32)
# Of the largest number. Random weights are the worst case of eight bits.
TOLERANCES = {"f32": 1e-3, "w8-round": 0.12}


def reference(source):
    checkpoint = open_checkpoint(source)
    spec = read_spec(checkpoint.config)
    program = give_hidden(Program(spec, build_decoder(spec), weights_for(checkpoint, spec)))
    return evaluate(program.graph, program.weights, sequence_inputs(program, [TEXT]))["hidden"]


def in_pieces(model):
    """States after a text that is run in pieces, after each piece, by the place of its last token."""
    sequence, found, start = model.new_sequence(), {}, 0
    for count in (1, 7, 1, 16, 5):
        sequence.extend(TEXT[start : start + count])
        start += count
        found[start - 1] = sequence.hidden.copy()
    sequence.close()
    return found


@pytest.mark.parametrize(("name", "target"), CASES)
def test_every_target_gives_it(tmp_path, name, target):
    recipes = ("f16",) if target == "coreml" else ("f32", "w8-round")
    options = ConvertOptions((target,), recipes, 64, hidden_states=True, prove=False)
    bundle = convert(str(TINY / name), tmp_path / "b", options)
    expected = reference(str(TINY / name))
    for variant in open_bundle(bundle).manifest.variants:
        assert variant.stacks == (StackRecord("main", outputs=(Port("hidden", ("R", expected.shape[1])),)),)
        backend = "coreml-interpreter" if target == "coreml" else "auto"
        with edgesdk.load(bundle, variant=variant.name, backend=backend, strict=True, threads=1) as model:
            for place, state in in_pieces(model).items():
                error = np.abs(state - expected[place]).max() / np.abs(expected[place]).max()
                assert error < TOLERANCES.get(variant.recipe, 1e-2), (variant.name, place)


def test_a_pruned_head_and_left_out_layers_leave_it(tmp_path):
    reshaping = Reshaping(prune_vocab="language=en,size=280,output-only", skip_layers="1.mlp")
    options = ConvertOptions(
        ("litert",), ("f32",), 64, reshaping=reshaping, hidden_states=True, allow_parity_miss=True
    )
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    whole = convert(
        str(TINY / "llama"),
        tmp_path / "w",
        ConvertOptions(
            ("litert",),
            ("f32",),
            64,
            reshaping=Reshaping(skip_layers="1.mlp"),
            hidden_states=True,
            prove=False,
        ),
    )
    with edgesdk.load(bundle, threads=1) as model, edgesdk.load(whole, threads=1) as other:
        assert model.score(TEXT).shape == other.score(TEXT).shape
        for place, state in in_pieces(model).items():
            assert np.abs(state - in_pieces(other)[place]).max() < 1e-4


def test_rows_of_drafts_and_of_more_than_a_step_has_come_with_the_logits(tmp_path):
    options = ConvertOptions(("litert-static",), ("f32",), 64, hidden_states=True, prove=False)
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options)
    expected = reference(str(TINY / "llama"))
    with edgesdk.load(bundle, threads=1) as model:
        runner = StepRunner(model.backend.backend, model.decoder, 64)
        cells, other = runner.new_list(), runner.new_list()
        runner.run([StepEntry(cells, TEXT[:20], "all"), StepEntry(other, TEXT[:3], "none")])
        assert runner.hidden[0].shape == (20, 64)  # a size has 8 rows
        assert np.abs(runner.hidden[0] - expected[:20]).max() < 1e-4
        assert runner.hidden[1] is None
        drafts = DraftTree(np.array([TEXT[21], 5], np.int32), np.array([-1, -1], np.int32))
        runner.run([StepEntry(cells, TEXT[20:21], "last", drafts), StepEntry(other, TEXT[3:4])])
        assert np.abs(runner.hidden[0][:2] - expected[20:22]).max() < 1e-4
        assert np.abs(runner.hidden[1] - expected[3]).max() < 1e-4
        sequence = model.new_sequence()
        sequence.extend(TEXT[:20])
        sequence.judge(TEXT[20:21], drafts.tokens, drafts.parents, lambda rows: (0,))
        assert np.abs(sequence.hidden - expected[21]).max() < 1e-4
        sequence.judge(TEXT[22:23], drafts.tokens, drafts.parents, lambda rows: ())
        assert np.abs(sequence.hidden - expected[22]).max() < 1e-4
        sequence.truncate(10)
        assert sequence.hidden is None
        sequence.close()


def test_without_the_wish_there_is_none(converted_once):
    bundle = converted_once(str(TINY / "llama"), targets=("litert",), recipes=("f32",), context=64)
    with edgesdk.load(bundle, threads=1) as model:
        sequence = model.new_sequence()
        sequence.extend(TEXT)
        assert sequence.hidden is None
        sequence.close()


@pytest.mark.parametrize("target", ["onnx", "coreml-state"])
def test_a_target_that_gives_logits_only_is_refused_by_name(tmp_path, target):
    with pytest.raises(UnsupportedOption, match=f"hidden states are for the targets .* found {target}"):
        convert(str(TINY / "llama"), tmp_path / "b", ConvertOptions((target,), hidden_states=True))
    assert not (tmp_path / "b").exists()
