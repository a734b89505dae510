"""A decoder in segments converted beside the whole: switched off nothing changes, run to the end neither."""

import json
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.exit_record import EXIT_HEAD, LABEL_HEAD
from edgesdk.bundle.reader import open_bundle
from edgesdk.dispatch.exit_prompts import run_prompts
from edgesdk.dispatch.exit_rule import ExitRule, read_rule, write_rule
from edgesdk.errors import BundleError, CapacityError, DeviceError, TransformError, UnsupportedOption
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk.vectors.classify import label_chances
from edgesdk.vectors.open_exits import open_exit_steps
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.reshape import Reshaping

TINY = Path(__file__).parent.parent / "data" / "tiny"
TARGETS = ("litert", "onnx-step")
RECIPES = ("f32", "w8-round")
TEXT = np.random.default_rng(5).integers(3, 90, 40).astype(np.int32)


def options(targets=TARGETS, recipes=RECIPES, **more):
    return ConvertOptions(targets, recipes, context=64, allow_parity_miss=True, **more)


@pytest.fixture(scope="module", params=["cwm", "gemma3"])
def both(request, tmp_path_factory):
    """A bundle with exits after two of its three blocks, and the same without."""
    folder = tmp_path_factory.mktemp("exits")
    with_exits = convert(str(TINY / request.param), folder / "with", options(exits="2"))
    return with_exits, convert(str(TINY / request.param), folder / "without", options())


@pytest.fixture(scope="module")
def cwm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cwm")
    return convert(str(TINY / "cwm"), folder / "b", options(("litert",), ("f32",), exits="2"))


VARIANTS = [f"{target}-{recipe}" for target in TARGETS for recipe in RECIPES]


def expect_same(found, expected, variant):
    """Equal bits; but ONNX Runtime rounds unpacked int8 products by their rows, and a head has few."""
    if variant == "onnx-step-w8-round":
        assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_switched_off_it_gives_the_bits_of_a_file_without(both, variant):
    found = []
    for bundle in both:
        with edgesdk.load(bundle, variant=variant, strict=True, threads=1) as model:
            answer = model.generate("ab", max_tokens=12, temperature=0.0)
            assert answer.exits is None
            found.append((model.score(TEXT), answer.tokens))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_run_to_the_end_segments_give_the_bits_of_the_whole(both, variant):
    """In pieces and token by token, alone and several prompts in a step."""
    with edgesdk.load(both[0], variant=variant, strict=True, threads=1) as model:
        whole = model.new_sequence()
        steps = open_exit_steps(model)
        lists = steps.new_lists()
        done = 0
        for count in (17, 1, 1, 9, 1, 11):
            piece = TEXT[done : done + count]
            stream, run = steps.run_through(lists, piece)
            assert run == 2
            expect_same(steps.logits(stream[None])[0], whole.extend(piece), variant)
            done += count
        prompts = [TEXT[:5], TEXT[3:30], TEXT[10:11], TEXT[20:26]]
        for ran, prompt in zip(run_prompts(open_exit_steps(model), prompts, None), prompts, strict=True):
            whole.truncate(0)
            expected = whole.extend(prompt)
            close = np.abs(ran.logits - expected).max() < 2e-5 * np.abs(expected).max()
            assert close or "w8" in variant
            assert (ran.blocks, ran.heads) == (3, 1)
        whole.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_exit_says_what_the_model_of_its_blocks_says(tmp_path, both, variant):
    """The head at an exit is the model's own: a model converted without the third block is the same."""
    name = "cwm" if "cwm" in open_bundle(both[0]).manifest.decoder.architecture else "gemma3"
    target = next(each for each in TARGETS if variant.startswith(f"{each}-"))
    recipe = variant.removeprefix(f"{target}-")
    shallow = convert(
        str(TINY / name), tmp_path / "s", options((target,), (recipe,), reshaping=Reshaping(skip_layers="2"))
    )
    with edgesdk.load(shallow, strict=True, threads=1) as less:
        sequence = less.new_sequence()
        expected = sequence.extend(TEXT[:20]).copy()
        sequence.close()
    with edgesdk.load(both[0], variant=variant, strict=True, threads=1) as model:
        (ran,) = run_prompts(
            open_exit_steps(model), [TEXT[:20]], read_rule("fixed:2", open_exit_steps(model).stacks, "")
        )
    expect_same(ran.logits, expected, variant)
    assert (ran.blocks, ran.heads, ran.seen) == (2, 1, [])  # a fixed block reads no features


