"""Two small tokenizers of the kinds that models use: byte-level BPE and SentencePiece with byte fallback."""

import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Engine

from edgesdk.bundle.manifest import TokenizerRecord
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
