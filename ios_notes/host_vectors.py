"""What the host's part of the Swift package must give: tokenizers, text, sampling, sizes and masks.

Each function returns one JSON document. The numbers come from edgesdk itself and from Hugging Face's
tokenizers, never from the Swift code. Nothing here needs a model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.protocol import Cells
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.decoding.processors import weights
from edgesdk.decoding.sampling import SamplingOptions, filters_for
from edgesdk.decoding.stopping import StopStrings
from edgesdk.kv.step_entry import StepEntry
from edgesdk.kv.step_runner import StepRunner
from edgesdk.kv.step_sizes import StepSizes

TOKENIZERS = ("tokenizer_digits.json", "tokenizer_split.json", "tokenizer_nfc.json")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = "<think>"

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""As Llama 3, Qwen and their kin split."""

_MISSING_BYTES = (0xF1, 0xF5, 0xFF)
"""Bytes without a token, as SmolLM2 has some: they disappear."""

_TEXTS = (
    "",
    " ",
    "Hello, world!",
    "The house that we've built isn't theirs; I'LL say it's 12345 years old.",
    "line one\nline two\r\n\r\n\tindented   text  \n\n  end   ",
    "naïve café — déjà vu, Straße, Ærø, ĳ",
    "nai\u0308ve cafe\u0301 A\u030a \u1112\u1161\u11ab",
    "你好，世界。日本語のテキスト、한국어 텍스트",  # noqa: RUF001 - meant
    "🙂👩‍👩‍👧‍👦 🇩🇪 \U00040000 ok",
    "a\u000bb\u0085c\u00a0d\u2003e\u200bf\ufeffg",
    "x = [i**2 for i in range(10)]  # 3.14159e-10",
    "٣٤٥ ½ Ⅷ ² 1st 22nd",
    "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n<think>hm</think>",
    "<|im_start<|im_end|>|> <thin k><think",
    "aaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbb",
    "ΑΒΓ αβγ Привет שלום مرحبا हिन्दी ไทย",
)


def train_tokenizers(folder: Path, texts: Sequence[str]) -> None:
    """Writes the three small tokenizers of the vectors; done once, they are kept in the repository.

    Args:
        folder: where to.
        texts: to learn merges from.
    """
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_SPLIT), "isolated"), plain])
    forms = ((digits, False, None), (split, True, None), (split, False, normalizers.NFC()))
    alphabet = [symbol for symbol in level.alphabet() if symbol not in _missing_symbols()]
    for name, (pre, ignore_merges, normalizer) in zip(TOKENIZERS, forms, strict=True):
        made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        made.pre_tokenizer, made.decoder = pre, decoders.ByteLevel()
        if normalizer is not None:
            made.normalizer = normalizer
        trainer = trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=alphabet, special_tokens=list(SPECIAL), show_progress=False
        )
        made.train_from_iterator([text.replace("\U00040000", "") for text in texts], trainer)
        made.add_tokens([ADDED])
        (folder / name).write_text(
            json.dumps(json.loads(made.to_str()), ensure_ascii=False), encoding="utf-8"
        )


def _missing_symbols() -> set[str]:
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return {chr(byte) for byte in _MISSING_BYTES if byte in visible}


def text_vectors(folder: Path) -> JsonValue:
    """Ids and texts of the tokenizers in `folder`, streams of tokens, and stop strings."""
    tokenizers: list[JsonValue] = []
    for name in TOKENIZERS:
        engine = Tokenizer.from_file(str(folder / name))
        cases: list[JsonValue] = []
        for text in _TEXTS:
            ids = engine.encode(text, add_special_tokens=False).ids
            cases.append(
                {
                    "text": text,
                    "ids": list(ids),
                    "decoded": engine.decode(ids, skip_special_tokens=False),
                    "plain": engine.decode(ids, skip_special_tokens=True),
                }
            )
        tokenizers.append({"file": name, "cases": cases})
    return {"tokenizers": tokenizers, "stops": _stop_cases()}


def _stop_cases() -> list[JsonValue]:
    cases = [
        (["END"], ["some text E", "N", "D and more"]),
        (["END"], ["an EN", "EEN", "d"]),
        (["\n\n", "\n\nUser"], ["a\n", "\nUser: b"]),
        (["abcd", "bc"], ["xa", "b", "c", "d"]),
        (["🙂"], ["smile ", "🙂", " no"]),
        (["e\u0301"], ["caf\u00e9 ", "e", "\u0301!"]),
        ([], ["nothing ", "stops"]),
    ]
    found: list[JsonValue] = []
    for strings, pieces in cases:
        stops = StopStrings(strings)
        given: list[JsonValue] = [stops.push(piece) for piece in pieces]
        found.append(
            {
                "strings": list(strings),
                "pieces": list(pieces),
                "given": [*given, stops.finish()],
                "found": stops.found,
            }
        )
    return found


