"""Two small tokenizers of the kinds that models use, and bundles that run on the fake backend."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from edgesdk.backends import registry
from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.opened import Opened
from edgesdk.bundle.manifest import (
    SCHEMA_VERSION,
    GenerationDefaults,
    Manifest,
    Source,
    StepShape,
    TokenizerRecord,
    Variant,
)
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import DeviceError
from edgesdk.text.tokenizer import Tokenizer

TRAINING = [
    "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox runs on.",
    "def main(argument): return argument + 1",
    "naïve café über groß 日本語のテキスト 한국어 텍스트 русский текст 😀😃👍🏽👩‍👩‍👧",
]


def byte_level_engine():
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|start|>", "<|end|>"],
        show_progress=False,
    )
    engine.train_from_iterator(TRAINING, trainer)
    return engine


def sentencepiece_engine():
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [
        "▁",
        *sorted({c for line in TRAINING[:2] for c in line if c != " "}),
        "th",
        "he",
        "▁th",
        "▁the",
    ]
    merges = [("t", "h"), ("h", "e"), ("▁", "th"), ("▁th", "e")]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    engine = Engine(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    engine.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>")])
    return engine


_TINY = Path(__file__).parents[1] / "data" / "tiny" / "llama"
_CONTEXT = 1536


@pytest.fixture(scope="session")
def save(tmp_path_factory):
    def save_engine(engine, bos, eos, add_bos=False):
        path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
        engine.save(str(path))
        record = TokenizerRecord(engine.token_to_id(bos), (engine.token_to_id(eos),), add_bos, bos, eos)
        return Tokenizer(path, record)

    return save_engine


@pytest.fixture(scope="session")
def byte_level(save):
    return save(byte_level_engine(), "<|start|>", "<|end|>")


@pytest.fixture(scope="session")
def sentencepiece(save):
    return save(sentencepiece_engine(), "<s>", "</s>", add_bos=True)


@pytest.fixture(params=["byte_level", "sentencepiece"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


FAKE_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant: {% endif %}"
)


@pytest.fixture
def fake_runtime(byte_level, tmp_path, monkeypatch):
    """Makes bundles that `edgesdk.load` opens with a fake backend, and returns `make(script, **options)`.

    Backends are `fake`, which follows the script (token ids by position), and `refusing`, which never
    opens; the bundle's one variant is called `only`.
    """
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))

    def make(script=(), *, template=FAKE_TEMPLATE, prefer_refusing=False, parity=None, context=128, files=()):
        size = byte_level.engine.get_vocab_size()
        layers = (LayerSpec(None, None), LayerSpec(8, None))
        steps = tuple(StepShape(T, S, 1, f"t{T}_s{S}") for T in (1, 16) for S in (32, 128))
        decoder = UniformDecoder("llama", size, 8, 8, 2, 1, 4, 128, layers, 1e-5, "silu", 1.0).spec()
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
                    context,
                    steps,
                    parity,
                    numbers="0" * 64,
                ),
            ),
            files={},
        )

        def open_fake(request):
            return Opened(FakeStepBackend(decoder, steps, script=script), "hashes", 1.0)

        def refuse(request):
            raise DeviceError("it never opens")

        backends = [
            registry.Backend("fake", "litert", ("cpu",), "numpy", True, open_fake),
            registry.Backend("refusing", "litert", ("cpu",), "numpy", prefer_refusing, refuse),
        ]
        monkeypatch.setattr(registry, "BACKENDS", tuple(reversed(backends) if prefer_refusing else backends))
        target = tmp_path / "bundle"
        with BundleWriter(target, overwrite=True) as writer:
            writer.path("tokenizer.json").write_text(byte_level.engine.to_str())
            writer.path("variants/only/model.tflite").write_bytes(b"")
            if template is not None:
                writer.path("chat_template.jinja").write_text(template)
            for name, write in files:
                write(writer.path(name))
            writer.finish(manifest)
        return target

    return make


@pytest.fixture(scope="session")
def tool_templates(request):
    """Jinja2 source by form of calls: a short template of our own for each."""
    folder = request.config.rootpath / "tests/data/tool_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.jinja")}


@pytest.fixture(scope="session")
def npu_bundle(converted_once, short_text, request):
    """A tiny checkpoint converted for NPUs: the variant `onnx-npu-w8`, T of 1 and 128, S of 64."""
    pytest.importorskip("onnx", reason="needs the extra 'convert'")
    source = request.config.rootpath / "tests/data/tiny/llama"
    return converted_once(
        source, targets=("onnx-npu",), recipes=("w8",), context=64, prove=False, calibration=short_text
    )


@pytest.fixture(scope="session")
def reseal():
    """Makes the manifest of a folder say what its files are now, as a stranger would: `reseal(folder)`.

    `also` lists more files, which need not be there; `edit` is given the manifest's document.
    """

    def make(folder, also=(), edit=lambda document: None):
        path = folder / "manifest.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        for name, record in document["files"].items():
            file = folder / name
            if file.is_file():
                data = file.read_bytes()
                record.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        empty = {"sha256": hashlib.sha256(b"").hexdigest(), "size_bytes": 0}
        document["files"].update({name: dict(empty) for name in also})
        edit(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def long_bundle(converted_once, shared_folder):
    """The tiny checkpoint with a longer context than it was made for, which nothing here minds."""
    source = shared_folder / "long-llama"
    if not source.exists():
        shutil.copytree(_TINY, source)
        config = json.loads((source / "config.json").read_text())
        config["max_position_embeddings"] = _CONTEXT
        (source / "config.json").write_text(json.dumps(config))
    return converted_once(source, targets=("litert",), recipes=("f32",), context=_CONTEXT, prove=False)


@pytest.fixture
def made_encoder(tmp_path):
    """Makes a small sentence encoder by its name; `write_encoder` says what may differ."""
    from tests.data.small_encoder import write_encoder

    def make(name, **options):
        write_encoder(tmp_path / name, **options)
        return tmp_path / name

    return make
