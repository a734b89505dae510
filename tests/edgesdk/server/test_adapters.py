"""Adapters by the names of models: MODEL:ADAPTER, through every interface, from a real tiny model."""

import asyncio
import threading
from pathlib import Path

import pytest

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.load_options import LoadOptions
from edgesdk.server import model_host
from edgesdk.server.model_host import ModelHost
from edgesdk.server.serve import Listening
from edgesdk.server.server_options import ServerOptions
from tests.edgesdk.server.conftest import Served

DATA = Path(__file__).parents[2] / "data"
PROMPT = "hello world, how are"


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(
        DATA / "tiny" / "llama",
        targets=("litert",),
        recipes=("f32",),
        context=64,
        adapters=(f"loud={DATA / 'adapters' / 'llama-patterns'}:3",),
    )


@pytest.fixture(scope="module")
def answers(bundle):
    with edgesdk.load(bundle) as model:
        options = {"max_tokens": 8, "temperature": 0.0}
        yield [model.generate(PROMPT, adapter=adapter, **options).text for adapter in (None, "loud")]


@pytest.fixture(scope="module")
def served(bundle):
    host = ModelHost({"tiny": bundle}, LoadOptions(threads=1), {}, memory_bytes=1 << 30)
    host.preload(["tiny"])
    listening = Listening(host, ServerOptions(port=0))
    thread = threading.Thread(target=listening.run, daemon=True)
    thread.start()
    yield Served(listening, host, [])
    listening.stop()
    thread.join(20)
    assert not thread.is_alive()


def complete(served, model):
    document = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
    if model is not None:
        document["model"] = model
    return served.client.post("/v1/completions", document)


@pytest.mark.parametrize("model", [None, "tiny", "tiny:latest", "tiny:loud"])
def test_a_model_and_its_adapter_answer(served, answers, model):
    status, answer, _ = complete(served, model)
    assert status == 200, answer
    assert answers[0] != answers[1]
    assert answer["choices"][0]["text"] == answers[model == "tiny:loud"]


def test_ollama_asks_for_it_too(served, answers):
    document = {
        "prompt": PROMPT,
        "raw": True,
        "stream": False,
        "options": {"num_predict": 8, "temperature": 0},
    }
    status, answer, _ = served.client.post("/api/generate", {"model": "tiny:loud", **document})
    assert status == 200, answer
    assert answer["response"] == answers[1]


def test_adapters_are_listed(served):
    listed = served.client.get("/v1/models")[1]["data"]
    assert [each["id"] for each in listed] == ["tiny", "tiny:loud"]
    assert served.client.get("/v1/models/tiny:loud")[1]["id"] == "tiny:loud"


def test_manifests_are_read_beside_the_event_loop_and_not_for_models_in_memory(served, bundle, monkeypatch):
    threads = []

    def opened(path):
        threads.append(threading.current_thread().name)
        return open_bundle(path)

    monkeypatch.setattr(model_host, "open_bundle", opened)
    complete(served, "tiny:loud")
    served.client.get("/v1/models")
    assert threads == []
    unloaded = ModelHost({"tiny": bundle}, LoadOptions(threads=1), {}, memory_bytes=1 << 30)
    assert asyncio.run(unloaded.all_adapters()) == {"tiny": ["loud"]}
    assert len(threads) == 1
    assert threads[0] != threading.current_thread().name


@pytest.mark.parametrize("model", ["tiny:soft", "other:loud", "tiny:"])
def test_what_there_is_not_is_refused(served, model):
    status, answer, _ = complete(served, model)
    assert status == 404
    assert answer["error"]["code"] == "model_not_found"


def test_texts_are_not_embedded_by_an_adapter(served):
    status, answer, _ = served.client.post("/v1/embeddings", {"model": "tiny:loud", "input": "a"})
    assert status == 400
    assert "leave its adapter out" in answer["error"]["message"]
