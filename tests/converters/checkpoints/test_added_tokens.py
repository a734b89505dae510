"""Tokens of the files beside tokenizer.json; ids and flags as transformers 5.24 loads the very folders."""

import json
import shutil

import pytest
from tokenizers import Tokenizer

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.huggingface_tokenizer import read_huggingface_tokenizer

START, END = "<|turn|>", "<|done|>"


@pytest.fixture
def folder(tmp_path, tiny_folder):
    shutil.copy(tiny_folder / "llama" / "tokenizer.json", tmp_path)
    return tmp_path


@pytest.fixture
def size(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()


@pytest.fixture
def read(folder):
    """Reads the folder with side files by name: the files, and a loaded tokenizer."""

    def read(settings=None, config=None, **files):
        for name, content in {"tokenizer_config": settings, **files}.items():
            if content is not None:
                (folder / f"{name}.json").write_text(json.dumps(content))
        found = read_huggingface_tokenizer(folder, config or {}, {})
        return found, Tokenizer.from_str(found.tokenizer_json)

    return read


def entry(text, **flags):
    usual = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": text, **usual, **flags}


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_a_token_that_only_the_settings_list(read, size):
    listed = {str(size): entry(START), str(size + 1): entry(END)}
    found, tokenizer = read({"added_tokens_decoder": listed, "eos_token": END}, {"eos_token_id": size + 1})
    assert ids(tokenizer, f"{START}a{END}")[::2] == [size, size + 1]
    assert tokenizer.decode(ids(tokenizer, f"{START}a{END}")) == "a"
    assert (found.record.eos_ids, found.record.eos_token) == ((size + 1,), END)
    assert found.notes == ()


def test_a_token_that_only_the_older_file_lists(read, size):
    _, tokenizer = read({}, added_tokens={START: size})
    assert ids(tokenizer, START) == [size]
    assert tokenizer.decode([size], skip_special_tokens=True) == START  # nothing says that it is special
    _, tokenizer = read({}, added_tokens={START: size}, special_tokens_map={"bos_token": START})
    assert tokenizer.decode([size], skip_special_tokens=True) == ""


def test_the_older_files_count_only_where_the_settings_list_nothing(read, size):
    listed = {"added_tokens_decoder": {"2": entry("<|im_end|>")}, "eos_token": "<|im_end|>"}
    older = {"added_tokens": {START: size}, "special_tokens_map": {"eos_token": "<|im_start|>"}}
    found, tokenizer = read(listed, **older)
    assert size not in ids(tokenizer, START)
    assert found.record.eos_token == "<|im_end|>"
    found, tokenizer = read({"eos_token": "<|im_end|>"}, **older)
    assert ids(tokenizer, START) == [size]
    assert (found.record.eos_ids, found.record.eos_token) == ((1,), "<|im_start|>")


@pytest.mark.parametrize(
    "key", ["eos_token", "pad_token", "additional_special_tokens", "extra_special_tokens"]
)
def test_a_token_with_a_role_is_special_and_one_token(read, size, key):
    found, tokenizer = read(
        {key: [START] if key.endswith("tokens") else {"content": START}}, {"vocab_size": 400}
    )
    assert ids(tokenizer, START) == [size]
    assert tokenizer.decode([size], skip_special_tokens=True) == ""
    assert found.record.eos_ids == ((size,) if key == "eos_token" else ())


def test_flags_of_a_known_token_are_those_of_the_settings(folder, read, size):
    document = json.loads((folder / "tokenizer.json").read_text())
    document["added_tokens"].append({"id": size, **entry(START, special=False)})
    (folder / "tokenizer.json").write_text(json.dumps(document))
    _, tokenizer = read({"added_tokens_decoder": {str(size): entry(START, rstrip=True)}})
    assert ids(tokenizer, f"{START} a")[0] == size
    assert ids(tokenizer, f"{START} a")[1:] == ids(tokenizer, "a")
    assert tokenizer.decode([size], skip_special_tokens=True) == ""


def test_what_is_special_in_tokenizer_json_stays_so(read):
    _, tokenizer = read({"added_tokens_decoder": {"2": entry("<|im_end|>", special=False, lstrip=True)}})
    assert tokenizer.decode([2], skip_special_tokens=True) == ""
    assert ids(tokenizer, "a <|im_end|>") == [*ids(tokenizer, "a"), 2]


def test_a_word_of_the_vocabulary_may_become_special(folder, read):
    word, identity = next(
        (text, i)
        for text, i in json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].items()
        if len(text) > 1 and text.isalpha() and text.isascii()
    )
    _, tokenizer = read({"added_tokens_decoder": {str(identity): entry(word)}})
    assert tokenizer.decode([identity], skip_special_tokens=True) == ""


def test_the_id_of_tokenizer_json_counts(read):
    found, tokenizer = read({"added_tokens_decoder": {"1": entry("<|im_end|>")}})
    assert ids(tokenizer, "<|im_end|>") == [2]
    assert found.notes == (
        "tokenizer_config.json gives '<|im_end|>' the id 1; that of tokenizer.json, 2, counts",
    )


def test_a_token_without_a_row_is_left_out(read, size):
    config = {"vocab_size": size}
    found, tokenizer = read({"pad_token": "[PAD]", "added_tokens_decoder": {str(size): entry(START)}}, config)
    assert tokenizer.get_vocab_size() == size
    assert [note.split(" is left out")[0] for note in found.notes] == [
        f"the token {START!r} of tokenizer_config.json",
        "the token '[PAD]' of pad_token",
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"settings": {"added_tokens_decoder": {"999": entry(START)}}},
            f"gives '{START}' the id 999, the next",
        ),
        ({"settings": {"added_tokens_decoder": {"x": entry(START)}}}, "has 'x', expected a token id"),
        ({"settings": {"added_tokens_decoder": {"9": START}}}, "has '9', expected a token id and its flags"),
        ({"settings": {"added_tokens_decoder": {"9": {}}}}, "lists a token without a text"),
        ({"settings": {"added_tokens_decoder": {"9": entry(START, special="yes")}}}, "has special 'yes'"),
        ({"settings": {"added_tokens_decoder": {"9": entry("\ud800")}}}, "not valid Unicode"),
        ({"settings": {"added_tokens_decoder": {"9": entry("x" * 2000)}}}, "a token of 2000 characters"),
        ({"added_tokens": {START: "7"}}, "the id 7, expected an id"),
        ({"added_tokens": {START: True}}, "the id True, expected an id"),
        ({"special_tokens_map": {"eos_token": {"content": START, "lstrip": 3}}}, "has lstrip '3'"),
    ],
)
def test_files_that_contradict_each_other_or_make_no_sense_are_refused(read, files, message):
    with pytest.raises(CheckpointError) as caught:
        read(**files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
