"""Small checkpoints with a tokenizer of every family, trained here on text of several scripts."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

TINY = Path(__file__).parents[2] / "data" / "tiny"
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
OTHER_SCRIPTS = """\
Die Straße führt über die Brücke, sagte das Mädchen und lächelte.
Съешь ещё этих мягких французских булок, да выпей чаю.
いろはにほへと ちりぬるを 我が世誰ぞ 常ならむ
敏捷的棕色狐狸跳过了懒狗。
الثعلب البني السريع يقفز فوق الكلب الكسول
빠른 갈색 여우가 게으른 개를 뛰어넘는다
"""
FAMILIES = ("byte_level", "whole_words", "sentencepiece", "unigram_bytes", "unigram")


def english() -> str:
    import pydoc_data.topics

    return "\n".join(pydoc_data.topics.topics.values())


def train(family: str) -> str:
    """The tokenizer.json of a family, of some 900 tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    lines = english()[:200_000].splitlines() + OTHER_SCRIPTS.splitlines() * 3
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    if family in ("byte_level", "whole_words"):
        engine = Tokenizer(models.BPE())
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        engine.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIALS, initial_alphabet=alphabet)
    else:
        bytes_too = byte_tokens if family != "unigram" else []
        engine = Tokenizer(models.BPE(unk_token="<unk>") if family == "sentencepiece" else models.Unigram())
        engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        engine.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        if family == "sentencepiece":
            engine.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
            trainer = trainers.BpeTrainer(vocab_size=1100, special_tokens=SPECIALS + bytes_too)
        else:
            engine.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
            trainer = trainers.UnigramTrainer(
                vocab_size=900, special_tokens=SPECIALS + bytes_too, unk_token="<unk>"
            )
    engine.train_from_iterator(lines, trainer)
    document = json.loads(engine.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] in SPECIALS]
    model = document["model"]
    if family in ("sentencepiece", "unigram_bytes"):
        model["byte_fallback"] = True
        document["pre_tokenizer"] = None
    if family == "sentencepiece":
        model["fuse_unk"] = True
    if family == "whole_words":
        model["ignore_merges"] = True
        # Old files write a merge as one text, and add tokens behind the model's own.
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
        size = len(model["vocab"])
        document["added_tokens"].append(
            {**document["added_tokens"][-1], "id": size, "content": "<|tool|>", "special": False}
        )
        document["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        }
    return json.dumps(document, ensure_ascii=False)


class GrownTensors:
    """A tiny checkpoint's tensors with random tables of another height in place of its own."""

    def __init__(self, base, rows, names):
        self._base = base
        columns = base.shape(names[0])[1]
        draw = np.random.default_rng(11)
        self._tables = {n: draw.standard_normal((rows, columns)).astype(np.float32) for n in names}

    def __iter__(self):
        return iter(self._base)

    def __contains__(self, name):
        return name in self._base

    def shape(self, name):
        return self._tables[name].shape if name in self._tables else self._base.shape(name)

    def stored_type(self, name):
        return self._base.stored_type(name)

    def load(self, name):
        return self._tables[name].copy() if name in self._tables else self._base.load(name)

    def load_rows(self, name, start, stop):
        if name in self._tables:
            return self._tables[name][start:stop].copy()
        return self._base.load_rows(name, start, stop)


def grow(tiny: str, tokenizer_json: str, *, padding: int = 0) -> Checkpoint:
    """A tiny checkpoint that speaks with another tokenizer; its tables have rows to spare."""
    from tokenizers import Tokenizer

    base = open_checkpoint(str(TINY / tiny))
    rows = Tokenizer.from_str(tokenizer_json).get_vocab_size(with_added_tokens=True) + padding
    names = [n for n in ("model.embed_tokens.weight", "lm_head.weight") if n in base.tensors]
    config = {**base.config, "vocab_size": rows, "bos_token_id": 1, "eos_token_id": [2, 4], "pad_token_id": 0}
    record = TokenizerRecord(1, (4, 2), add_bos=False, bos_token="<s>", eos_token="<|im_end|>")
    return dataclasses.replace(
        base,
        config=config,
        tensors=GrownTensors(base.tensors, rows, names),
        tokenizer=TokenizerFiles(tokenizer_json, TEMPLATE, record),
    )


@pytest.fixture(scope="session")
def tokenizer_json():
    """The tokenizer.json of a family, trained once."""
    made: dict[str, str] = {}

    def get(family: str) -> str:
        if family not in made:
            made[family] = train(family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def grown(tokenizer_json):
    """A checkpoint by family and tiny folder."""

    def make(family: str, tiny: str = "llama", *, padding: int = 0) -> Checkpoint:
        return grow(tiny, tokenizer_json(family), padding=padding)

    return make


@pytest.fixture(params=FAMILIES)
def family(request):
    """Every tokenizer family in turn."""
    return request.param


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """English text that chooses tokens."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(english()[:120_000], encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def held_out() -> list[str]:
    """English lines that choose nothing."""
    return [line for line in english()[250_000:300_000].splitlines() if line.strip()]


@pytest.fixture(scope="session")
def mixed_lines() -> list[str]:
    """10,000 lines of many scripts, odd spaces, marks, emoji and binary noise."""
    draw = random.Random(3)
    spans = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xD7F), (0xE00, 0xEFF)]
    spans += [(0x1100, 0x11FF), (0x2000, 0x2BFF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)]
    spans += [(0x1F300, 0x1FAFF), (0x10000, 0x1039F), (0x1, 0x1F)]
    words = english()[:20_000].split()
    lines = []
    for i in range(10_000):
        if i % 4 == 0:
            lines.append(draw.randbytes(draw.randint(1, 60)).decode("utf-8", "replace"))
        elif i % 4 == 1:
            lines.append(draw.randbytes(draw.randint(1, 60)).decode("latin-1"))
        else:
            parts = []
            for _ in range(draw.randint(1, 6)):
                low, high = draw.choice(spans)
                parts.append("".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 8))))
                parts.append(draw.choice(words))
            lines.append(draw.choice([" ", "  ", "", "\t", "\n"]).join(parts))
    return lines
