"""A model whose tokens see the whole text: vectors of sentence-transformers, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.engine.engine import Engine
from edgesdk.errors import BundleError, CapacityError, UnsupportedOption
from edgesdk.vectors.run_whole_texts import FULL_TOKENS

DATA = Path(__file__).parents[2] / "data"
EMBEDDER = DATA / "embedders" / "embeddinggemma"
TOLERANCE = 1e-4
CONTEXT = 700
VECTORS_ONLY = "gives vectors only"


@pytest.fixture(scope="module")
def reference():
    with np.load(EMBEDDER / "reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(
        EMBEDDER,
        targets=("litert",),
        recipes=("f32", "w8-round"),
        context=CONTEXT,
        allow_parity_miss=True,
    )


@pytest.fixture(scope="module", params=["litert", "litert-interpreter"])
def model(request, bundle):
    with edgesdk.load(bundle, backend=request.param, variant="litert-f32", strict=True, threads=1) as model:
        yield model


def texts_of(reference):
    return [str(text) for text in reference["texts"]]


def test_vectors_are_those_of_sentence_transformers(model, reference):
    texts = texts_of(reference)
    lengths = [len(ids) for ids in model.embedding_tokens(texts)]
    assert min(lengths) == 2  # an empty text is its frame
    assert max(lengths) > FULL_TOKENS
    found = model.embed(texts)
    assert found.shape == (6, 64)
    np.testing.assert_allclose(found, reference["vectors"], atol=TOLERANCE)
    np.testing.assert_allclose(model.embed(texts, prompt="query"), reference["queries"], atol=TOLERANCE)
    firsts = model.embed(texts, pooling="cls", normalise=False)
    assert np.abs(firsts - reference["firsts"]).max() < TOLERANCE * np.abs(reference["firsts"]).max()


def test_together_is_alone(model, reference):
    texts = texts_of(reference) * 2
    together = model.embed(texts)
    for text, vector in zip(texts[:6], together[6:], strict=True):
        np.testing.assert_allclose(model.embed([text])[0], vector, atol=1e-6)
    ids = model.embedding_tokens(texts[:2])
    states = model.token_states(ids)
    assert [each.shape for each in states] == [(len(each), 64) for each in ids]


def test_a_text_at_the_limit_and_beyond(model):
    ids = np.random.default_rng(0).integers(3, 280, CONTEXT + 1).tolist()
    limit = model.embed([ids[:-1]])
    assert np.isfinite(limit).all()
    # The first token sees the last one, too.
    other = [*ids[: CONTEXT - 1], (ids[CONTEXT - 1] + 1) % 280]
    first, second = (model.token_states([text])[0][0] for text in (ids[:-1], other))
    assert np.abs(first - second).max() > 1e-7
    with pytest.raises(CapacityError, match="context"):
        model.embed([ids])
    text = "gravity " * 400
    framed = model.tokenizer.frame(text)
    cut = [*framed[: CONTEXT - 1], framed[-1]]
    np.testing.assert_array_equal(model.embed([text], truncate=True), model.embed([cut]))


def test_nothing_and_what_has_no_meaning(model):
    assert model.embed([]).shape == (0, 64)
    with pytest.raises(UnsupportedOption, match="has no tokens"):
        model.embed([[]])
    with pytest.raises(UnsupportedOption, match="expected ids from 0 to 287"):
        model.embed([[300]])


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.generate("The"),
        lambda model: next(iter(model.stream("The"))),
        lambda model: model.chat([{"role": "user", "content": "Hello"}]),
        lambda model: model.beam_search("The"),
        lambda model: model.score([3, 4]),
        lambda model: model.new_sequence(),
        lambda model: model.rerank("a", ["b"]),
        lambda model: model.classify("a", ["b", "c"]),
        lambda model: Engine(model),
    ],
)
def test_what_writes_text_is_refused_in_one_line(model, ask):
    with pytest.raises(UnsupportedOption, match=VECTORS_ONLY) as raised:
        ask(model)
    assert "\n" not in str(raised.value)


def test_an_index_takes_it(model, tmp_path):
    (tmp_path / "texts").mkdir()
    for name, text in (("a", "zebra zebra zebra xylophone"), ("b", "zebra bead babe decade added")):
        (tmp_path / "texts" / f"{name}.txt").write_text(text)
    with edgesdk.make_index(tmp_path / "index", embedder=model.embedder(dimensions=16)) as index:
        index.add([tmp_path / "texts"])
        assert len(index.search("zebra bead")) == 2


def test_the_bundle_says_what_it_is_and_how_close(bundle):
    manifest = open_bundle(bundle).manifest
    assert (manifest.decoder.is_causal, manifest.decoder.projection) == (False, 64)
    assert manifest.decoder.window == 7
    names = [file.name for file in manifest.source.files]
    assert names == ["model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors"]
    exact, rounded = (variant.vector_parity for variant in manifest.variants)
    assert exact.figures.cosine_least > 0.999999
    assert exact.figures.order_agreement > exact.gate_order
    assert exact.figures.longest_tokens > FULL_TOKENS
    assert rounded.figures.cosine_least < exact.figures.cosine_least
    assert all(variant.parity is None for variant in manifest.variants)


def test_goals_and_drafts_have_no_meaning(bundle):
    for option in ({"goal": "latency"}, {"draft": "lookup"}):
        with pytest.raises(UnsupportedOption, match=VECTORS_ONLY):
            edgesdk.load(bundle, **option)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m["decoder"].update(is_causal=True), "projection"),
        (lambda m: m["variants"][0].update(cell_type="int8"), "gives states only and has more"),
        (lambda m: m["variants"][0].update(format="onnx-step"), "gives states only and has more"),
        (lambda m: m["variants"][0]["steps"][0].update(cells=2), "gives states only and has more"),
        (lambda m: m["decoder"]["blocks"][0]["mixer"].update(reads=0), "expected an earlier one"),
        (
            lambda m: m["variants"][0].update(decoder=m["decoder"] | {"projection": 32}),
            "disagree on what tokens see",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(bundle, tmp_path, change, expected):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=expected):
        open_bundle(copy)


def test_short_texts_share_steps_no_longer_than_the_context(converted_once):
    short = converted_once(EMBEDDER, targets=("litert",), recipes=("f32",), context=64, prove=False)
    texts = ["gravity", "bread is made of flour", "a"] * 12
    with edgesdk.load(short, threads=1) as model:
        assert sum(len(ids) for ids in model.embedding_tokens(texts)) > FULL_TOKENS > model.context
        together = model.embed(texts)
        for text, vector in zip(texts[:3], together[-3:], strict=True):
            np.testing.assert_allclose(model.embed([text])[0], vector, atol=1e-6)