def test_a_fixed_exit_answers_and_says_what_it_did(both):
    with edgesdk.load(both[0], variant="litert-f32", threads=1) as model:
        plain = model.generate("ab", max_tokens=12, temperature=0.0, ignore_eos=True)
        never = model.generate(
            "ab", max_tokens=12, temperature=0.0, ignore_eos=True, early_exit="top_prob:1.0"
        )
        assert never.tokens == plain.tokens
        assert never.exits.exits == {3: 11}
        assert (never.exits.blocks_share, never.exits.filled, never.exits.heads) == (1.0, 0, 22)
        assert never.exits.work_share > 1
        early = model.generate("ab", max_tokens=12, temperature=0.0, ignore_eos=True, early_exit="fixed:2")
        assert early.tokens[0] == plain.tokens[0]  # the prompt runs through the whole model
        assert early.exits.exits == {2: 11}
        assert early.exits.filled == 11
        assert early.exits.blocks_share == pytest.approx(2 / 3)
        assert any(note.startswith("early exits: 83% of 3 blocks") for note in model.receipt.notes)
        again = model.generate("ab", max_tokens=12, temperature=0.0, ignore_eos=True)
        assert again.tokens == plain.tokens  # nothing that left early is gone on with


def test_texts_of_a_batch_leave_one_by_one(cwm):
    """Eight prompts in one step, some of which leave: each is what it is alone."""
    with edgesdk.load(cwm, threads=1) as model:
        prompts = [TEXT[i : i + 6 + i] for i in range(8)]
        steps = open_exit_steps(model)
        chances = []
        watched = list(run_prompts(steps, prompts, None, watch=lambda b, p, z: None))
        for each in watched:
            assert len(each.seen) == 1
            chances.append(each.seen[0][1])
        middle = float(np.median(chances))
        rule = ExitRule("top_prob", (2,), middle)
        together = list(run_prompts(steps, prompts, rule))
        assert {each.blocks for each in together} == {2, 3}
        for each, prompt, chance in zip(together, prompts, chances, strict=True):
            (alone,) = run_prompts(steps, [prompt], rule)
            if abs(chance - middle) > 1e-6:
                assert each.blocks == (2 if chance > middle else 3) == alone.blocks
            assert np.abs(each.logits - alone.logits).max() < 1e-4 * np.abs(alone.logits).max()
        assert all(runner.pool.used == 0 for runner in steps.runners)


def test_a_beginning_is_run_once_and_shared(cwm):
    with edgesdk.load(cwm, threads=1) as model:
        texts = ["a b c", "b c d e", "c", "d e f g h"]
        kwargs = {"labels": ["a", "b"], "examples": [("x y", "a"), ("z", "b")]}
        many = model.classify_many(texts, early_exit="fixed:2", **kwargs)
        assert many.figures.exits == {2: 4}
        whole = model.classify_many(texts, **kwargs)
        assert whole.figures is None
        ended = model.classify_many(texts, early_exit="top_prob:1.0", **kwargs)
        for text, early, full, end in zip(texts, many.results, whole.results, ended.results, strict=True):
            one = model.classify(text, early_exit="fixed:2", **kwargs)
            assert one.label == early.label
            assert one.chances["a"] == pytest.approx(early.chances["a"], abs=1e-4)
            assert end.chances["a"] == pytest.approx(full.chances["a"], abs=1e-4)
            assert (early.blocks, full.blocks, early.heads, end.heads) == (2, 3, 1, 2)
            assert sum(full.chances.values()) == pytest.approx(1)


def test_a_prompt_of_one_token_runs_through_the_whole_model(cwm):
    with edgesdk.load(cwm, threads=1) as model:
        first = model.generate([5], max_tokens=1, temperature=0.0, early_exit="fixed:2", ignore_eos=True)
        assert first.exits.exits == {}
        assert first.tokens == model.generate([5], max_tokens=1, temperature=0.0, ignore_eos=True).tokens
        later = model.generate([5], max_tokens=4, temperature=0.0, early_exit="fixed:2", ignore_eos=True)
        assert later.exits.exits == {2: 3}


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_labels_are_not_told_by_what_is_no_number(number):
    logits = np.zeros(9, np.float32)
    logits[4] = number
    with pytest.raises(DeviceError, match="logits that are not finite"):
        label_chances(logits[3:5])
    assert label_chances(logits[[3, 5]]).tolist() == pytest.approx([-np.log(2)] * 2)


