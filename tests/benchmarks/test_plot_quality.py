"""The plot of quality against bytes."""

import json

import pytest
from click.testing import CliRunner


@pytest.fixture(scope="module")
def plot(benchmark_module):
    return benchmark_module("plot_quality")


def row(name, kind, recipe, size, ratio):
    figures = {"perplexity_ratio": ratio, "ratio_error": 0.01}
    return {"name": name, "kind": kind, "recipe": recipe, "weights_bytes": size, "texts": {"prose": figures}}


ROWS = [
    row("litert-w8 (litert)", "edgesdk", "w8", 140_000_000, 1.005),
    row("litert-f32 (litert)", "edgesdk", "f32", 540_000_000, 1.0),
    row("llama.cpp Q4_0", "llama.cpp", "Q4_0", 92_000_000, 1.2),
    row("litert-w4c (litert)", "edgesdk", "w4c", 90_000_000, 5.5),
    row("broken", "edgesdk", "w4c", 80_000_000, float("inf")),
]


@pytest.fixture
def figures(tmp_path):
    def write(rows, digest="d", name="figures.json"):
        path = tmp_path / name
        path.write_text(json.dumps({"texts": {"prose": {"sha256": digest}}, "rows": rows}))
        return path

    return write


def test_the_same_figures_give_the_same_file(plot, figures, tmp_path):
    pytest.importorskip("matplotlib")
    drawn = []
    for name in ("a.svg", "b.svg"):
        out = tmp_path / name
        result = CliRunner().invoke(plot.main, [str(figures(ROWS)), "--out", str(out)])
        assert result.exit_code == 0, result.output
        drawn.append(out.read_bytes())
    assert drawn[0] == drawn[1]
    text = drawn[0].decode()
    assert ">litert-w8<" in text
    assert ">Q4_0<" in text
    assert "f32" not in text
    assert "above: broken inf, litert-w4c (litert) 5.50" in text


def test_later_files_replace_rows_of_earlier_ones(plot, figures):
    newer = [row("llama.cpp Q4_0", "llama.cpp", "Q4_0", 92_000_000, 1.1)]
    rows = plot.read_rows([figures(ROWS), figures(newer, name="newer.json")], ["f32"])
    assert [r["name"] for r in rows][:2] == ["broken", "litert-w4c (litert)"]
    (found,) = [r for r in rows if r["recipe"] == "Q4_0"]
    assert found["texts"]["prose"]["perplexity_ratio"] == 1.1


def test_figures_of_other_texts_do_not_mix(plot, figures):
    with pytest.raises(plot.click.ClickException, match="other texts"):
        plot.read_rows([figures(ROWS), figures(ROWS, "e", "other.json")], [])


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"texts": {}, "rows": [{}]}', '{"texts": {}, "rows": []}']
)
def test_what_is_no_figures_file_is_refused(plot, tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(plot.click.ClickException, match=r"figures of quality|no rows"):
        plot.read_rows([path], [])
