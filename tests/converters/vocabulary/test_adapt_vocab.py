"""Another vocabulary for a checkpoint: what stays stays to the last bit, and what comes is reachable."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgesdk.errors import CheckpointError, TransformError, UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.vocabulary.adapt.adapt_request import AdaptRequest, find_corpus
from edgesdk_converters.vocabulary.adapt.adapt_vocab import RECORD, adapt_vocab
from edgesdk_converters.vocabulary.adapt.initialise import INITS, Spelled, mixture, new_rows, sparsemax
from tests.data.tiny_gguf import write_tiny_gguf

TINY = Path(__file__).parents[2] / "data" / "tiny"
WORDS = (
    "der Zug nach Hamburg fährt über die große Brücke und hält nicht in jeder Stadt",
    "die Straße führt durch schöne Wälder zu dem Haus am Fluss und über die Berge",
    "große Städte haben viele Straßen und schöne Brücken über die Flüsse der Region",
)
EXACT = [init for init in INITS if init != "random"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    random = np.random.default_rng(0)
    words = " ".join(WORDS).split()
    lines = [" ".join(random.choice(words, 12)) for _ in range(600)]
    path = tmp_path_factory.mktemp("corpus") / "de.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def adapt(name, corpus, out, **options):
    return adapt_vocab(open_checkpoint(str(TINY / name)), AdaptRequest((corpus,), **options), out)


def weights(folder):
    checkpoint = open_checkpoint(str(folder))
    found = weights_for(checkpoint, read_spec(checkpoint.config))
    return {name: found.load(name) for name in found}


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3"])
@pytest.mark.parametrize("init", EXACT)
def test_the_same_tokenizer_gives_the_same_checkpoint(name, init, corpus, tmp_path):
    source = TINY / name
    report = adapt(name, corpus, tmp_path / "out", init=init, tokenizer=source / "tokenizer.json")
    before, after = weights(source), weights(tmp_path / "out")
    assert list(before) == list(after)
    rows = min(len(before["embed"]), len(after["embed"]))  # a table may have more rows than there are tokens
    for key in before:
        size = rows if key in ("embed", "head") else None
        np.testing.assert_array_equal(before[key][:size], after[key][:size])
    old, new = open_checkpoint(str(source)), open_checkpoint(str(tmp_path / "out"))
    assert old.tokenizer.record == new.tokenizer.record
    assert old.tokenizer.chat_template == new.tokenizer.chat_template
    assert old.generation == new.generation
    assert report.origins == {"copied": report.tokens_after}
    assert report.tokens_per_byte_before == report.tokens_per_byte_after


@pytest.mark.parametrize("init", INITS)
def test_a_vocabulary_of_its_own(init, corpus, tmp_path):
    report = adapt("llama", corpus, tmp_path / "out", init=init, size=420)
    assert report.tokens_after <= 420
    assert report.tokens_per_byte_after < 0.7 * report.tokens_per_byte_before
    assert report.unreachable == 0
    new = open_checkpoint(str(tmp_path / "out"))
    spec = read_spec(new.config)
    assert spec.vocab_size == report.tokens_after
    assert spec.tied_head
    after = weights(tmp_path / "out")
    assert "head" not in after
    assert after["embed"].shape == (report.tokens_after, 64)
    assert np.isfinite(after["embed"]).all()
    engine = Tokenizer.from_str(new.tokenizer.tokenizer_json)
    for text in ("<|im_start|>", "<|im_end|>"):
        old_id = Tokenizer.from_file(str(TINY / "llama" / "tokenizer.json")).token_to_id(text)
        row = weights(TINY / "llama")["embed"][old_id]
        same = np.array_equal(after["embed"][engine.token_to_id(text)], row)
        assert same == (init != "random")  # of the paper: nothing is copied
    (end,) = new.tokenizer.record.eos_ids
    assert engine.id_to_token(end) == new.tokenizer.record.eos_token == "<|im_end|>"
    assert json.loads((tmp_path / "out" / RECORD).read_text())["init"] == init


def test_embeddings_for_every_layer_are_refused_by_name(corpus, tmp_path):
    with pytest.raises(TransformError, match="gemma4 has embeddings of every token for every layer"):
        adapt("gemma4", corpus, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_more_tokens_behind_those_that_there_are(corpus, tmp_path):
    report = adapt("llama", corpus, tmp_path / "out", init="mean", size=100, expand=True)
    before, after = weights(TINY / "llama")["embed"], weights(tmp_path / "out")["embed"]
    assert len(before) < len(after) <= len(before) + 100
    np.testing.assert_array_equal(after[: len(before)], before)
    old = Tokenizer.from_file(str(TINY / "llama" / "tokenizer.json"))
    new = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for i in range(len(before), len(after)):
        ids = old.encode(new.decode([i]), add_special_tokens=False).ids
        np.testing.assert_allclose(after[i], before[ids].mean(0), rtol=1e-5, atol=1e-7)
    assert report.tokens_per_byte_after < 0.8 * report.tokens_per_byte_before
    assert report.unreachable == 0
    assert old.encode("fox dog").ids == new.encode("fox dog").ids


def test_more_tokens_come_with_the_bytes_that_lack(corpus, tmp_path):
    """As with SmolLM2's vocabulary, whose texts lose the control characters that it has no byte of."""
    source = tmp_path / "lacking"
    shutil.copytree(TINY / "llama", source)
    document = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocab, lacking = document["model"]["vocab"], ("\u0104", "\u00ff")  # the bytes 4 and 255
    for letter in lacking:
        vocab["unused" + letter] = vocab.pop(letter)
    document["model"]["merges"] = [m for m in document["model"]["merges"] if not set(lacking) & {*"".join(m)}]
    (source / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    old = Tokenizer.from_file(str(source / "tokenizer.json"))
    assert old.decode(old.encode("a\x04b", add_special_tokens=False).ids) == "ab"
    request = AdaptRequest((corpus,), "mean", 20, expand=True)
    report = adapt_vocab(open_checkpoint(str(source)), request, tmp_path / "out")
    new = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert new.decode(new.encode("a\x04b", add_special_tokens=False).ids) == "a\x04b"
    assert [new.token_to_id(letter) for letter in sorted(lacking)] == [288, 289]
    assert report.tokens_after == new.get_vocab_size() == 288 + 2 + 20
    assert np.isfinite(weights(tmp_path / "out")["embed"]).all()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(text=st.text())
def test_every_text_is_spelled(text, spelled_again):
    for engine in spelled_again:
        assert engine.decode(engine.encode(text, add_special_tokens=False).ids) == text


@pytest.fixture(scope="module")
def spelled_again(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spelled")
    adapt("llama", corpus, folder / "own", init="mean", size=420)
    adapt("llama", corpus, folder / "more", init="mean", size=50, expand=True)
    return [Tokenizer.from_file(str(folder / each / "tokenizer.json")) for each in ("own", "more")]


def test_it_converts_like_any_other(corpus, tmp_path):
    import edgesdk
    from edgesdk_converters.convert import convert
    from edgesdk_converters.convert_options import ConvertOptions

    adapt("llama", corpus, tmp_path / "out", init="mean", size=420)
    convert(str(tmp_path / "out"), tmp_path / "bundle", ConvertOptions(targets=("litert",), recipes=("f32",)))
    with edgesdk.load(tmp_path / "bundle", threads=1) as model:
        said = model.chat([{"role": "user", "content": "Hallo"}], max_tokens=4)
        assert said.new_tokens >= 1


SCORES = st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=8)


@given(SCORES)
def test_sparsemax_is_the_nearest_point_of_the_simplex(scores):
    (found,) = sparsemax(np.array([scores], np.float32))
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-5)
    # Optimal: what is used has one and the same distance, what is not has no less (Karush, Kuhn, Tucker).
    used = found > 0
    gaps = np.array(scores, np.float32) - found
    assert np.ptp(gaps[used]) < 1e-5
    assert (gaps[~used] <= gaps[used].min() + 1e-5).all()


