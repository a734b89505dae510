"""The tokenizer of the real SmolLM2-135M GGUF."""

import json

import pytest
from tokenizers import Tokenizer

from edgesdk_converters.checkpoints.gguf_header import read_gguf_header
from edgesdk_converters.tokenizers.from_gguf import tokenizer_from_gguf

pytestmark = pytest.mark.real

# Ids by llama.cpp (llama-cpp-python 0.3.36), which shares no code with the `tokenizers` package.
GOLDEN = {
    "The capital of France is Paris.": [504, 3575, 282, 4649, 314, 7042, 30],
    "I've 33 cats, they'll eat 1,234.5 fish!": [
        57,
        3543,
        216,
        35,
        35,
        7680,
        28,
        502,
        3060,
        3134,
        216,
        33,
        28,
        34,
        35,
        36,
        30,
        37,
        2698,
        17,
    ],
    "def add(a, b):\n    return a + b\n": [1604, 803, 24, 81, 28, 278, 727, 472, 1003, 253, 1232, 278, 198],
    "Съешь ещё этих мягких булок": [
        155,
        111,
        156,
        228,
        6643,
        37123,
        19884,
        5470,
        130,
        46438,
        156,
        235,
        216,
        156,
        231,
        8355,
        7872,
        32122,
        41337,
        16885,
        29441,
        13760,
        7872,
        32122,
        46190,
        14714,
        12681,
        10003,
        135,
    ],
    "我想在apple工作1314151天\uff5e": [
        19805,
        235,
        177,
        221,
        128,
        32632,
        21949,
        36149,
        115,
        40994,
        33,
        35,
        33,
        36,
        33,
        37,
        33,
        18614,
        119,
        186,
        138,
        248,
    ],
    "नमस्ते 🚀": [30658, 35090, 38770, 16525, 26293, 30581, 15107, 244, 218],
    "   three  spaces\n\n\ttab": [256, 1296, 216, 5600, 1116, 197, 15999],
    "<|im_start|>user\nHi<|im_end|>\n": [1, 4093, 198, 26843, 2, 198],
}


@pytest.fixture(scope="module")
def files(smollm2_gguf):
    return tokenizer_from_gguf(read_gguf_header(smollm2_gguf).metadata)


@pytest.fixture(scope="module")
def tokenizer(files):
    return Tokenizer.from_str(files.tokenizer_json)


@pytest.mark.parametrize("text", GOLDEN)
def test_ids_are_those_of_an_independent_implementation(tokenizer, text):
    assert tokenizer.encode(text, add_special_tokens=False).ids == GOLDEN[text]


def test_what_the_file_says_is_kept(files):
    record = files.record
    assert (record.bos_id, record.bos_token, record.add_bos) == (1, "<|im_start|>", False)
    assert (record.eos_ids, record.eos_token) == ((2, 0), "<|im_end|>")
    assert "<|im_start|>" in files.chat_template


def test_special_tokens_are_single_ids(tokenizer, files):
    added = json.loads(files.tokenizer_json)["added_tokens"]
    assert [token["id"] for token in added] == list(range(17))
    for token in added:
        ids = tokenizer.encode(f"a{token['content']}b", add_special_tokens=False).ids
        assert ids.count(token["id"]) == 1
        assert len(ids) == 3


def test_every_line_survives_the_round_trip(tokenizer, lines):
    """But for bytes that the vocabulary has no token for, which its makers' tokenizer drops as well."""
    alphabet = {chr(c) for c in [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]}
    controls = [b for b in range(256) if chr(b) not in alphabet]
    spelled = {b: chr(b) if chr(b) in alphabet else chr(256 + controls.index(b)) for b in range(256)}
    missing = {b for b in range(256) if tokenizer.token_to_id(spelled[b]) is None}
    checked = 0
    for line in lines:
        if missing.isdisjoint(line.encode()):
            ids = tokenizer.encode(line, add_special_tokens=False).ids
            assert tokenizer.decode(ids, skip_special_tokens=False) == line
            checked += 1
    assert checked > 0.8 * len(lines)
