"""Patterns of tokenizers: what published ones need passes, what may take for ever does not."""

import pytest

from edgesdk.bundle.check_pattern import (
    MOST_CHARS,
    MOST_CHOSEN_TIMES,
    MOST_ENDLESS,
    MOST_LEVELS,
    MOST_TIMES,
    PatternError,
    check_pattern,
)

TAKEN = {
    r"\s+": False,
    r" {2,}": False,
    r"\p{N}{1,3}": False,
    r"x*": True,
    r"a?b?": True,
    r"": True,
    r"(?=x)|b": True,
    r"(?i:'s|'t)|[^\r\n\p{L}]?\p{L}+|\s+(?!\S)": False,
    r"[\p{Lu}\p{Lt}&&[^\p{Han}]]*[\p{Ll}]+(?:'s|'d)?": False,
    r"[^\s\p{L}]++[\r\n]*": False,
    r"(?<=\p{L})\d": False,
    r"(?i)ab\/\_\x{41}\u0041": False,
    r"[]a]+|{|x{|\{": False,
    r"(\w{3})+": False,
    r"(?<name>[[:alpha:]]x)": False,
}


@pytest.mark.parametrize(("pattern", "may_be_empty"), TAKEN.items(), ids=TAKEN)
def test_what_tokenizers_need_passes(pattern, may_be_empty):
    assert check_pattern(pattern).may_be_empty == may_be_empty


def test_every_pattern_that_a_conversion_writes_passes():
    patterns = pytest.importorskip("edgesdk_converters.tokenizers.split_patterns")
    names = [name for name in vars(patterns) if name.isupper() and not name.startswith("_")]
    assert len(names) > 30
    for name in names:
        check_pattern(getattr(patterns, name))


REFUSED = {
    r"(?:x+)+": "around a repeat or a choice",
    r"(x|y)*": "around a repeat or a choice",
    r"(?:x?){2,}": "around a repeat or a choice",
    r"x{2}+|x{1,2}+": "around a repeat or a choice",
    r"(?:x+){2}": "around a repeat without an end",
    f"(?:x?){{{MOST_CHOSEN_TIMES + 1}}}": "a choice that is repeated",
    f"x{{{MOST_TIMES + 1}}}": f"at most {MOST_TIMES}",
    f"x{{{MOST_TIMES + 1},}}": f"at most {MOST_TIMES}",
    f"(?:x{{2}}){{{MOST_TIMES // 2 + 1}}}": f"at most {MOST_TIMES}",
    r"x+" * (MOST_ENDLESS + 1): "repeats without an end in a row",
    r"(" * (MOST_LEVELS + 1) + "x" + ")" * (MOST_LEVELS + 1): "groups within one another",
    r"[x" * (MOST_LEVELS + 2) + "]" * (MOST_LEVELS + 2): "sets within one another",
    r"(?<=x+)y": "what stands before",
    r"(x)\1": "no published tokenizer has",
    r"\k<n>": "no published tokenizer has",
    r"\g<0>": "no published tokenizer has",
    r"(?~x)": "kind of group",
    r"(?x: y)": "kind of group",
    r"(*FAIL)": "repeat of nothing",
    r"+x": "repeat of nothing",
    r"x{,}": "without numbers",
    r"(x": "a group without its end",
    r"x)": "a group that ends",
    r"[x": "a set without its end",
    "x" * (MOST_CHARS + 1): f"expected at most {MOST_CHARS}",
}


@pytest.mark.parametrize(("pattern", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_may_take_for_ever_or_is_not_understood_is_refused(pattern, message):
    with pytest.raises(PatternError) as caught:
        check_pattern(pattern)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    [
        f"x{{{MOST_TIMES}}}",
        r"x+" * MOST_ENDLESS,
        "(" * MOST_LEVELS + "x" + ")" * MOST_LEVELS,
        f"(?:x?){{{MOST_CHOSEN_TIMES}}}",
        "x" * MOST_CHARS,
    ],
)
def test_the_bounds_themselves_are_allowed(pattern):
    check_pattern(pattern)
