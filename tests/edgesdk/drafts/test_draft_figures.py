import pytest

from edgesdk.drafts.draft_figures import DraftFigures


def test_figures_as_papers_have_them():
    """Ten steps, four of them with drafts, of which 6 of 16 tokens were kept: 16 tokens in all."""
    figures = DraftFigures(("lookup", "shallow"), (10, 6), (5, 1), 10, 4, 0.5)
    assert (figures.drafted, figures.kept) == (16, 6)
    assert figures.kept_per_step == 1.5
    assert figures.block_efficiency == pytest.approx(1.6)
    assert figures.drafted_share == pytest.approx(6 / 16)


def test_without_steps_nothing_is_divided():
    figures = DraftFigures(("lookup",), (0,), (0,), 0, 0, 0.0)
    assert (figures.kept_per_step, figures.block_efficiency, figures.drafted_share) == (0.0, 1.0, 0.0)
