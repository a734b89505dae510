"""Budgets are kept on text that the ranking has not seen, or refused."""

import numpy as np
import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.layers.budget import LayerBudget, choose_layers, parse_layer_budget, split_texts
from edgesdk_converters.layers.trial import text_losses


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("perplexity=1.05", LayerBudget("perplexity", 1.05)),
        ("perplexity = 1.05 , halves", LayerBudget("perplexity", 1.05, "half")),
        ("layers=26", LayerBudget("layers", 26)),
    ],
)
def test_budgets_are_read(text, budget):
    assert parse_layer_budget(text) == budget


@pytest.mark.parametrize(
    "text",
    [
        *("", "perplexity", "perplexity=1", "perplexity=nan", "perplexity=inf", "perplexity=x", "layers=0"),
        *("layers=-1", "layers=2.5", "layers=26,halves", "speed=2", "perplexity=1.1,thirds", "layers=999999"),
    ],
)
def test_other_budgets_are_refused(text):
    with pytest.raises(UnsupportedOption, match="expected for example"):
        parse_layer_budget(text)


def test_every_third_text_checks():
    texts = [np.arange(n, dtype=np.int32) for n in range(2, 9)]
    seen, unseen = split_texts(texts)
    assert ([len(t) for t in seen], [len(t) for t in unseen]) == ([2, 3, 5, 6, 8], [4, 7])
    assert [len(part) for part in split_texts(texts[:2])] == [1, 1]
    with pytest.raises(UnsupportedOption, match="at least 2"):
        split_texts(texts[:1])


@pytest.mark.parametrize("repair", [None, "linear"])
def test_a_perplexity_budget_is_kept_on_unseen_text(make_stack, spoken, repair):
    program = make_stack(inert="1,3", name="plain")
    texts = spoken(program)
    choice = choose_layers(program, texts, LayerBudget("perplexity", 1.01), repair=repair)
    assert {half.layer for half in choice.request.halves} == {1, 3}
    assert choice.chosen.upper_ratio <= 1.01
    _, unseen = split_texts(texts)
    lost = text_losses(choice.program, unseen).mean() - text_losses(program, unseen).mean()
    assert np.exp(lost) == pytest.approx(choice.chosen.perplexity_ratio, rel=1e-6)
    assert choice.curve[-1].upper_ratio > 1.01  # the search ended where the budget did
    assert choice.program.history[0].settings["skipped"] == "1,3"


def test_halves_go_where_blocks_cannot(make_stack, spoken):
    program = make_stack(inert="2.attention,4.mlp", name="plain")
    budget = LayerBudget("perplexity", 1.001, "half")
    choice = choose_layers(program, spoken(program), budget)
    assert choice.request.describe() == "2.attention,4.mlp"


@pytest.mark.parametrize("method", ["influence", "loss", "greedy", "random"])
def test_a_number_of_layers_is_left(make_stack, texts, method):
    choice = choose_layers(make_stack(), texts, LayerBudget("layers", 4), method=method)
    assert len(choice.program.spec.layers) == 4
    assert [point.removed for point in choice.curve] == [2]


def test_impossible_budgets_say_why(make_stack, spoken, texts):
    with pytest.raises(UnsupportedOption, match="6 layers are to be left of 6"):
        choose_layers(make_stack(), texts, LayerBudget("layers", 6))
    program = make_stack(name="plain")
    with pytest.raises(UnsupportedOption, match=r"nothing can be removed within perplexity .* or halves"):
        choose_layers(program, spoken(program), LayerBudget("perplexity", 1.001))