def sampling_vectors() -> JsonValue:
    """What the filters keep of random logits, what is drawn, and the generator's numbers."""
    random = np.random.default_rng(7)
    logits = np.round(random.standard_normal(300) * 3, 4).astype(np.float32)
    logits[[5, 9, 200]] = logits.max() + np.float32(0.5)  # equals, at the top
    options = (
        SamplingOptions(temperature=1.0),
        SamplingOptions(temperature=0.7, top_k=40),
        SamplingOptions(temperature=1.3, top_p=0.9),
        SamplingOptions(temperature=0.8, min_p=0.1),
        SamplingOptions(temperature=1.5, top_k=100, top_p=0.8, min_p=0.02),
        SamplingOptions(temperature=0.01, top_p=0.5),
        SamplingOptions(temperature=1.0, top_k=2),
    )
    cases: list[JsonValue] = []
    for option in options:
        candidates = np.arange(len(logits)), logits
        for apply in filters_for(option):
            candidates = apply(candidates)
        ids, kept = candidates
        sums = np.cumsum(weights(kept).astype(np.float64))
        units = [0.0, 0.1234, 0.5, 0.77, 0.999]
        drawn = [int(ids[int(np.searchsorted(sums, unit * sums[-1], side="right"))]) for unit in units]
        cases.append(
            {
                "temperature": option.temperature,
                "top_k": option.top_k,
                "top_p": option.top_p,
                "min_p": option.min_p,
                "kept": [int(i) for i in ids],
                "units": list(units),
                "drawn": list(drawn),
            }
        )
    return {"logits": [round(float(x), 4) for x in logits], "cases": cases, "splitmix64": _splitmix64(42, 6)}


def _splitmix64(seed: int, count: int) -> JsonValue:
    mask = (1 << 64) - 1
    state, found = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        found.append(str(z ^ (z >> 31)))
    return {"seed": seed, "numbers": list(found)}


_SIZES = tuple(
    StepShape(tokens, cells, min(tokens, 8), f"step_{tokens}_{cells}")
    for tokens in (1, 4, 16)
    for cells in (16, 48)
)


class _RecordingBackend(FakeStepBackend):
    """Keeps what every step was given."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__(spec, _SIZES)
        self.steps: list[JsonValue] = []
        self.live = 0

    def run(self, shape: StepShape, cells: Cells) -> None:
        buffers = self.buffers(shape)
        masks = {"mask": buffers.mask, "window_mask": buffers.window_mask}
        live = self.live
        step: dict[str, JsonValue] = {
            "signature": shape.signature,
            "tokens": [int(t) for t in buffers.tokens[:live]],
            "positions": [int(p) for p in buffers.positions[:live]],
        }
        for name, mask in masks.items():
            if mask is not None:
                step[name] = [[int(c) for c in np.flatnonzero(row == 0)] for row in mask[:live]]
        self.steps.append(step)
        super().run(shape, cells)


def step_vectors() -> JsonValue:
    """Choices of sizes, and all that two sequences which share a model's cells give to its steps."""
    sizes = StepSizes(_SIZES, 48)
    picks: list[JsonValue] = []
    for tokens in (1, 2, 4, 5, 16):
        for used in (0, 10, 12, 13, 16, 17, 40):
            for held in (16, 48):
                shape = sizes.pick(tokens, 1, used, held)
                picks.append({"tokens": tokens, "used": used, "held": held, "signature": shape.signature})
    pieces: list[JsonValue] = [
        {"wanted": wanted, "used": used, "piece": sizes.piece(wanted, used)}
        for wanted in (1, 7, 40)
        for used in (0, 30)
    ]
    return {
        "sizes": [
            {"tokens": s.tokens, "cells": s.cells, "rows": s.rows, "signature": s.signature} for s in _SIZES
        ],
        "context": 48,
        "window": 6,
        "picks": picks,
        "pieces": pieces,
        "operations": _trace(),
    }


def _trace() -> list[JsonValue]:
    # A windowed layer beside a full one, so that no cell is freed early: the Swift package frees none.
    layers = (LayerSpec(None, None), LayerSpec(6, None))
    spec = UniformDecoder("test", 64, 8, 8, 1, 1, 2, 48, layers, 1e-6, "silu", 1.0).spec()
    backend = _RecordingBackend(spec)
    runner = StepRunner(backend, spec, 48)
    lists = {name: runner.new_list() for name in "ab"}
    operations: list[JsonValue] = []
    script = "extend a 3;extend b 6;extend a 1;extend a 1;truncate b 2;extend a 7;extend b 9;"
    script += "extend a 20;truncate a 4;extend b 1;extend a 2;truncate b 0;extend a 1;extend b 5"
    token = 1
    for line in script.split(";"):
        verb, name, number = line.split()
        count = int(number)
        before = len(backend.steps)
        operation: dict[str, JsonValue] = {"verb": verb, "sequence": name, "count": count}
        if verb == "truncate":
            lists[name].truncate(count)
        else:
            tokens = [(token + i) % 64 for i in range(count)]
            token += count
            operation["tokens"] = list(tokens)
            done = 0
            while done < count:
                piece = runner.piece(count - done)
                backend.live = piece
                entry = StepEntry(
                    lists[name],
                    np.array(tokens[done : done + piece], np.int32),
                    "last" if done + piece == count else "none",
                )
                runner.run([entry])
                done += piece
        operation["steps"] = backend.steps[before:]
        operations.append(operation)
    return operations