def test_mixtures_by_likeness():
    spelled = Spelled(
        {"a": 0, "b": 1, "<s>": 2}, ["a", "b", "c", "<s>", "d"], {3: 2}, [[]] * 5, list("abc<d")
    )
    vectors = {"a": [1, 0], "b": [0, 1], "c": [3, 1]}

    def vectors_of(texts):
        there = np.array([text in vectors for text in texts], bool)
        return np.array([vectors.get(text, [0, 0]) for text in texts], np.float32), there

    table = np.array([[1.0, 10], [2, 20], [9, 9]], np.float32)
    dense = mixture("clp", spelled, vectors_of)
    assert dense.origins == ["copied", "copied", "mixed", "copied", "drawn"]
    rows = new_rows(table, dense, 0)
    np.testing.assert_array_equal(rows[[0, 1, 3]], table)
    np.testing.assert_allclose(rows[2], 0.75 * table[0] + 0.25 * table[1], rtol=1e-6)  # cosines 3 to 1
    sparse = mixture("clp+", spelled, vectors_of)
    cosines = np.array([[3, 1]], np.float32) / np.sqrt(10)
    np.testing.assert_allclose(new_rows(table, sparse, 0)[2], sparsemax(cosines)[0] @ table[:2], rtol=1e-6)
    np.testing.assert_array_equal(new_rows(table, sparse, 7)[4], new_rows(table, sparse, 7)[4])
    assert not np.array_equal(new_rows(table, sparse, 7)[4], new_rows(table, sparse, 8)[4])


