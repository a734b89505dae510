"""Sizes cover every context, decode finest."""

import pytest

from converters.step_sizes import step_sizes
from edgesdk.errors import UnsupportedOption


@pytest.mark.parametrize("context", [16, 100, 512, 513, 2048, 5000, 131072])
def test_every_token_count_reaches_the_context_and_no_further(context):
    sizes = step_sizes(context)
    for tokens in (1, 8, 16, 32, 128):
        cells = [s.cells for s in sizes if s.tokens == tokens]
        assert max(cells) == context
        assert len(set(cells)) == len(cells)


def test_decoding_has_sizes_between_octaves():
    cells = {t: [s.cells for s in step_sizes(2048) if s.tokens == t] for t in (1, 128)}
    assert cells[1] == [512, 768, 1024, 1536, 2048]
    assert cells[128] == [512, 1024, 2048]


@pytest.mark.parametrize("context", [0, 15, 131073])
def test_impossible_contexts_are_refused(context):
    with pytest.raises(UnsupportedOption, match="expected 16 to 131072"):
        step_sizes(context)
