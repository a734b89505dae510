"""Vectors of texts: those of sentence-transformers and transformers, alone and in company."""

from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import CapacityError, EdgeError, UnsupportedOption

DATA = Path(__file__).parents[2] / "data"
EMBEDDER = DATA / "embedders" / "qwen3"
BACKENDS = {"litert": "litert", "litert-interpreter": "litert", "onnxruntime-step": "onnx-step"}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference():
    with np.load(EMBEDDER / "reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(EMBEDDER, targets=("litert", "onnx-step"), recipes=("f32",), context=256)


@pytest.fixture(scope="module", params=BACKENDS)
def model(request, bundle):
    variant = f"{BACKENDS[request.param]}-f32"
    with edgesdk.load(bundle, backend=request.param, variant=variant, strict=True, threads=1) as model:
        yield model


def texts_of(reference):
    return [str(text) for text in reference["texts"]]


def test_vectors_are_those_of_sentence_transformers(model, reference):
    found = model.embed(texts_of(reference))
    assert found.shape == (5, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference["vectors"], atol=TOLERANCE)


def test_states_of_tokens_are_what_is_pooled(model, reference):
    tokens = model.embedding_tokens(texts_of(reference))
    states = model.token_states(tokens)
    assert [each.shape for each in states] == [(len(ids), 64) for ids in tokens]
    found = model.embed(tokens, pooling="mean", normalise=False)
    np.testing.assert_allclose(found, [each.mean(axis=0) for each in states], atol=1e-5)
    firsts = model.embed(tokens, pooling="cls", normalise=False)
    np.testing.assert_allclose(firsts, [each[0] for each in states], atol=1e-5)


def test_prompts_and_fewer_dimensions_too(model, reference):
    texts = texts_of(reference)
    np.testing.assert_allclose(model.embed(texts, prompt="query"), reference["queries"], atol=TOLERANCE)
    own = model.bundle.manifest.embedding.prompts["query"]
    np.testing.assert_array_equal(model.embed(texts, prompt="query"), model.embed(texts, prompt=own))
    np.testing.assert_allclose(model.embed(texts, dimensions=16), reference["short"], atol=TOLERANCE)


def test_other_poolings_are_those_of_transformers(model, reference):
    texts = texts_of(reference)
    for pooling, expected in (("mean", reference["means"]), ("cls", reference["firsts"])):
        found = model.embed(texts, pooling=pooling, normalise=False)
        assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()


def test_together_is_alone(model, reference):
    texts = texts_of(reference) * 3
    together = model.embed(texts)
    for text, vector in zip(texts[:5], together[10:], strict=True):
        np.testing.assert_allclose(model.embed([text])[0], vector, atol=1e-6)


def test_nothing_and_token_ids(model):
    assert model.embed([]).shape == (0, 64)
    assert model.embed([], dimensions=3).shape == (0, 3)
    ids = model.tokenizer.frame("The capital of China is Beijing.")
    np.testing.assert_array_equal(model.embed([ids]), model.embed(["The capital of China is Beijing."]))


def test_the_bundle_says_how_it_embeds(bundle):
    record = open_bundle(bundle).manifest.embedding
    assert (record.pooling, record.normalise, record.frames) == ("last", True, True)
    assert set(record.prompts) == {"query", "document"}
    for variant in open_bundle(bundle).manifest.variants:
        assert [port.name for port in variant.stacks[0].outputs] == ["states"]
        assert variant.parity is not None


def test_a_text_that_is_too_long_is_refused_or_cut(model):
    text = "gravity " * 300
    with pytest.raises(CapacityError):
        model.embed(["a", text])
    ids = model.tokenizer.frame(text)
    cut = [*ids[:255], ids[-1]]
    np.testing.assert_array_equal(model.embed([text], truncate=True), model.embed([cut]))


@pytest.mark.parametrize(
    ("texts", "options", "expected"),
    [
        ("fox", {}, "texts is 'fox', expected a list of texts"),
        ([None], {}, "the prompt is None, expected a text or a list of token ids"),
        ([[]], {}, "texts[0] is [], which has no tokens"),
        ([[300]], {}, "the prompt holds token 300, expected ids from 0 to 287"),
        (["a"], {"pooling": "max"}, "pooling is 'max', expected one of mean, last, cls"),
        (["a"], {"normalise": 1}, "normalise is 1, expected True or False"),
        (["a"], {"dimensions": 65}, "dimensions is 65, expected between 1 and 64"),
        (["a"], {"dimensions": 0}, "dimensions is 0, expected"),
        (["a"], {"prompt": 1}, "prompt is 1, expected a text"),
    ],
)
def test_what_has_no_meaning_is_refused(model, texts, options, expected):
    with pytest.raises(UnsupportedOption) as raised:
        model.embed(texts, **options)
    assert expected in str(raised.value)


def test_any_decoder_embeds_if_it_is_asked_to(converted_once):
    texts = ["The quick brown fox", "jumps", "over the lazy dog " * 8]
    found = {}
    for name in ("embeddings", "hidden_states"):
        bundle = converted_once(
            DATA / "tiny" / "mistral", targets=("litert",), recipes=("f32",), context=256, **{name: True}
        )
        assert open_bundle(bundle).manifest.embedding is None
        with edgesdk.load(bundle, strict=True, threads=1) as model:
            found[name] = {
                pooling: model.embed(texts, pooling=pooling) for pooling in ("mean", "last", "cls")
            }
            np.testing.assert_array_equal(model.embed(texts), found[name]["mean"])
            answer = model.generate("The", max_tokens=4, temperature=0.0)
            assert answer.new_tokens == 4
    for pooling, vectors in found["embeddings"].items():
        np.testing.assert_allclose(vectors, found["hidden_states"][pooling], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_bundles_without_states_say_what_to_do(converted_once):
    bundle = converted_once(DATA / "tiny" / "llama", targets=("litert", "onnx"), recipes=("f32",), context=64)
    with (
        edgesdk.load(bundle, backend="litert") as model,
        pytest.raises(UnsupportedOption, match="--embeddings"),
    ):
        model.embed(["fox"])
    with (
        edgesdk.load(bundle, backend="onnxruntime") as model,
        pytest.raises(UnsupportedOption, match="keeps its cache to itself"),
    ):
        model.embed(["fox"])


def test_targets_that_give_logits_only_are_written_without(converted_once):
    bundle = converted_once(
        DATA / "tiny" / "llama",
        targets=("litert", "onnx"),
        recipes=("w8-round",),
        context=64,
        embeddings=True,
        allow_parity_miss=True,
    )
    outputs = {
        variant.name: [port.name for record in variant.stacks for port in record.outputs]
        for variant in open_bundle(bundle).manifest.variants
    }
    assert outputs == {"litert-w8-round": ["states"], "onnx-w8-round": []}


def test_an_index_takes_it(model, tmp_path):
    (tmp_path / "texts").mkdir()
    for name, text in (("a", "zebra zebra zebra xylophone"), ("b", "zebra bead babe decade added")):
        (tmp_path / "texts" / f"{name}.txt").write_text(text)
    embedder = model.embedder(dimensions=16)
    assert embedder.width == 16
    assert "last 16" in embedder.name
    with edgesdk.make_index(tmp_path / "index", embedder=embedder) as index:
        index.add([tmp_path / "texts"])
        found = index.search("zebra bead")
    asked = model.embed(["zebra bead"], dimensions=16, prompt="query")[0]  # the bundle's own for questions
    vectors = model.embed([passage.text for passage in found], dimensions=16)
    np.testing.assert_allclose([each.score for each in found], vectors @ asked, atol=2e-3)
    alike = model.embedder(question_prompt="")
    np.testing.assert_array_equal(alike.embed_question("a bead"), alike.embed(["a bead"])[0])
    with pytest.raises(EdgeError, match="the model given is"):
        edgesdk.open_index(tmp_path / "index", embedder=model.embedder())
