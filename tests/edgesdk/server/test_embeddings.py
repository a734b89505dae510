"""Vectors by OpenAI's and Ollama's interfaces: those of `Model.embed`, from a real tiny embedding model."""

import base64
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.load_options import LoadOptions
from edgesdk.server.model_host import ModelHost
from edgesdk.server.serve import Listening
from edgesdk.server.server_options import ServerOptions
from tests.edgesdk.server.conftest import Served

DATA = Path(__file__).parents[2] / "data"
TEXTS = ["What is the capital of China?", "a", "Gravity is a force. " * 5]


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(
        DATA / "embedders" / "qwen3", targets=("litert", "onnx-step"), recipes=("f32",), context=256
    )


@pytest.fixture(scope="module")
def vectors(bundle):
    with edgesdk.load(bundle, variant="litert-f32", threads=1) as model:
        yield model.embed(TEXTS)


@contextmanager
def serving(bundle):
    loading = LoadOptions(variant="litert-f32", threads=1)
    host = ModelHost({"tiny": bundle}, loading, {}, memory_bytes=1 << 30)
    host.preload(["tiny"])
    listening = Listening(host, ServerOptions(port=0))
    thread = threading.Thread(target=listening.run, daemon=True)
    thread.start()
    yield Served(listening, host, [])
    listening.stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def embedder(bundle):
    with serving(bundle) as served:
        yield served


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=1e-6)


def test_openai(embedder, vectors):
    status, answer, _ = embedder.client.post("/v1/embeddings", {"model": "tiny", "input": TEXTS})
    assert status == 200
    assert (answer["object"], answer["model"]) == ("list", "tiny")
    assert [each["index"] for each in answer["data"]] == [0, 1, 2]
    close([each["embedding"] for each in answer["data"]], vectors)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 10


def test_openai_base64_dimensions_and_ids(embedder, vectors):
    asked = {"model": "tiny", "input": TEXTS[0], "encoding_format": "base64"}
    answer = embedder.client.post("/v1/embeddings", asked)[1]
    data = base64.b64decode(answer["data"][0]["embedding"])
    close(np.frombuffer(data, "<f4"), vectors[0])
    short = embedder.client.post("/v1/embeddings", {"model": "tiny", "input": TEXTS, "dimensions": 8})[1]
    cut = vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1, keepdims=True)
    close([each["embedding"] for each in short["data"]], cut)
    ids = embedder.host.loaded[0].engine.model.embedding_tokens(TEXTS)
    for given, expected in ((ids, vectors), (ids[1], vectors[1:2])):
        answer = embedder.client.post("/v1/embeddings", {"input": given})[1]
        close([each["embedding"] for each in answer["data"]], expected)


def test_ollama(embedder, vectors):
    answer = embedder.client.post("/api/embed", {"model": "tiny:latest", "input": TEXTS})[1]
    close(answer["embeddings"], vectors)
    assert answer["prompt_eval_count"] > 10
    answer = embedder.client.post("/api/embed", {"model": "tiny", "input": TEXTS[1], "options": {}})[1]
    close(answer["embeddings"], vectors[1:2])
    answer = embedder.client.post("/api/embeddings", {"model": "tiny", "prompt": TEXTS[1]})[1]
    close(answer["embedding"], vectors[1])
    cut = embedder.client.post("/api/embed", {"model": "tiny", "input": "gravity " * 300})
    assert cut[0] == 200
    status, answer, _ = embedder.client.post(
        "/api/embed", {"model": "tiny", "input": "gravity " * 300, "truncate": False}
    )
    assert status == 400
    assert "context" in answer["error"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"input": []}, "input has 0 texts, expected 1 to 2048"),
        ({"input": "gravity " * 300}, "context"),
        ({"input": [[300]]}, "token 300"),
        ({"input": [[]]}, "input[0] is [], which has no tokens"),
        ({"input": "x", "dimensions": 65}, "dimensions is 65, expected between 1 and 64"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"input": [1, "x"]}, "input"),
    ],
)
def test_what_is_refused(embedder, asked, expected):
    status, answer, _ = embedder.client.post("/v1/embeddings", {"model": "tiny"} | asked)
    assert status == 400
    assert expected in answer["error"]["message"]
    embedder.wait_idle()


def test_many_at_once_are_as_one(embedder, vectors):
    found = {}

    def ask(place):
        found[place] = embedder.client.post("/v1/embeddings", {"model": "tiny", "input": TEXTS})[1]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for answer in found.values():
        close([each["embedding"] for each in answer["data"]], vectors)
    assert len(found) == 4
    embedder.wait_idle()


def test_a_model_that_gives_vectors_only(converted_once):
    bundle = converted_once(
        DATA / "embedders" / "embeddinggemma",
        targets=("litert",),
        recipes=("f32", "w8-round"),
        context=700,
        allow_parity_miss=True,
    )
    with edgesdk.load(bundle, variant="litert-f32", threads=1) as model:
        expected = model.embed(TEXTS)
    with serving(bundle) as served:
        status, answer, _ = served.client.post("/v1/embeddings", {"model": "tiny", "input": TEXTS})
        assert status == 200
        close([each["embedding"] for each in answer["data"]], expected)
        for path, asked in (
            ("/v1/completions", {"prompt": "The"}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
            ("/v1/messages", {"max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}),
        ):
            status, answer, _ = served.client.post(path, {"model": "tiny", **asked})
            assert status == 400, path
            assert "gives vectors only" in answer["error"]["message"], path
        assert served.client.get("/metrics")[0] == 200
        assert served.client.get("/v1/models")[0] == 200
        shown = served.client.post("/api/show", {"model": "tiny"})[1]
        assert shown["capabilities"] == ["embedding"]
