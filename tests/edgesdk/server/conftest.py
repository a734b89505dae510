"""A server on a port of its own, over a fake model that says a given text whatever it is asked."""

import contextlib
import http.client
import json
import threading
import time
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import SCHEMA_VERSION, GenerationDefaults, Manifest, Source, StepShape, Variant
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.bundle.writer import BundleWriter
from edgesdk.devices.receipt import Phase, Receipt, Runner
from edgesdk.engine.engine import Engine
from edgesdk.kv.step_model import StepModel
from edgesdk.load_options import LoadOptions
from edgesdk.model import Model

pytest.importorskip("starlette", reason="needs the extra 'serve'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

CONTEXT = 512
SHAPES = tuple(StepShape(T, S, min(T, 4), f"t{T}_s{S}") for T in (1, 16, 64) for S in (64, 256, CONTEXT))
RECEIPT = Receipt(
    "tiny",
    "only",
    "f32",
    "fake",
    "cpu",
    "fake",
    1.0,
    1,
    0.0,
    None,
    "hashed",
    phases=tuple(Phase(name, Runner("fake", "only", "cpu", 1)) for name in ("prefill", "decode")),
)
TEMPLATE = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}"
    "{% if tools %}<tool_call></tool_call>{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant: "
    "{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)


class Speaker(FakeStepBackend):
    """Says a text after the last start of a turn that it was shown; one request at a time."""

    delay_s = 0.0

    def __init__(self, decoder, tokenizer, text):
        super().__init__(decoder, SHAPES)
        self._tokenizer = tokenizer
        self._begin = tuple(tokenizer.encode("<|start|>assistant: ")[:2])
        self._last = [], []
        self._at = 0
        self._lead = len(tokenizer.encode("<|start|>assistant: "))
        self._thinking_lead = len(tokenizer.encode("<|start|>assistant: <think>\n"))
        self.thinks = False
        self.say(text)

    def say(self, text):
        self._said = [*self._tokenizer.encode(text), self._tokenizer.record.eos_ids[0]]
        self._follow()

    def _follow(self):
        lead = self._thinking_lead if self.thinks else self._lead
        self._script = np.array([0] * (self._at + lead) + self._said, np.int64)

    def run(self, shape, cells):
        if self.delay_s:
            time.sleep(self.delay_s)
        b = self.buffers(shape)
        # A step is filled up with tokens of no meaning, so what follows the start is looked at, too.
        tokens, positions = [*self._last[0], *b.tokens.tolist()], [*self._last[1], *b.positions.tolist()]
        for (one, at), (other, after) in pairwise(zip(tokens, positions, strict=True)):
            if (one, other, after) == (*self._begin, at + 1):
                self._at = at
                self._follow()
        self._last = tokens[-1:], positions[-1:]
        super().run(shape, cells)


@pytest.fixture(scope="session")
def speaking_bundle(byte_level, tmp_path_factory):
    size = byte_level.engine.get_vocab_size()
    layers = (LayerSpec(None, None), LayerSpec(16, None))
    decoder = UniformDecoder("llama", size, 8, 8, 2, 1, 4, 1024, layers, 1e-5, "silu", 1.0).spec()
    variant = Variant(
        "only", "litert", "f32", ("cpu",), "variants/only/model.tflite", CONTEXT, SHAPES, numbers="0" * 64
    )
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="tiny",
        licence=None,
        created_by="tests",
        source=Source("gguf", "tiny.gguf", ()),
        decoder=decoder,
        tokenizer=byte_level.record,
        generation=GenerationDefaults(),
        variants=(variant,),
        files={},
    )
    target = tmp_path_factory.mktemp("speaking") / "tiny"
    with BundleWriter(target) as writer:
        writer.path("tokenizer.json").write_text(byte_level.engine.to_str())
        writer.path("variants/only/model.tflite").write_bytes(b"")
        writer.path("chat_template.jinja").write_text(TEMPLATE)
        writer.finish(manifest)
    return open_bundle(target)


