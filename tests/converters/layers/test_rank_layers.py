"""Rankings find what a stack can do without."""

import json

import numpy as np
import pytest

from edgesdk.bundle.records import from_json, to_json
from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk_converters.layers.rank_layers import (
    LayerRanking,
    RankOptions,
    rank_layers,
    reorder,
    stack_parts,
)
from edgesdk_converters.layers.trial import Trial, text_losses
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip


@pytest.mark.parametrize("name", ["untied", "gemma_like", "scaled", "windows"])
@pytest.mark.parametrize("part", ["0", "3", "5", "2.attention", "4.mlp"])
def test_a_trial_without_a_part_is_the_stack_without_it(make_stack, texts, name, part):
    program = make_stack(name=name)
    trial = Trial(program, texts, 1)
    found = trial.losses_without(parse_skip(part))
    np.testing.assert_allclose(
        found, text_losses(skip_layers(program, parse_skip(part)), texts, 1), rtol=1e-6
    )
    np.testing.assert_allclose(trial.losses, text_losses(program, texts, 1), rtol=1e-6)
    assert np.abs(found - trial.losses).max() > 1e-3


def test_influence_is_one_minus_the_cosine(make_stack, texts):
    trial = Trial(make_stack(inert="2", faint="4"), texts)
    found = [trial.influence(part) for part in stack_parts(trial.program, "block")]
    assert found[2] == pytest.approx(0, abs=1e-9)
    assert 0 < found[4] < min(found[i] for i in (0, 1, 3, 5)) < 2


@pytest.mark.parametrize("method", ["influence", "loss", "greedy"])
def test_an_inert_block_goes_first(make_stack, spoken, method):
    program = make_stack(inert="3,1", name="plain")
    ranking = rank_layers(program, spoken(program), RankOptions(method))
    assert set(ranking.removals[:2]) == {"1", "3"}
    assert len(ranking.removals) == 5


@pytest.mark.parametrize("method", ["influence", "loss", "greedy"])
def test_inert_halves_are_found(make_stack, texts, method):
    ranking = rank_layers(make_stack(inert="3.attention"), texts, RankOptions(method, unit="half"))
    by_part = {score.part: score for score in ranking.scores}
    assert by_part["3.attention"].influence == pytest.approx(0, abs=1e-9)
    assert by_part["3.mlp"].influence > 0.01
    assert len(ranking.scores) == 12
    assert by_part["3.mlp"].weights == 64 + 3 * 64 * 96
    assert ranking.request(11).halves  # one attention is left, so this can be skipped


def test_a_greedy_step_is_the_best_of_all(make_stack, texts):
    program = make_stack()
    ranking = rank_layers(program, texts, RankOptions("greedy", 3, width=6))
    shallow = program
    for part, loss in zip(ranking.removals, ranking.losses, strict=True):
        options = {
            p.describe(): text_losses(skip_layers(shallow, p), texts).mean()
            for p in stack_parts(shallow, "block")
        }
        assert part == min(options, key=options.__getitem__)
        assert loss == pytest.approx(options[part], rel=1e-6)
        shallow = skip_layers(shallow, parse_skip(part))


def test_a_limit_ends_the_search(make_stack, spoken):
    program = make_stack(inert="2", name="plain")
    ranking = rank_layers(program, spoken(program), RankOptions("greedy", most_ratio=1.0001))
    over = [loss - ranking.loss > np.log(1.0001) for loss in ranking.losses]
    assert over[-1]
    assert not any(over[:-1])


def test_rankings_repeat_themselves(make_stack, texts):
    for method in ("influence", "loss", "greedy", "random"):
        options = RankOptions(method)
        assert rank_layers(make_stack(), texts, options) == rank_layers(make_stack(), texts, options)
    drawn = [RankOptions("random", seed=seed) for seed in (1, 2)]
    first, second = (rank_layers(make_stack(), texts, options).removals for options in drawn)
    assert first != second


def test_other_rankings_come_from_the_same_scores(make_stack, texts):
    program = make_stack(faint="4", name="untied")
    greedy = rank_layers(program, texts, RankOptions("greedy", 2))
    for method, seed in (("influence", 0), ("loss", 0), ("random", 3)):
        expected = rank_layers(program, texts, RankOptions(method, 4, seed=seed))
        found = reorder(program, greedy, method, remove=4, seed=seed)
        assert (found.removals, found.method) == (expected.removals, method)
    with pytest.raises(UnsupportedOption, match="rank again"):
        reorder(program, greedy, "greedy", remove=2)
    with pytest.raises(UnsupportedOption, match="rank again"):
        reorder(program, rank_layers(program, texts, RankOptions("influence")), "loss", remove=2)


def test_a_ranking_survives_json(make_stack, texts):
    ranking = rank_layers(make_stack(), texts, RankOptions(remove=2, unit="half"))
    assert from_json(LayerRanking, json.loads(json.dumps(to_json(ranking)))) == ranking


def test_a_shallow_stack_is_ranked_by_its_own_numbers(make_stack, texts):
    shallow = skip_layers(make_stack(), parse_skip("1,3.attention"))
    ranking = rank_layers(shallow, texts, RankOptions("loss"))
    assert [score.part for score in ranking.scores] == ["0", "2", "3.mlp", "4", "5"]
    skip_layers(shallow, ranking.request(4))


@pytest.mark.parametrize("remove", [0, 6, -1])
def test_impossible_numbers_are_refused(make_stack, texts, remove):
    with pytest.raises(UnsupportedOption, match="one stays"):
        rank_layers(make_stack(), texts, RankOptions(remove=remove))


def test_unknown_methods_and_missing_text_are_refused(make_stack, texts):
    with pytest.raises(UnsupportedOption, match="expected influence"):
        RankOptions("magic")
    with pytest.raises(TransformError, match="no text of two tokens"):
        rank_layers(make_stack(), [texts[0][:1]])
    with pytest.raises(UnsupportedOption, match="were ranked"):
        rank_layers(make_stack(), texts, RankOptions(remove=1)).request(2)
