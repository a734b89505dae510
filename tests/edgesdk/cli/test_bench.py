import pytest

KEYS = {"prefill_tokens_per_s", "decode_tokens_per_s", "ttft_ms", "load_ms", "peak_rss_bytes"}
SMALL = ("--prompt-tokens", 40, "--new-tokens", 4, "--repeat", 2)


@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_json_has_the_figures(backend, edgesdk, tiny_bundle):
    result = edgesdk("bench", tiny_bundle, *SMALL, "--backend", backend, "--threads", 1, "--json")
    assert result.code == 0
    report = result.json
    assert all(report[key] > 0 for key in KEYS)
    assert len(report["prefill_rounds"]) == len(report["decode_rounds"]) == 2
    assert (report["receipt"]["backend"], report["receipt"]["threads"]) == (backend, 1)


def test_text_has_units(edgesdk, tiny_bundle):
    out = edgesdk("bench", tiny_bundle, *SMALL).out
    assert out.count("tokens/s") == 2
    assert out.count(" ms") == 3
    assert " MB" in out


def test_what_does_not_fit_is_one_line(edgesdk, tiny_bundle):
    result = edgesdk("bench", tiny_bundle)
    assert result.code == 1
    assert "512 prompt tokens and 128 new ones do not fit the context of 128" in result.error


def test_drafts_are_measured_beside_plain_answers(edgesdk, tiny_bundle):
    arguments = ("bench", tiny_bundle, "--prompt-tokens", 8, "--new-tokens", 4, "--repeat", 1)
    report = edgesdk(*arguments, "--draft", "lookup", "--json").json
    assert report["drafts"]["drafter"] == "lookup+grammar"
    assert [text["name"] for text in report["drafts"]["texts"]] == ["copy", "open"]
    assert edgesdk(*arguments, "--json").json["drafts"] is None
    assert "drafts by lookup" in edgesdk(*arguments, "--draft", "auto").out


def test_a_sustained_load_lasts_as_long_as_asked(edgesdk, tiny_bundle):
    arguments = ("bench", tiny_bundle, "--prompt-tokens", 8, "--new-tokens", 4, "--sustained", 0.2)
    report = edgesdk(*arguments, "--json").json
    assert report["seconds"] >= 0.2
    assert report["kept_share"] > 0
    assert "% of the first" in edgesdk(*arguments).out
    for more in (("--streams", 2), ("--inject-prompt", 8)):
        result = edgesdk(*arguments, *more)
        assert result.code == 1
        assert "leave out --streams, --inject-prompt" in result.error
    assert "no rounds to count" in edgesdk(*arguments, "--repeat", 3).error


def test_a_rule_that_does_not_suit_is_refused_before_anything_is_measured(edgesdk, tiny_bundle):
    result = edgesdk("bench", tiny_bundle, "--prompt-tokens", 1000, "--early-exit", "fixed:2")
    assert result.code == 1
    assert "the bundle has no exits" in result.error
