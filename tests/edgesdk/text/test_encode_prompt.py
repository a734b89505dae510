"""Prompts: text or token ids, and one line for everything else."""

import math

import numpy as np
import pytest

from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.text.encode_prompt import check_known_ids, encode_prompt


def test_text_and_ids_of_every_kind(byte_level):
    ids = byte_level.encode("The fox")
    for prompt in ("The fox", ids, tuple(ids), np.array(ids, np.uint16), [np.int64(i) for i in ids]):
        found = encode_prompt(prompt, byte_level, 100)
        assert found == ids
        assert all(type(token) is int for token in found)
    assert encode_prompt(range(3), byte_level, 100) == [0, 1, 2]
    assert encode_prompt(np.empty(0), byte_level, 100) == []


@pytest.mark.parametrize(
    "prompt",
    [
        *(5, None, b"text", {"role": "user"}, {1, 2}, iter([1]), object(), math.nan),
        *([1.0], ["x"], [None], [True], [[1]], [{"role": "user", "content": "x"}]),
        *(np.zeros((2, 2), np.int32), np.zeros(3), np.array(5), np.array([True])),
    ],
)
def test_what_is_neither_is_refused(byte_level, prompt):
    with pytest.raises(UnsupportedOption, match="the prompt") as caught:
        encode_prompt(prompt, byte_level, 100)
    assert len(str(caught.value)) < 250


def test_too_much_is_refused_before_it_is_looked_at(byte_level):
    for prompt in (range(10**9), np.zeros(101, np.int32), ["x"] * 101):
        with pytest.raises(CapacityError, match="the context holds 100"):
            encode_prompt(prompt, byte_level, 100)
    with pytest.raises(CapacityError, match="characters"):
        encode_prompt("x" * 100_000, byte_level, 100)


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([], UnsupportedOption, "no tokens"),
        ([1, 40], UnsupportedOption, "token 40, expected ids from 0 to 39"),
        ([-1], UnsupportedOption, "token -1"),
        ([1] * 33, CapacityError, "33 tokens, the context holds 32"),
    ],
)
def test_ids_that_no_model_could_run(prompt, error, message):
    with pytest.raises(error, match=message):
        check_known_ids(prompt, 40, 32)


def test_ids_that_it_could():
    check_known_ids([0, 39] * 16, 40, 32)
