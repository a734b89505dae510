"""Engines over the fake backend, whose answers are known exactly, and over tiny models."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import SCHEMA_VERSION, GenerationDefaults, Manifest, Source, StepShape, Variant
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.bundle.writer import BundleWriter
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.decoding.request_reader import RequestReader
from edgesdk.devices.receipt import Receipt
from edgesdk.engine.engine import Engine
from edgesdk.kv.step_model import StepModel
from edgesdk.model import Model
from edgesdk.text.chat_template import ChatTemplate

CONTEXT = 96
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant: {% endif %}"
)
RECEIPT = Receipt("tiny", "only", "f32", "fake", "cpu", "fake", 1.0, 1, 0.0, None, "hashed")


def fake_shapes(tokens=(1, 8, 16), cells=(48, 96), rows=4):
    return tuple(StepShape(T, S, min(T, rows), f"t{T}_s{S}") for T in tokens for S in cells)


@pytest.fixture(scope="session")
def fake_bundle(byte_level, tmp_path_factory):
    size = byte_level.engine.get_vocab_size()
    decoder = UniformDecoder(
        "llama",
        size,
        8,
        8,
        2,
        1,
        4,
        256,
        (LayerSpec(None, None), LayerSpec(16, None)),
        1e-5,
        "silu",
        1.0,
    ).spec()
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="tiny",
        licence=None,
        created_by="tests",
        source=Source("gguf", "tiny.gguf", ()),
        decoder=decoder,
        tokenizer=byte_level.record,
        generation=GenerationDefaults(),
        variants=(
            Variant(
                "only",
                "litert",
                "f32",
                ("cpu",),
                "variants/only/model.tflite",
                CONTEXT,
                fake_shapes(),
                numbers="0" * 64,
            ),
        ),
        files={},
    )
    target = tmp_path_factory.mktemp("fake") / "bundle"
    with BundleWriter(target) as writer:
        writer.path("tokenizer.json").write_text(byte_level.engine.to_str())
        writer.path("variants/only/model.tflite").write_bytes(b"")
        writer.path("chat_template.jinja").write_text(TEMPLATE)
        writer.finish(manifest)
    return open_bundle(target)


class SlowBackend(FakeStepBackend):
    """A fake backend that can be held in the middle of a step, or told to fail."""

    gate = None
    failure = None

    def run(self, shape, cells):
        if self.gate is not None:
            self.gate.wait(20)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        super().run(shape, cells)


@pytest.fixture
def make_engine(fake_bundle):
    """Makes engines over the fake backend; they check their cells after every step."""
    engines = []

    def make(*, script=None, context=CONTEXT, token_budget=8, rows=4, drafter=None, **options):
        decoder = fake_bundle.manifest.decoder
        backend = SlowBackend(decoder, fake_shapes(cells=(48, context), rows=rows), script=script)
        drafts = None if drafter is None else DraftSource(drafter, lambda: drafter, decoder.vocab_size)
        model = Model(fake_bundle, StepModel(backend, decoder, context), RECEIPT, drafts=drafts)
        engine = Engine(model, token_budget=token_budget, check_steps=True, **options)
        engine.backend = backend
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        if engine.backend.gate is not None:
            engine.backend.gate.set()
        engine.close(drain=False)


@pytest.fixture
def greedy(fake_bundle):
    """What the fake backend must answer greedily: `greedy(prompt, count)`, found token by token."""
    oracle = FakeStepBackend(fake_bundle.manifest.decoder, fake_shapes())
    known = {}

    def answer(prompt, count):
        tokens = [int(token) for token in prompt]
        key = tuple(tokens)
        found = known.get(key, ())
        if len(found) < count:
            tokens += found
            for _ in range(count - len(found)):
                tokens.append(int(np.argmax(oracle.expected_logits(tokens)[-1])))
            found = known[key] = tuple(tokens[len(key) :])
        return found[:count]

    return answer


@pytest.fixture
def prompts(fake_bundle):
    """`prompts(n, length)`: random prompts of token ids that are no end tokens."""
    random = np.random.default_rng(5)
    size = fake_bundle.manifest.decoder.vocab_size

    def make(count, length):
        return [random.integers(2, size, length).tolist() for _ in range(count)]

    return make


@pytest.fixture
def use_template(monkeypatch):
    """Gives every model another chat template."""

    def use(source):
        template = ChatTemplate(source, bos_token=None, eos_token=None)
        monkeypatch.setattr(RequestReader, "chat_template", template)

    return use
