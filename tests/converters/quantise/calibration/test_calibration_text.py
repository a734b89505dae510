"""The calibration sample: balanced, repeatable, disjoint from what is reported, strict about files."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.quantise.calibration.calibration_text import (
    LIMIT_BYTES,
    CalibrationText,
    Domain,
    builtin_calibration,
    read_calibration,
)

ROOT = Path(__file__).parents[4]


def encode(text):
    return list(text.encode())


def test_every_domain_gives_the_same_share():
    sample = CalibrationText("x", "", tuple(Domain(c, (c * 500,)) for c in "abcd"))
    windows = sample.sequences(encode, length=16, tokens=16 * 8)
    owners = [chr(w[5]) for w in windows]
    assert owners == list("abcdabcd")
    assert all(w.shape == (16,) and w.dtype == np.int32 for w in windows)


def test_a_short_domain_leaves_its_turns_to_the_others():
    sample = CalibrationText("x", "", (Domain("a", ("a" * 30,)), Domain("b", ("b" * 500,))))
    windows = sample.sequences(encode, length=16, tokens=16 * 5)
    assert [chr(w[0]) for w in windows] == list("ababb")


def test_windows_depend_on_the_seed_alone():
    sample = builtin_calibration()
    first, again, other = (sample.sequences(encode, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 16
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_a_larger_sample_contains_the_smaller_one():
    sample = builtin_calibration()
    small, large = (sample.sequences(encode, tokens=tokens) for tokens in (4096, 8192))
    for a, b in zip(small, large[:8], strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_window_is_given_twice():
    windows = builtin_calibration().sequences(encode, length=64, tokens=10**6)
    assert len({w.tobytes() for w in windows}) == len(windows)


def test_a_start_token_begins_each_window_and_stands_nowhere_else():
    def with_start(text):
        return [0, *encode(text)]

    def template(chat):  # as some templates do: a start token of their own
        return "\x01" + "".join(message["content"] for message in chat)

    def with_both(text):
        return [0, 0, *encode(text[1:])] if text.startswith("\x01") else with_start(text)

    windows = builtin_calibration().sequences(with_both, length=64, tokens=10**6, render=template)
    for window in windows:
        assert window[0] == 0
        assert (window[1:] != 0).all()


def test_conversations_go_through_the_template():
    sample = builtin_calibration()
    calls = []

    def render(chat):
        calls.append(len(chat))
        return "@" * 400

    windows = sample.sequences(encode, length=64, tokens=64 * 8, render=render)
    assert calls
    assert sum((w == ord("@")).all() for w in windows) == 1


def test_the_builtin_sample_is_what_its_digest_says():
    sample = builtin_calibration()
    assert sample.name == "builtin"
    digest = hashlib.sha256()
    folder = ROOT / "converters" / "edgesdk_converters" / "quantise" / "calibration"
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*.json")]):
        if path.name != "README.txt":
            digest.update(f"{path.name}\n{path.read_text('utf-8')}\n".encode())
    assert sample.sha256 == digest.hexdigest()


def test_the_builtin_sample_is_whole():
    sample = builtin_calibration()
    assert len(sample.domains) == 8
    for domain in sample.domains:
        assert domain.documents or domain.conversations, domain.name
        assert all("%%" not in text and text for text in domain.documents), domain.name
        for chat in domain.conversations:
            roles = [message["role"] for message in chat if message["role"] != "system"]
            assert roles == ["user", "assistant"] * (len(roles) // 2)


def _runs(text, words=8):
    """All runs of a few words: what two texts share if one quotes the other."""
    split = text.split()
    return {tuple(split[i : i + words]) for i in range(len(split) - words + 1)}


def test_it_shares_nothing_with_what_is_reported():
    """Neither with the passages of the gate nor with the technical evaluation text."""
    sample = builtin_calibration()
    mine = set()
    for domain in sample.domains:
        for text in domain.documents:
            mine |= _runs(text)
        for chat in domain.conversations:
            for message in chat:
                mine |= _runs(message["content"])
    assert len(mine) > 5000
    parity = ROOT / "converters" / "edgesdk_converters" / "parity"
    reported = [path.read_text("utf-8") for path in (parity / "passages.txt", parity / "prompts.txt")]
    from pydoc_data.topics import topics

    reported += topics.values()
    for text in reported:
        assert not mine & _runs(text)


def test_a_file_is_one_domain(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes("Grüße. ".encode() * 200)
    sample = read_calibration(path)
    assert sample.name == "mine.txt"
    assert sample.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(sample.sequences(encode, length=64, tokens=640)) == 10


def test_a_file_is_sampled_all_over(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("".join(f"{i:07d} " for i in range(4000)))
    windows = read_calibration(path).sequences(encode, length=64, tokens=64 * 16)
    places = [int(bytes(w.astype(np.uint8)).split()[1]) for w in windows]
    assert min(places) < 1000
    assert max(places) > 3000


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
        (b"abc\xff\xfe", "not UTF-8 (byte 3)"),
        (b"a\0b" * 100, "binary"),
        (b"a" * (LIMIT_BYTES + 1), "more than 16 MB"),
    ],
    ids=["empty", "blank", "not-utf8", "binary", "large"],
)
def test_bad_files_are_refused_in_one_line(tmp_path, data, says):
    path = tmp_path / "bad.txt"
    path.write_bytes(data)
    with pytest.raises(UnsupportedOption) as caught:
        read_calibration(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UnsupportedOption, match="cannot be read"):
            read_calibration(path)


def test_a_text_shorter_than_a_window_is_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("Too short.")
    with pytest.raises(UnsupportedOption, match=r"has 12 tokens, expected at least 64"):
        read_calibration(path).sequences(encode, length=64)


@pytest.mark.parametrize(("length", "tokens"), [(0, 100), (64, 63), (-1, 5)])
def test_senseless_numbers_are_refused(length, tokens):
    with pytest.raises(UnsupportedOption, match="calibration windows"):
        builtin_calibration().sequences(encode, length=length, tokens=tokens)


def test_the_sample_is_packaged():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    globs = project["tool"]["setuptools"]["package-data"]["edgesdk_converters"]
    assert {"**/*.txt", "**/*.json"} <= set(globs)
    assert json.loads(
        (ROOT / "converters/edgesdk_converters/quantise/calibration/dialogue.json").read_text("utf-8")
    )
    assert importlib.util.find_spec("edgesdk_converters.quantise.calibration").origin is not None


@pytest.mark.real
def test_it_is_long_enough_for_a_real_tokenizer(smollm2_gguf, tmp_path):
    from tokenizers import Tokenizer

    from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint

    engine = Tokenizer.from_str(open_checkpoint(str(smollm2_gguf)).tokenizer.tokenizer_json)
    windows = builtin_calibration().sequences(
        lambda text: engine.encode(text, add_special_tokens=False).ids, tokens=1 << 20
    )
    assert len(windows) * 512 >= 16_384
