"""The account of a ranking, and its plot."""

import sys
from pathlib import Path

import pytest

from edgesdk.errors import MissingExtra, UnsupportedOption
from edgesdk_converters.layers.plot_layers import check_plot, plot_layers
from edgesdk_converters.layers.rank_layers import RankOptions
from edgesdk_converters.layers.report_layers import report_layers


@pytest.fixture
def report(make_stack, spoken):
    program = make_stack(inert="2", name="plain")
    return report_layers(
        "tiny", program, spoken(program), ("own", "0" * 64), RankOptions("influence", 3), repair="linear"
    )


def test_both_curves_are_measured_on_unseen_text(report):
    assert report.ranking.removals[0] == "2"
    assert [point.removed for point in report.curve] == [1, 2, 3]
    assert report.curve[0].perplexity_ratio == pytest.approx(1, abs=1e-6)
    assert report.curve[2].perplexity_ratio > 1.01
    assert [point.repaired for point in report.repaired] == [True] * 3
    assert report.checked_tokens == 2 * 25
    assert report.ranking.tokens == 4 * 25


def test_the_plot_repeats_itself(report, tmp_path):
    pytest.importorskip("matplotlib", reason="drawing is an extra")
    for name in ("a.svg", "b.svg"):
        plot_layers(report, tmp_path / name)
    drawn = (tmp_path / "a.svg").read_text("utf-8")
    assert drawn == (tmp_path / "b.svg").read_text("utf-8")
    assert "repaired (linear)" in drawn
    assert "1 - cosine" in drawn


def test_a_plot_that_cannot_be_drawn_is_refused_first(monkeypatch):
    with pytest.raises(UnsupportedOption, match=r"\.svg"):
        check_plot(Path("layers.png"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="matplotlib"):
        check_plot(Path("layers.svg"))
