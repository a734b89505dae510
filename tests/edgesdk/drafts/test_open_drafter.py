"""Words to drafters, on tiny bundles: stacks of a file, smaller bundles, and what is refused."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.id_map import read_id_map
from edgesdk.bundle.reader import open_bundle
from edgesdk.decoding.draft import DraftRequest
from edgesdk.drafts.bundle_drafts import open_bundle_drafts
from edgesdk.drafts.check_draft import check_draft
from edgesdk.drafts.open_drafter import RunningVariant, open_drafter
from edgesdk.drafts.stack_drafts import open_stack_drafts, shallow_stack
from edgesdk.drafts.token_bridge import bridge_tokens
from edgesdk.errors import BundleError, DeviceError, UnsupportedOption
from edgesdk_converters.reshape import Reshaping

TINY = Path(__file__).parents[2] / "data" / "tiny"
OPTIONS = {"recipes": ("f32",), "context": 64, "allow_parity_miss": True}


@pytest.fixture(scope="module")
def shared(converted_once):
    """A bundle with a shallow stack, which goes without one half of two blocks."""
    return converted_once(TINY / "llama", targets=("litert",), shallow="1.attention,0.mlp", **OPTIONS)


@pytest.fixture(scope="module")
def plain(converted_once):
    return converted_once(TINY / "llama", targets=("litert",), **OPTIONS)


@pytest.fixture(scope="module")
def foreign(plain, tmp_path_factory):
    """A bundle in which a token has another text."""
    path = tmp_path_factory.mktemp("foreign") / "bundle"
    shutil.copytree(plain, path)
    tokenizer = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    merged = "".join(tokenizer["model"]["merges"].pop())
    tokenizer["model"]["vocab"]["of another family"] = tokenizer["model"]["vocab"].pop(merged)
    data = json.dumps(tokenizer).encode()
    (path / "tokenizer.json").write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["tokenizer.json"] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
    }
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pruned(converted_once, tmp_path_factory):
    """A bundle that has most of the tokens, under other ids."""
    tokens = tmp_path_factory.mktemp("pruned") / "tokens.json"
    vocabulary = json.loads((TINY / "llama" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    size = len(vocabulary)
    tokens.write_text(json.dumps([*range(size - 40), size - 1]), encoding="utf-8")
    asked = Reshaping(prune_vocab=f"tokens={tokens}")
    return converted_once(TINY / "llama", targets=("litert",), reshaping=asked, **OPTIONS)


@pytest.fixture(scope="module")
def resident(converted_once):
    return converted_once(TINY / "llama", targets=("onnx",), **OPTIONS)


def running(path):
    bundle = open_bundle(path)
    return RunningVariant(bundle, bundle.manifest.variants[0], "litert", "cpu", 1)


def greedy(path, variant, tokens, count):
    with edgesdk.load(path, variant=variant, threads=1) as model:
        found = model.generate(tokens, max_tokens=count, temperature=0.0, ignore_eos=True).tokens
        return list(found)


def guess(source, tokens, count):
    (found,) = source.guess([DraftRequest(1, np.array(tokens, np.int32), count, count)])
    return [] if found is None else list(found.tokens)


def test_a_shallow_stack_is_found_beside_its_variant(shared, plain):
    bundle = open_bundle(shared)
    whole, stack = bundle.manifest.variants
    assert shallow_stack(bundle, whole) == stack
    assert shallow_stack(bundle, stack) is None
    bundle = open_bundle(plain)
    assert shallow_stack(bundle, bundle.manifest.variants[0]) is None


def test_a_shallow_stack_guesses_what_it_would_answer(shared):
    mine = running(shared)
    source = open_stack_drafts(mine.bundle, mine.variant, backend="litert", device="cpu", threads=1)
    prompt = list(range(3, 20))
    expected = greedy(shared, "litert-f32-shallow", prompt, 4)
    found = guess(source, prompt, 4)
    assert found == expected[: len(found)]
    assert source.nbytes > 0
    source.close()


def test_a_smaller_bundle_guesses_what_it_would_answer(shared, plain):
    source = open_bundle_drafts(open_bundle(shared), plain, threads=1)
    prompt = list(range(3, 20))
    found = guess(source, prompt, 4)
    assert found == greedy(plain, None, prompt, 4)[: len(found)]
    source.close()


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("lookup", "lookup+grammar"),
        ("shallow", "lookup+grammar+shallow"),
        ("auto", "lookup+grammar+shallow"),
    ],
)
def test_words(shared, word, name):
    drafter = open_drafter(word, running(shared), texts=["one two three"])
    assert drafter.name == name
    drafter.close()


def test_auto_without_a_stack_is_lookup(plain):
    assert open_drafter("auto", running(plain)).name == "lookup+grammar"
    assert open_drafter("off", running(plain)) is None


def test_a_path_is_a_bundle(shared, plain):
    drafter = open_drafter(str(plain), running(shared))
    assert drafter.name == f"lookup+grammar+{open_bundle(plain).manifest.name}"
    drafter.close()


@pytest.mark.parametrize("draft", ["", None, 3, b"lookup", "x" * 5000, "a\0b", ["lookup"]])
def test_what_names_nothing_is_refused(draft):
    with pytest.raises(UnsupportedOption, match="expected auto, off, lookup, trained, streams, shallow"):
        check_draft(draft)


@pytest.mark.parametrize("texts", ["a text", 3, [3], {"a": 1}, ["\ud800"], [b"x"]])
def test_what_is_no_list_of_texts_is_refused(plain, texts):
    with pytest.raises(UnsupportedOption, match="draft_texts"):
        open_drafter("lookup", running(plain), texts=texts)


def test_a_bundle_without_a_stack_says_so(plain):
    with pytest.raises(UnsupportedOption, match=r"no shallow stack beside litert-f32.*--shallow-skip"):
        open_drafter("shallow", running(plain))


def test_a_name_that_nobody_has_is_refused(plain):
    with pytest.raises(BundleError, match="nobodys-model"):
        open_drafter("nobodys-model", running(plain))


def test_other_tokens_are_refused_by_name(plain, foreign):
    with pytest.raises(UnsupportedOption, match=r"cannot draft for .* tokenizers differ") as caught:
        open_drafter(str(foreign), running(plain))
    assert "\n" not in str(caught.value)


def test_what_keeps_its_cache_to_itself_cannot_draft(plain, resident):
    with pytest.raises(DeviceError, match="keeps its cache to itself"):
        open_bundle_drafts(open_bundle(plain), resident, threads=1)


def test_a_pruned_vocabulary_is_bridged(plain, pruned):
    whole, part = open_bundle(plain), open_bundle(pruned)
    assert part.manifest.decoder.vocab_size < whole.manifest.decoder.vocab_size
    there, back = bridge_tokens(whole, part), bridge_tokens(part, whole)
    kept = read_id_map(part.path / "vocabulary.json").old_ids
    assert [there.back(new) for new in range(len(kept))] == list(kept)
    assert [back.back(old) for old in kept] == list(range(len(kept)))
    np.testing.assert_array_equal(there.across(np.array(kept, np.int32)), np.arange(len(kept)))
    lost = sorted(set(range(whole.manifest.decoder.vocab_size)) - set(kept))
    assert {back.back(old) for old in lost} == {-1}
    assert there.back(10**6) == -1


@pytest.mark.parametrize("way", ["whole drafts for part", "part drafts for whole"])
def test_bundles_with_other_ids_draft_for_each_other(plain, pruned, way):
    mine, second = (pruned, plain) if way == "whole drafts for part" else (plain, pruned)
    source = open_bundle_drafts(open_bundle(mine), second, threads=1)
    bridge = bridge_tokens(open_bundle(mine), open_bundle(second))
    prompt = np.arange(3, 20, dtype=np.int32)
    found = guess(source, prompt, 1)
    (expected,) = greedy(second, None, bridge.across(prompt).tolist(), 1)
    assert found == ([bridge.back(expected)] if bridge.back(expected) >= 0 else [])
    source.close()


def test_a_bundle_needs_no_bridge_to_itself(plain, shared):
    assert bridge_tokens(open_bundle(plain), open_bundle(shared)) is None
