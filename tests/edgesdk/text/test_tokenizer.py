import os

import pytest
from tokenizers import Tokenizer as Engine

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.errors import BundleError, UnsupportedOption
from edgesdk.text import tokenizer as module
from edgesdk.text.tokenizer import Tokenizer

TEXTS = ["the dog", "  two  spaces\n", "naïve 日本 👩‍👩‍👧", "", "a\tb", "über <|end|> mid </s> x"]


@pytest.mark.parametrize("text", TEXTS[:5])
def test_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_bos=False)) == text


def test_the_manifest_decides_about_the_start_token(byte_level, sentencepiece):
    start = sentencepiece.record.bos_id
    assert sentencepiece.encode("the")[0] == start
    assert sentencepiece.encode("the", add_bos=False)[0] != start
    assert byte_level.encode("the")[0] != byte_level.record.bos_id
    assert byte_level.encode("the", add_bos=True)[0] == byte_level.record.bos_id


def test_special_tokens_in_the_text_become_their_ids(byte_level):
    ids = byte_level.encode("the<|end|>dog")
    assert byte_level.record.eos_ids[0] in ids
    assert byte_level.decode(ids) == "thedog"
    assert byte_level.decode(ids, skip_special=False) == "the<|end|>dog"


def test_half_a_character_is_refused(byte_level):
    with pytest.raises(UnsupportedOption, match=r"half a character \(U\+DC80\) at position 1"):
        byte_level.encode("a\udc80b")


@pytest.mark.parametrize("ids", [[-1], [1 << 40], ["x"], [1.5]])
def test_ids_that_are_none_are_one_line(byte_level, ids):
    with pytest.raises(UnsupportedOption, match="cannot decode these ids") as caught:
        byte_level.decode(ids)
    assert "\n" not in str(caught.value)


def test_truncation_and_padding_of_the_file_are_not_applied(byte_level, tmp_path):
    engine = Engine.from_str(byte_level.engine.to_str())
    engine.enable_truncation(2)
    engine.enable_padding(length=50)
    engine.save(str(tmp_path / "tokenizer.json"))
    other = Tokenizer(tmp_path / "tokenizer.json", byte_level.record)
    assert other.encode("a longer text than two") == byte_level.encode("a longer text than two")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": {"type": "BPE"}}'])
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    tokenizer = Tokenizer(path, TokenizerRecord(None, (), False))
    with pytest.raises(BundleError, match="is not a tokenizer") as caught:
        tokenizer.encode("x")
    assert "\n" not in str(caught.value)


def test_the_library_sees_no_file_that_passes_a_bound(byte_level, tmp_path, monkeypatch):
    def seen(data):
        raise AssertionError("the library was asked")

    text = byte_level.engine.to_str()
    path = tmp_path / "tokenizer.json"
    path.write_text(
        text.replace('"added_tokens":[', '"added_tokens":[{"id":4194304,"content":"x"},'), "utf-8"
    )
    monkeypatch.setattr(Engine, "from_buffer", seen, raising=False)
    with pytest.raises(BundleError, match="an added token has the id 4194304, expected 0 to 4194303"):
        Tokenizer(path, byte_level.record).encode("x")


def test_a_file_is_checked_once_for_the_same_bytes(byte_level, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    checked = []
    monkeypatch.setattr(module, "check_tokenizer", checked.append)
    path = tmp_path / "tokenizer.json"
    path.write_text(byte_level.engine.to_str(), "utf-8")
    for _ in range(2):
        assert Tokenizer(path, byte_level.record).encode("the dog") == byte_level.encode("the dog")
    assert len(checked) == 1
    with path.open("a", encoding="utf-8") as stream:
        stream.write(" ")
    Tokenizer(path, byte_level.record).encode("x")
    assert len(checked) == 2
    assert len(os.listdir(tmp_path / "cache" / module._CHECK)) == 2


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    path = tmp_path / "tokenizer.json"
    path.write_text("x" * 11)
    with pytest.raises(BundleError, match="more than 10 bytes"):
        Tokenizer(path, TokenizerRecord(None, (), False)).encode("x")
