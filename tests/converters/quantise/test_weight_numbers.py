"""The digest of a variant's weights follows their numbers and names, and nothing else."""

import dataclasses

import numpy as np
import pytest

from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.palette_tensor import PaletteTensor
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.quantise.weight_numbers import digest_floats, digest_stored, weight_numbers
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip


class Changed:
    """Other weights with one number of one of them changed."""

    def __init__(self, base, name, added):
        self.base, self.name, self.added = base, name, added

    def __iter__(self):
        return iter(self.base)

    def shape(self, name):
        return self.base.shape(name)

    def load(self, name):
        values = self.base.load(name).copy()
        if name == self.name:
            values.reshape(-1)[3] += self.added
        return values


def numbers(program, recipe):
    return weight_numbers(program, QuantisedWeights(program.weights, find_recipe(recipe)))


@pytest.mark.parametrize("recipe", ["f32", "f16", "w8-round", "w4b32-round", "p4-round"])
@pytest.mark.parametrize("name", ["layers.1.down", "final_norm"])
def test_one_other_number_is_another_digest(make_program, recipe, name):
    program = make_program("plain")
    changed = dataclasses.replace(program, weights=Changed(program.weights, name, 1.0))
    same = dataclasses.replace(program, weights=Changed(program.weights, name, 0.0))
    assert numbers(program, recipe) == numbers(same, recipe) != numbers(changed, recipe)


def test_only_what_is_stored_counts(make_program):
    program = make_program("plain")
    close = Changed(program.weights, "layers.1.down", 1e-7)
    close = dataclasses.replace(program, weights=close)
    assert numbers(program, "f32") != numbers(close, "f32")
    assert numbers(program, "f16") == numbers(close, "f16")  # both round to the same


def test_who_asked_for_a_weight_first_does_not_matter(make_program):
    program = prepare(make_program("plain"), find_recipe("f16"))
    asked = QuantisedWeights(program.weights, find_recipe("f16"))
    for name in reversed(list(asked)):
        asked.load(name)
    assert weight_numbers(program, asked) == numbers(program, "f16")


def test_recipes_and_stacks_are_told_apart(make_program):
    program = make_program("untied")
    shallow = skip_layers(program, parse_skip("1.mlp"))
    found = [numbers(p, r) for p in (program, shallow) for r in ("f32", "f16", "w8-round", "w4b32-round")]
    assert len(set(found)) == len(found)


def test_scales_shapes_and_kinds_count():
    values, scales = np.arange(-8, 8, dtype=np.int8).reshape(2, 8), np.ones((2, 1), np.float32)
    stored = QuantisedTensor(values, scales, 8, None)
    palette = PaletteTensor(np.zeros((2, 8), np.uint8), np.zeros((1, 16), np.float32))
    found = {
        digest_stored(stored),
        digest_stored(dataclasses.replace(stored, scales=scales * 2)),
        digest_stored(QuantisedTensor(values.reshape(4, 4), np.ones((4, 1), np.float32), 8, None)),
        digest_stored(palette),
        digest_floats(np.zeros(4, np.float32)),
        digest_floats(np.zeros((2, 2), np.float32)),
        digest_floats(np.zeros(4, np.float16)),
    }
    assert len(found) == 7
    # How many bits a file gives an integer is packing.
    assert digest_stored(stored) == digest_stored(dataclasses.replace(stored, bits=4))
    assert digest_floats(np.arange(4.0)[::2]) == digest_floats(np.array([0.0, 2.0]))
