"""Options as callers give them: plain values, or one line that names the option."""

import math

import numpy as np
import pytest

from edgesdk.decoding.options import DEFAULT_MAX_TOKENS, GenerationOptions
from edgesdk.errors import UnsupportedOption

NO_NUMBER = ("x", b"1", [1.0], {}, object(), True, 1j, math.nan, np.array([1.0]), 10**400)
NO_WHOLE_NUMBER = ("x", 1.5, True, [1], np.float32(2), np.bool_(True), object(), math.nan, -1)
BAD = {
    "max_tokens": (*NO_WHOLE_NUMBER, 0),
    "top_k": NO_WHOLE_NUMBER,
    "seed": (*NO_WHOLE_NUMBER, 1 << 64),
    "logprobs": (*NO_WHOLE_NUMBER, 101),
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "typical_p", "repetition_penalty"),
        NO_NUMBER,
    ),
    "presence_penalty": NO_NUMBER,
    "frequency_penalty": NO_NUMBER,
    "stop": ("text", 5, [5], [None], [""], [b"x"], {"a": 1}, ["\ud800"], ["x" * 1001], ["x"] * 129),
    "ignore_eos": ("yes", 1, None, []),
    "logit_bias": ([1], {"1": 1.0}, {1: "x"}, {1: math.nan}, {True: 1.0}, 5),
    "regex": (5, b"x", "\ud800"),
    "lark": (5, ["x"], "a\udfff"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_value_is_one_short_line_with_the_options_name(name):
    for value in BAD[name]:
        with pytest.raises(UnsupportedOption, match="stop" if name == "stop" else name) as caught:
            GenerationOptions(**{name: value})
        assert len(str(caught.value)) < 250
        assert "\n" not in str(caught.value)


def test_numbers_of_numpy_become_plain_ones():
    given = GenerationOptions(
        max_tokens=np.int64(3),
        temperature=np.float32(0.5),
        top_k=np.uint8(4),
        stop=["a", np.str_("b")],
        ignore_eos=np.bool_(True),
        logit_bias={np.int32(5): np.float64(-math.inf)},
        logprobs=np.int16(0),
    )
    assert given == GenerationOptions(
        max_tokens=3,
        temperature=0.5,
        top_k=4,
        stop=("a", "b"),
        ignore_eos=True,
        logit_bias={5: -math.inf},
        logprobs=0,
    )
    assert type(given.max_tokens) is int
    assert type(given.temperature) is float
    assert type(given.ignore_eos) is bool


def test_what_was_checked_cannot_be_changed_any_more():
    assert GenerationOptions(stop=None).stop == ()
    stop, bias = ["a"], {1: 1.0}
    given = GenerationOptions(stop=stop, logit_bias=bias)
    stop.append("")
    bias[-1] = math.nan
    assert given.stop == ("a",)
    assert given.logit_bias == {1: 1.0}


def test_the_default_limit_is_the_command_lines():
    from click.core import Context

    from edgesdk.cli.run import command

    assert GenerationOptions().max_tokens == DEFAULT_MAX_TOKENS
    assert GenerationOptions(max_tokens=None).max_tokens is None
    (option,) = [each for each in command.params if each.name == "max_tokens"]
    assert option.get_default(Context(command)) == DEFAULT_MAX_TOKENS
