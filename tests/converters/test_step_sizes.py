"""Sizes cover every context; S is never much larger than what is in use."""

import itertools
from dataclasses import replace

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.step_sizes import (
    DECODED,
    PROMPT,
    open_sizes,
    resizable_sizes,
    static_sizes,
    whole_text_sizes,
)
from edgesdk_converters.targets import find_targets

TOKENS = (1, 8, 16, 32, 64, 96, 128)


@pytest.mark.parametrize("context", [16, 100, 128, 512, 513, 2048, 5000, 131072])
def test_every_token_count_reaches_the_context_and_no_further(context):
    for sizes in (resizable_sizes(context), static_sizes(context, TOKENS, (512, 1024))):
        assert {s.tokens for s in sizes} >= set(TOKENS)
        assert len({(s.tokens, s.cells, s.rows) for s in sizes}) == len(sizes)
        for tokens, rows in {(s.tokens, s.rows) for s in sizes}:
            assert max(s.cells for s in sizes if (s.tokens, s.rows) == (tokens, rows)) == context


@pytest.mark.parametrize("context", [2048, 100_000])
def test_resizable_sizes_waste_little(context):
    cells = [s.cells for s in resizable_sizes(context) if s.tokens == 1]
    for smaller, larger in itertools.pairwise(cells):
        assert larger - smaller <= max(128, smaller / 4)


def test_sizes_share_signatures_only_where_files_are_resized():
    sizes = resizable_sizes(2048)
    assert {s.signature for s in sizes} == {"step_1", "step_few", "step_many"}
    assert len({s.signature for s in static_sizes(2048, TOKENS, (512,))}) == 2 * len(TOKENS)


def test_steps_that_decode_have_logits_in_every_row():
    rows = {s.tokens: s.rows for s in static_sizes(2048, (1, 4, 8, 16, 128), decoded=16)}
    assert rows == {1: 1, 4: 4, 8: 8, 16: 16, 128: 8}
    (target,) = find_targets(["onnx-step"])
    assert {s.tokens: s.rows for s in target.steps(2048)} == rows
    (target,) = find_targets(["onnx-npu"])
    assert [s.tokens for s in target.steps(2048)] == [1, 128]


def test_few_tokens_have_all_their_rows_and_prompts_one_or_all():
    rows = {}
    for size in resizable_sizes(512):
        rows.setdefault(size.tokens, set()).add(size.rows)
    assert all(tokens in rows[tokens] for tokens in rows), "no step is run again for rows that it lacks"
    assert all(rows[tokens] == {1, 16, tokens} for tokens in PROMPT)
    assert all(rows[tokens] <= {1, tokens} for tokens in (1, *DECODED))


@pytest.mark.parametrize("context", [0, 15, 131073])
def test_impossible_contexts_are_refused(context):
    for sizes in (resizable_sizes, lambda wanted: static_sizes(wanted, (1,))):
        with pytest.raises(UnsupportedOption, match="expected 16 to 131072"):
            sizes(context)


def test_open_sizes_are_those_of_a_resizable_file_under_one_name():
    assert [replace(size, signature="") for size in open_sizes(1024)] == sorted(
        replace(size, signature="") for size in resizable_sizes(1024)
    )
    assert {size.signature for size in open_sizes(1024)} == {"step"}


@pytest.mark.parametrize("context", [16, 17, 700, 2048, 8192])
def test_steps_of_whole_texts_reach_the_context_and_waste_a_third_at_most(context):
    sizes = whole_text_sizes(context)
    assert (sizes[0].tokens, sizes[-1].tokens) == (16, context)
    assert {(s.cells, s.rows, s.signature) for s in sizes} == {(1, 1, "step_text")}
    for smaller, larger in itertools.pairwise(s.tokens for s in sizes):
        assert larger <= smaller * 3 / 2


@pytest.mark.parametrize("context", [15, 8193])
def test_other_contexts_of_whole_texts_are_refused(context):
    with pytest.raises(UnsupportedOption, match="expected 16 to 8192"):
        whole_text_sizes(context)