def test_offsets_of_a_rule_are_taken_off_the_labels_that_it_was_made_for(cwm):
    with edgesdk.load(cwm, threads=1) as model:
        plain = model.classify("x", ["a", "b"], early_exit="fixed:2")
        rule = ExitRule("fixed", (2,), labels=("b", "a"), offsets=((0.0, 5.0), (0.0, 0.0)))
        moved = model.classify("x", ["a", "b"], early_exit=rule)
        odds = [np.log(each.chances["a"] / each.chances["b"]) for each in (plain, moved)]
        assert odds[0] - odds[1] == pytest.approx(5.0, abs=1e-3)
        assert model.classify("x", ["a", "c"], early_exit=rule) == model.classify(
            "x", ["a", "c"], early_exit="fixed:2"
        )


def test_the_manifest_says_what_there_is(cwm):
    bundle = open_bundle(cwm)
    (variant,) = bundle.manifest.variants
    stacks = bundle.manifest.exits_of(variant)
    assert (stacks.exits, stacks.blocks) == ((2, 3), 3)
    assert {each.name for each in variant.stacks} == {"to_2", "from_2", EXIT_HEAD, LABEL_HEAD, "fill_2"}
    assert verify_bundle(cwm) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda stacks: stacks.pop(0), "segments end after"),
        (lambda stacks: stacks.pop(2), "'exit_head' of the decoder is missing"),
        (lambda stacks: stacks.pop(4), "'fill_2' of the decoder is missing"),
        (lambda stacks: stacks[0]["exit"].update(last=3), "is a part of a decoder|describes 2 blocks"),
        (lambda stacks: stacks[0]["decoder"].update(hidden_size=128), "of another decoder"),
        (lambda stacks: stacks[2]["exit"].update(part="tail"), "expected|tail"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(cwm, tmp_path, change, reason):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(cwm, copy)
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    stacks = manifest["variants"][0]["stacks"]
    change(stacks)
    named = {each["name"] for each in stacks} | {"main"}
    steps = manifest["variants"][0]["steps"]
    manifest["variants"][0]["steps"] = [each for each in steps if each.get("stack", "main") in named]
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=reason):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("fixed:5", "the rule leaves after block 5, the bundle can be left after 2"),
        ("fixed:x", "expected fixed:NUMBER, one of 2"),
        ("top_prob:2", "expected top_prob:NUMBER, above 0 and at most 1"),
        ("nowhere.json", "the rule nowhere.json cannot be read"),
        (7, "early_exit is 7, expected a rule"),
        (ExitRule("fixed", (2,), numbers="0" * 64), "made for a bundle with other weights"),
    ],
)
def test_a_rule_that_does_not_suit_is_refused(cwm, given, reason):
    with edgesdk.load(cwm, threads=1) as model:
        with pytest.raises(UnsupportedOption, match=reason):
            model.generate("ab", max_tokens=2, early_exit=given)
        with pytest.raises(UnsupportedOption, match=reason):
            model.classify("ab", ["a", "b"], early_exit=given)


