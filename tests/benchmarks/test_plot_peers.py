"""The chart of a comparison with peers."""

import re

import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib", reason="needs the extra 'bench'")


@pytest.fixture(scope="module")
def plot_peers(benchmark_module):
    return benchmark_module("plot_peers")


def document(rows):
    return {
        "machine": "2 cores (x86_64: AVX2), 2 threads",
        "rounds": 3,
        "rows": [{"name": name, "is_peer": is_peer, "medians": medians} for name, is_peer, medians in rows],
    }


def test_the_fastest_is_first_and_the_machine_is_named(plot_peers, tmp_path):
    rows = [
        ("slow peer", True, {"64": {"decode_tokens_per_s": 10.0}}),
        ("edgesdk w8", False, {"64": {"decode_tokens_per_s": 1234.0, "prefill_tokens_per_s": 50.0}}),
        ("never ran", True, {}),
    ]
    plot_peers.draw(document(rows), tmp_path / "c.svg")
    drawn = (tmp_path / "c.svg").read_text()
    texts = re.findall(r">([^<>]+)</text>", drawn)
    assert "decode after 64 tokens" in texts
    assert "1,234" in texts
    assert "never ran" not in texts
    decode = [t for t in texts if t in ("slow peer", "edgesdk w8")]
    assert decode[-2:] == ["edgesdk w8", "slow peer"]
    assert any("2 cores (x86_64: AVX2)" in t for t in texts)


def test_the_same_figures_give_the_same_file(plot_peers, tmp_path):
    rows = [("edgesdk", False, {"64": {"decode_tokens_per_s": 1.0}})]
    for name in ("a.svg", "b.svg"):
        plot_peers.draw(document(rows), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_nothing_to_draw_is_one_line(plot_peers, tmp_path):
    figures = tmp_path / "f.json"
    figures.write_text('{"machine": "m", "rounds": 1, "rows": []}')
    done = CliRunner().invoke(plot_peers.main, [str(figures), "--out", str(tmp_path / "c.svg")])
    assert done.exit_code == 1
    assert "there are no figures to draw" in done.output