class Client:
    """Asks a server as any program would; `post` and `get` give (status, document or text, headers)."""

    def __init__(self, url):
        self.url = url
        self.netloc = urlsplit(url).netloc

    def request(self, method, path, document=None, headers=(), body=None):
        connection = http.client.HTTPConnection(self.netloc, timeout=30)
        data = json.dumps(document).encode() if document is not None else body
        sent = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, sent | dict(headers))
        return connection, connection.getresponse()

    def ask(self, method, path, document=None, headers=(), body=None):
        connection, answer = self.request(method, path, document, headers, body)
        with contextlib.closing(connection):
            data = answer.read()
            kind = answer.headers.get("content-type", "")
            found = json.loads(data) if "json" in kind and "ndjson" not in kind else data.decode()
            return answer.status, found, answer.headers

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, path, document, headers=()):
        return self.ask("POST", path, document, headers)

    def events(self, path, document, headers=()):
        """The documents of a stream, in order; those of SSE with a name have it under `event`."""
        status, text, answered = self.post(path, document, headers)
        assert status == 200, text
        assert "event-stream" in answered["content-type"], answered["content-type"]
        found = []
        for block in text.strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            found.append("[DONE]" if fields["data"] == "[DONE]" else json.loads(fields["data"]))
            if "event" in fields:
                assert found[-1]["type"] == fields["event"]
        return found


class Served:
    """A server that runs in a thread, with its client, and the fake model behind the name `tiny`."""

    def __init__(self, listening, host, speakers):
        self.listening = listening
        self.host = host
        self.speakers = speakers
        self.client = Client(listening.url)

    @property
    def engine(self):
        return self.host.loaded[0].engine

    def say(self, text, thinks=False):
        for speaker in self.speakers:
            speaker.thinks = thinks
            speaker.say(text)

    def wait_idle(self, most_s=10.0):
        """Waits until nothing runs; the cells' accounts must agree then."""
        end = time.monotonic() + most_s
        while any(each.uses for each in self.host.loaded) or any(
            each.engine.metrics.running + each.engine.metrics.waiting for each in self.host.loaded
        ):
            assert time.monotonic() < end, "the server is still busy"
            time.sleep(0.01)
        for each in self.host.loaded:
            each.engine.check()


@pytest.fixture
def make_server(speaking_bundle):
    """`make_server(text, **options)` starts one; `options` are of `ServerOptions`, `engine` of the engine."""
    from edgesdk.server.model_host import ModelHost
    from edgesdk.server.serve import Listening
    from edgesdk.server.server_options import ServerOptions

    started = []

    def make(text="The quick brown fox 😀 jumps.", *, names=("tiny",), engine=(), memory_mb=1024, **options):
        speakers = []

        def open_engine(path, loading, own):
            bundle = open_bundle(path)
            reader_of = Model(bundle, None, RECEIPT).tokenizer
            backend = Speaker(bundle.manifest.decoder, reader_of, text)
            speakers.append(backend)
            model = Model(bundle, StepModel(backend, bundle.manifest.decoder, CONTEXT), RECEIPT)
            return Engine(model, token_budget=16, check_steps=True, **own)

        host = ModelHost(
            dict.fromkeys(names, speaking_bundle.path),
            LoadOptions(),
            dict(engine),
            memory_bytes=int(memory_mb * (1 << 20)),
            idle_s=options.get("idle_unload_s"),
            open_engine=open_engine,
        )
        host.preload(names[:1])
        listening = Listening(host, ServerOptions(port=0, **options))
        thread = threading.Thread(target=listening.run, daemon=True)
        thread.start()
        served = Served(listening, host, speakers)
        started.append((served, thread))
        return served

    yield make
    for served, thread in started:
        served.listening.stop()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def server(make_server):
    return make_server()
