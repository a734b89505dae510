import inspect
from dataclasses import fields

import pytest

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.options import GenerationOptions, lists_options
from edgesdk.decoding.sampling import SamplingOptions
from edgesdk.errors import UnsupportedOption

RECOMMENDED = GenerationDefaults(temperature=0.6, top_k=20, top_p=0.95, repetition_penalty=1.1)


def test_nothing_asked_and_nothing_recommended_is_greedy():
    assert GenerationOptions().sampling(GenerationDefaults()) == SamplingOptions()


def test_what_is_not_asked_is_as_recommended():
    assert GenerationOptions(seed=3).sampling(RECOMMENDED) == SamplingOptions(0.6, 20, 0.95, 0.0, 1.1, 3)


def test_what_is_asked_wins_even_where_it_is_zero():
    asked = GenerationOptions(temperature=0.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
    assert asked.sampling(RECOMMENDED) == SamplingOptions()


def test_values_without_meaning_are_refused():
    with pytest.raises(UnsupportedOption, match="top_k is -1"):
        GenerationOptions(top_k=-1).sampling(RECOMMENDED)


def test_help_says_what_every_option_means():
    @lists_options
    def answer(prompt, **options):
        """Answers."""

    said = inspect.getdoc(answer)
    assert said.startswith("Answers.")
    for field in fields(GenerationOptions):
        assert f"    {field.name}: " in said


@pytest.mark.parametrize(
    ("name", "hint"),
    [("max_new_tokens", "max_tokens"), ("temprature", "temperature"), ("stop_sequences", "stop")],
)
def test_an_option_that_does_not_exist_is_one_line(name, hint):
    with pytest.raises(UnsupportedOption, match=rf"there is no option '{name}'; did you mean {hint}\?"):
        GenerationOptions.of({name: 1})
    with pytest.raises(UnsupportedOption, match="'xyzzy'; there are max_tokens, temperature"):
        GenerationOptions.of({"xyzzy": 1})
