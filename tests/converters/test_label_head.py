"""A head over labels: the head's own logits of a few tokens, whatever the weights are stored in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.exit_record import LABEL_COLUMNS, LABEL_HEAD
from edgesdk.bundle.reader import open_bundle
from edgesdk.dispatch.exit_rule import ExitRule, read_rule, write_rule
from edgesdk.errors import DeviceError, UnsupportedOption
from edgesdk.vectors.labelled_texts import LabelledText
from edgesdk.vectors.open_exits import has_label_head, open_exit_steps
from edgesdk_converters.training.train_exits import ExitTraining, train_exits

TINY = Path(__file__).parent.parent / "data" / "tiny"
TARGETS, RECIPES = ("litert", "onnx-step"), ("f32", "w8-round", "w4b32-round")
ASKED = {"labels": ["a", "b"], "examples": [("x y", "a"), ("z", "b")]}
TEXTS = ["a b c", "b c d e", "c", "d e f g h"]


@pytest.fixture(scope="module", params=["cwm", "gemma3"])
def every(request, converted_once):
    """Exits after two of three blocks: an untied head, and a tied one."""
    return converted_once(
        str(TINY / request.param), targets=TARGETS, recipes=RECIPES, context=64, exits="2", prove=False
    )


@pytest.fixture(scope="module")
def cwm(converted_once):
    return converted_once(
        str(TINY / "cwm"), targets=("litert",), recipes=("f32",), context=128, exits="2", prove=False
    )


@pytest.fixture(scope="module")
def without(cwm, tmp_path_factory):
    """The same as files were before there was this head."""
    copy = tmp_path_factory.mktemp("without") / "b"
    shutil.copytree(cwm, copy)
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    (variant,) = manifest["variants"]
    variant["stacks"] = [each for each in variant["stacks"] if each["name"] != LABEL_HEAD]
    variant["steps"] = [each for each in variant["steps"] if each.get("stack") != LABEL_HEAD]
    path.write_text(json.dumps(manifest))
    return copy


def logits_of(bundle, variant, streams, labels):
    """Of the head over labels, and of the head of all tokens at the same labels."""
    with edgesdk.load(bundle, variant=variant, strict=True, threads=1) as model:
        steps = open_exit_steps(model)
        return steps.label_logits(streams, labels), steps.logits(streams)[:, labels]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("count", [1, 3, 20])
def test_its_logits_are_those_of_the_head(every, recipe, count):
    """To the last bit in float32 and one LiteRT; int8 products round their rows, which this head does not."""
    decoder = open_bundle(every).manifest.decoder
    rng = np.random.default_rng(count)
    streams = rng.standard_normal((count, decoder.hidden_size)).astype(np.float32)
    labels = rng.permutation(decoder.vocab_size)[: LABEL_COLUMNS + 3].astype(np.int32)
    found, whole = logits_of(every, f"litert-{recipe}", streams, labels)
    onnx_found, onnx_whole = logits_of(every, f"onnx-step-{recipe}", streams, labels)
    largest = np.abs(whole).max()
    if recipe == "f32":
        np.testing.assert_array_equal(found, whole)
    assert np.abs(found - whole).max() < 0.02 * largest
    for other in (onnx_found, onnx_whole):  # the same integers, multiplied as floats
        assert np.abs(found - other).max() < 2e-6 * largest
    assert np.abs(onnx_found - onnx_whole).max() < 2e-6 * largest


def test_a_label_may_stand_anywhere_and_twice(cwm):
    decoder = open_bundle(cwm).manifest.decoder
    streams = np.random.default_rng(2).standard_normal((2, decoder.hidden_size)).astype(np.float32)
    labels = np.array([decoder.vocab_size - 1, 0, 5, 0], np.int32)
    found, whole = logits_of(cwm, "litert-f32", streams, labels)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("token", [-1, 1 << 20])
def test_what_is_no_token_is_refused(cwm, token):
    with edgesdk.load(cwm, threads=1) as model:
        steps = open_exit_steps(model)
        streams = np.zeros((1, steps.hidden_size), np.float32)
        with pytest.raises(DeviceError, match=f"token {token}, the model writes"):
            steps.label_logits(streams, np.array([3, token], np.int32))


def test_sizes_that_a_manifest_adds_are_picked_by_both_numbers(cwm, tmp_path):
    copy = tmp_path / "b"
    shutil.copytree(cwm, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (variant,) = manifest["variants"]
    head = next(step for step in variant["steps"] if step.get("stack") == LABEL_HEAD)
    variant["steps"].append({**head, "tokens": 4, "rows": 4})
    (copy / "manifest.json").write_text(json.dumps(manifest))
    streams = np.zeros((3, open_bundle(copy).manifest.decoder.hidden_size), np.float32)
    found, whole = logits_of(copy, "litert-f32", streams, np.arange(10, dtype=np.int32))
    np.testing.assert_array_equal(found, whole)


def test_classify_looks_with_it_and_says_so(cwm):
    with edgesdk.load(cwm, threads=1) as model:
        whole = model.classify_many(TEXTS, **ASKED)
        apart = model.classify_many(TEXTS, early_exit=ExitRule("top_prob", (2,), 2.0, head="labels"), **ASKED)
        over_all = model.classify_many(TEXTS, early_exit=ExitRule("top_prob", (2,), 2.0), **ASKED)
        assert (apart.figures.head, over_all.figures.head) == ("labels", "all")
        assert apart.figures.heads == over_all.figures.heads == 2 * len(TEXTS)
        cost = open_exit_steps(model).cost
        assert cost.look(1) == cost.look(LABEL_COLUMNS) == LABEL_COLUMNS * model.decoder.hidden_size
        assert cost.look(LABEL_COLUMNS + 1) == 2 * cost.look(1)
        # Of w for all blocks and h for a head: (w + 8 h) / (w + 4 h), and with the other one (w + 8 l) / ..
        share, heads = over_all.figures.work_share, len(TEXTS) * cost.head
        blocks = heads * (2 - share) / (share - 1)
        expected = (blocks + 2 * len(TEXTS) * cost.look(2)) / (blocks + heads)
        assert apart.figures.work_share == pytest.approx(expected)
        assert apart.figures.work_share < 1 < share
        for one, other, plain in zip(apart.results, over_all.results, whole.results, strict=True):
            assert one.label == other.label == plain.label
            assert one.chances["a"] == pytest.approx(other.chances["a"], abs=1e-12)
            assert one.chances["a"] == pytest.approx(plain.chances["a"], abs=1e-4)
        assert any("4 by a head over labels" in note for note in model.receipt.notes)


def test_chances_that_a_rule_reads_are_over_labels_without_its_offsets(cwm):
    """A threshold between the chance at the exit with offsets and the one without tells them apart."""
    with edgesdk.load(cwm, threads=1) as model:
        said = model.classify("a b c", early_exit="fixed:2", **ASKED)
        likeliest = max(said.chances.values())
        label = said.label
        plain = ExitRule("top_prob", (2,), likeliest - 1e-5, head="labels")
        assert model.classify("a b c", early_exit=plain, **ASKED).blocks == 2
        above = ExitRule("top_prob", (2,), likeliest + 1e-5, head="labels")
        assert model.classify("a b c", early_exit=above, **ASKED).blocks == 3
        lean = tuple(-4.0 if each == label else 0.0 for each in ("a", "b"))  # makes it likelier still
        moved = ExitRule(
            "top_prob", (2,), likeliest + 1e-5, head="labels", labels=("a", "b"), offsets=(lean, lean)
        )
        assert model.classify("a b c", early_exit=moved, **ASKED).blocks == 2


def test_label_prob_is_that_rule_in_short(cwm):
    with edgesdk.load(cwm, threads=1) as model:
        found = model.classify_many(TEXTS, early_exit="label_prob:0.5", **ASKED)
        assert found.figures.exits == {2: 4}  # of two labels one has half of the chance
        with pytest.raises(UnsupportedOption, match="expected label_prob:NUMBER, above 0 and at most 1"):
            model.classify("x", ["a", "b"], early_exit="label_prob:0")


def test_written_answers_stay_with_the_whole_head(cwm, tmp_path):
    path = tmp_path / "rule.json"
    write_rule(path, ExitRule("top_prob", (2,), 0.9, head="labels"))
    with edgesdk.load(cwm, threads=1) as model:
        for given in ("label_prob:0.9", path):
            with pytest.raises(UnsupportedOption, match=r"reads the chances of labels.*--head all"):
                model.generate("ab", max_tokens=2, early_exit=given)
        fixed = ExitRule("fixed", (2,), head="labels")  # reads none
        answer = model.generate("ab", max_tokens=4, temperature=0.0, early_exit=fixed, ignore_eos=True)
        assert answer.exits.head == "all"


def test_files_without_it_go_on_as_they_did(cwm, without, tmp_path):
    texts = [LabelledText(f"word {i * 37 % 101}", "ab"[i % 2]) for i in range(70)]
    training = ExitTraining("top_prob", shots=1, head="labels")
    with pytest.raises(UnsupportedOption, match="no head over labels; convert it again with --exits"):
        train_exits(str(without), texts, tmp_path / "r.json", training, threads=1)
    assert not (tmp_path / "r.json").exists()
    with edgesdk.load(cwm, threads=1) as new, edgesdk.load(without, threads=1) as old:
        assert (has_label_head(new), has_label_head(old)) == (True, False)
        for rule in ("fixed:2", "top_prob:0.2"):
            one, other = (model.classify_many(TEXTS, early_exit=rule, **ASKED) for model in (new, old))
            assert other.figures.head == "all"
            assert one.results == other.results
        with pytest.raises(UnsupportedOption, match="reads a head over labels, which the bundle has not"):
            old.classify("x", ["a", "b"], early_exit="label_prob:0.9")


def test_a_rule_file_from_before_reads_all_tokens(cwm, tmp_path):
    path = tmp_path / "rule.json"
    write_rule(path, ExitRule("top_prob", (2,), 0.9))
    told = json.loads(path.read_text())
    assert told.pop("head") == "all"
    path.write_text(json.dumps(told))
    with edgesdk.load(cwm, threads=1) as model:
        stacks = open_exit_steps(model).stacks
        assert read_rule(path, stacks, "") == ExitRule("top_prob", (2,), 0.9)
        assert model.classify_many(TEXTS, early_exit=path, **ASKED).figures.head == "all"
        path.write_text(json.dumps({**told, "head": "some"}))
        with pytest.raises(UnsupportedOption, match="is no rule of this version"):
            model.classify("x", ["a", "b"], early_exit=path)


@pytest.mark.real
@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_of_the_real_model_it_is_the_head(smollm2_gguf, converted_once, recipe):
    """To the last bit in float32; int8 products of the head round its rows, of which it then differs."""
    bundle = converted_once(
        smollm2_gguf, targets=("litert",), recipes=(recipe,), context=512, exits="18,22,26", prove=False
    )
    with edgesdk.load(bundle, threads=1) as model:
        ids = np.asarray(model.tokenize("The quick brown fox jumps over the lazy dog."), np.int32)
        steps = open_exit_steps(model)
        lists, streams = steps.new_lists(), []
        for token in ids:
            streams.append(steps.run_through(lists, token[None])[0])
        rows = np.stack(streams)
        whole = steps.logits(rows)
        labels = np.unique(whole.argmax(1)).astype(np.int32)
        found = steps.label_logits(rows, labels)
        if recipe == "f32":
            np.testing.assert_array_equal(found, whole[:, labels])
        assert np.abs(found - whole[:, labels]).max() < 0.04 * np.abs(whole).max()
        asked = {"labels": ["positive", "negative"]}
        plain = model.classify("Dull, slow and far too long.", **asked)
        never = ExitRule("top_prob", (18, 22, 26), 2.0, head="labels")
        ended = model.classify("Dull, slow and far too long.", early_exit=never, **asked)
        assert (ended.blocks, ended.heads, plain.blocks) == (30, 4, 30)
        close = 1e-4 if recipe == "f32" else 0.1
        assert ended.chances["positive"] == pytest.approx(plain.chances["positive"], abs=close)