def test_a_rule_file_of_something_else_is_refused(cwm, tmp_path):
    path = tmp_path / "rule.json"
    with edgesdk.load(cwm, threads=1) as model:
        for text, reason in (
            ("{", "is no rule for exits"),
            ("[]", "is no rule of this version"),
            ('{"kind": "svm", "exits": [2], "surprise": 1}', "is no rule of this version"),
            ('{"kind": "svm", "exits": [2], "features": ["gap"]}', "different lengths"),
            ('{"kind": "top_prob", "exits": [2], "threshold": 1e999}', "rule"),
        ):
            path.write_text(text)
            with pytest.raises(UnsupportedOption, match=reason):
                model.classify("ab", ["a", "b"], early_exit=path)
        path.write_bytes(b" " * ((1 << 20) + 1))
        with pytest.raises(UnsupportedOption, match="larger than 1 MiB"):
            model.classify("ab", ["a", "b"], early_exit=path)
        write_rule(path, ExitRule("fixed", (2,)))
        assert model.classify("ab", ["a", "b"], early_exit=str(path)).blocks == 2


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["a"], "1 labels are given"),
        ("ab", "expected a list of words"),
        (["a", "a"], "begin with the same token"),
        (["a", ""], "begins with no token of its own"),
        (["a", 3], "a label is 3, expected a text"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(cwm, labels, reason):
    with edgesdk.load(cwm, threads=1) as model, pytest.raises(UnsupportedOption, match=reason):
        model.classify("text", labels)


def test_examples_and_texts_that_do_not_suit_are_refused(cwm):
    with edgesdk.load(cwm, threads=1) as model:
        with pytest.raises(UnsupportedOption, match="an example has the label 'c'"):
            model.classify("x", ["a", "b"], examples=[("y", "c")])
        with pytest.raises(UnsupportedOption, match="an example is 5, expected a text and its label"):
            model.classify("x", ["a", "b"], examples=[5])
        with pytest.raises(CapacityError, match="context"):
            model.classify("x" * 200, ["a", "b"], early_exit="fixed:2")
        with pytest.raises(CapacityError, match="context"):
            model.classify("x" * 200, ["a", "b"])


def test_a_bundle_without_exits_refuses_rules_and_classifies(tmp_path):
    bundle = convert(str(TINY / "llama"), tmp_path / "b", options(("litert",), ("f32",)))
    with edgesdk.load(bundle, threads=1) as model:
        assert model.classify("x", ["a", "b"]).blocks == 2
        with pytest.raises(UnsupportedOption, match="the bundle has no exits; convert it with --exits"):
            model.classify("x", ["a", "b"], early_exit="fixed:2")
        with pytest.raises(UnsupportedOption, match="the bundle has no exits"):
            model.chat([{"role": "user", "content": "x"}], early_exit="fixed:2")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"targets": ("onnx",)}, "exits are for the targets litert, onnx-step, found onnx"),
        ({"targets": ("litert", "coreml")}, "found coreml"),
        ({"targets": ("coreml-state",)}, "found coreml-state"),
        ({"exits": "two"}, "exits are 'two', expected numbers of blocks"),
        ({"exits": "4,2"}, "expected rising numbers"),
        ({"targets": ("litert",), "cells": "float16"}, "exits need float32 cells"),
        ({"streams": Path("nowhere")}, "streams are for whole decoders"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path, more, reason):
    asked = {"exits": "2", "targets": TARGETS, **more}
    with pytest.raises(UnsupportedOption, match=reason):
        convert("nowhere", tmp_path / "b", options(**asked))


@pytest.mark.parametrize(("name", "exits"), [("llama", "2"), ("gemma4", "2"), ("cwm", "3")])
def test_a_model_that_cannot_be_left_there_is_refused(tmp_path, name, exits):
    with pytest.raises(TransformError):
        convert(str(TINY / name), tmp_path / "b", options(("litert",), ("f32",), exits=exits))
    assert not (tmp_path / "b").exists()


@pytest.mark.real
def test_the_real_model_in_segments_is_the_whole_to_the_last_bit(smollm2_gguf, converted_once):
    """w8-round on LiteRT: a prompt in pieces and tokens one by one; then it leaves, fills up and goes on."""
    bundle = converted_once(
        smollm2_gguf, targets=("litert",), recipes=("w8-round",), context=512, exits="18,22,26", prove=False
    )
    with edgesdk.load(bundle, threads=1) as model:
        ids = np.asarray(model.tokenize("The quick brown fox jumps over the lazy dog. " * 6), np.int32)
        whole, steps = model.new_sequence(), open_exit_steps(model)
        lists, done = steps.new_lists(), 0
        for count in (37, 1, 1, 9):
            piece = ids[done : done + count]
            stream, run = steps.run_through(lists, piece)
            assert run == 4
            np.testing.assert_array_equal(steps.logits(stream[None])[0], whole.extend(piece))
            done += count
        whole.close()
        asked = {"max_tokens": 24, "temperature": 0.0}
        plain = model.generate("The capital of France is", **asked)
        ended = model.generate("The capital of France is", early_exit="top_prob:1.0", **asked)
        assert ended.tokens == plain.tokens
        early = model.generate("The capital of France is", early_exit="fixed:26", **asked)
        assert early.exits.exits == {26: early.exits.filled}
        assert early.tokens[0] == plain.tokens[0]


def test_a_head_of_two_products_is_refused_by_what_to_do(tmp_path):
    """`source` for LiteRT has the columns of outliers in a product of their own."""
    with pytest.raises(TransformError, match=r"no single product.*take another recipe"):
        convert(str(TINY / "cwm"), tmp_path / "b", options(("litert",), ("source",), exits="2"))
    assert not (tmp_path / "b").exists()