def test_rows_by_script():
    shown = ["ab", "cd", " ef", "дом", "мир", "12"]
    source = {"ab": 0, " ef": 1, "дом": 2}
    spelled = Spelled(source, shown, {}, [[]] * 6, shown)
    made = mixture("heuristics", spelled, None)
    assert [made.drawn[i].tolist() for i in (1, 4, 5)] == [[0], [2], []]
    rows = new_rows(np.eye(3, dtype=np.float32), made, 0)
    np.testing.assert_array_equal(rows[1], [1, 0, 0])  # the only row of its script: no deviation
    np.testing.assert_array_equal(rows[4], [0, 0, 1])


def test_what_cannot_be_adapted(corpus, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(CheckpointError, match="is there already"):
        adapt("llama", corpus, tmp_path / "full")
    other = json.loads((TINY / "llama" / "tokenizer.json").read_text())
    other["added_tokens"] = other["added_tokens"][:1]
    (tmp_path / "t.json").write_text(json.dumps(other))
    other["decoder"] = None
    (tmp_path / "u.json").write_text(json.dumps(other))
    (tmp_path / "v.json").write_text("{")
    with pytest.raises(TransformError, match="byte-level"):
        adapt("llama", corpus, tmp_path / "out", tokenizer=tmp_path / "u.json")
    with pytest.raises(TransformError, match=r"v\.json: the tokenizer does not load"):
        adapt("llama", corpus, tmp_path / "out", tokenizer=tmp_path / "v.json")
    short = tmp_path / "short.txt"
    short.write_text("x")
    with pytest.raises(TransformError, match="no further token"):
        adapt("llama", short, tmp_path / "out", init="mean", size=9, expand=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "best"}, "random, mean"),
        ({"size": 3}, "300 to"),
        ({"expand": True, "tokenizer": Path("x")}, "no expansion"),
        ({"expand": True, "init": "random", "size": 5}, "copies nothing"),
    ],
)
def test_requests_without_meaning(options, message):
    with pytest.raises(UnsupportedOption, match=message):
        AdaptRequest((Path("x"),), **options)


def test_what_cannot_be_learnt_from_or_written(corpus, tmp_path):
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n\n")
    with pytest.raises(TransformError, match="no words"):
        adapt("llama", blank, tmp_path / "a")
    document = json.loads((TINY / "llama" / "tokenizer.json").read_text(encoding="utf-8"))
    document["model"]["vocab"]["zz"] = 400_000_000
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(TransformError, match="400000000"):
        adapt("llama", corpus, tmp_path / "a", tokenizer=tmp_path / "t.json", init="mean")
    if os.name != "nt":  # links need a privilege there
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(CheckpointError, match="is there already"):
            adapt("llama", corpus, tmp_path / "link", init="mean")
    assert not (tmp_path / "a").exists()
    with pytest.raises(UnsupportedOption, match="expected 1 to"):
        AdaptRequest((corpus,), size=0, expand=True)


def test_a_corpus_has_text(tmp_path):
    with pytest.raises(UnsupportedOption, match="no text"):
        find_corpus(tmp_path)
    (tmp_path / "b.md").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "c.bin").write_text("c")
    assert [path.name for path in find_corpus(tmp_path)] == ["a.txt", "b.md"]


@pytest.mark.parametrize(("name", "works"), [("llama", True), ("qwen3", True), ("gemma2", False)])
def test_a_gguf_file_becomes_a_folder(name, works, corpus, tmp_path):
    """Its tensors get Hugging Face's names and order of rows; what it holds in another form is refused."""
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(source, name)
    out = tmp_path / "out"
    if not works:
        with pytest.raises(CheckpointError, match="in another form"):
            adapt_vocab(open_checkpoint(str(source)), AdaptRequest((corpus,), "mean", 420), out)
        assert not out.exists()
        return
    adapt_vocab(open_checkpoint(str(source)), AdaptRequest((corpus,), "mean", 420), out)
    before, after = weights(source), weights(out)
    assert list(before) == list(after)
    for key in before:
        if key not in ("embed", "head"):
            np.testing.assert_array_equal(before[key], after[key])
    (model_class,) = json.loads((out / "config.json").read_text())["architectures"]  # for other readers
    assert model_class == {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[name]
