"""A repair brings the stream behind a gap nearer to the whole stack's."""

import numpy as np
import pytest

from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs, sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.layers.repair_stack import _upto, repair_stack
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip


def logits(program, texts):
    return np.concatenate(list(sequence_logits(program, texts)))


def stream(program, texts, name):
    graph = _upto(program.graph, [name])
    return np.concatenate(
        [evaluate(graph, program.weights, sequence_inputs(program, [text]))[name] for text in texts]
    )


@pytest.mark.parametrize("method", ["linear", "matrix", "scale"])
@pytest.mark.parametrize("name", ["untied", "biases", "scaled", "windows"])
@pytest.mark.parametrize(("skipped", "after"), [("3", "2.mlp"), ("2-3", "1.mlp"), ("3.mlp", "3.attention")])
def test_the_stream_comes_nearer(make_stack, texts, method, name, skipped, after):
    whole = make_stack(name=name)
    shallow = skip_layers(whole, parse_skip(skipped))
    fixed = repair_stack(whole, shallow, texts, method)
    (gap,) = fixed.gaps
    assert gap.after == after
    assert gap.repaired_error < gap.error
    # The closed form is what a run of the repaired stack shows.
    wanted = stream(whole, texts, "layers.3.mlp.sum")
    layer, kind = after.split(".")
    found = stream(fixed.program, texts, f"layers.{layer}.{'attn' if kind == 'attention' else 'mlp'}.sum")
    lengths = np.linalg.norm(wanted, axis=-1)
    measured = np.sqrt(np.mean((np.linalg.norm(wanted - found, axis=-1) / lengths) ** 2))
    assert measured == pytest.approx(gap.repaired_error, rel=1e-3)
    assert fixed.program.graph == shallow.graph


def test_what_a_linear_map_can_do_is_made_good(make_stack, texts):
    """A block that only adds what the block before it added can be removed at no loss."""
    whole = make_stack(inert="3.attention,4", faint="3.mlp")
    shallow = skip_layers(whole, parse_skip("4"))
    fixed = repair_stack(whole, shallow, texts)
    np.testing.assert_allclose(logits(fixed.program, texts), logits(whole, texts), atol=1e-4)
    assert fixed.gaps[0].error == pytest.approx(0, abs=1e-6)


def test_each_gap_is_repaired_on_the_repaired_stream(make_stack, texts):
    whole = make_stack()
    shallow = skip_layers(whole, parse_skip("1,3.attention,5.mlp"))
    fixed = repair_stack(whole, shallow, texts)
    assert [gap.after for gap in fixed.gaps] == ["0.mlp", "2.mlp", "5.attention"]
    assert [gap.gap for gap in fixed.gaps] == [
        "1.attention to 1.mlp",
        "3.attention to 3.attention",
        "5.mlp to 5.mlp",
    ]
    record = fixed.program.history[-1]
    assert (record.name, record.settings["changed"]) == ("repair_stack", "0.mlp,2.mlp,5.attention")


def test_a_strong_ridge_changes_nothing(make_stack, texts):
    whole = make_stack()
    shallow = skip_layers(whole, parse_skip("3"))
    for method in ("linear", "matrix", "scale"):
        held = repair_stack(whole, shallow, texts, method, ridge=1e12).program
        np.testing.assert_allclose(logits(held, texts), logits(shallow, texts), atol=1e-4)


def test_a_repaired_stack_goes_through_every_transform(make_stack, texts):
    whole = make_stack(name="plain")
    fixed = repair_stack(whole, skip_layers(whole, parse_skip("2")), texts).program
    for recipe in ("f32", "w8-round"):
        prepared = prepare(fixed, find_recipe(recipe))
        np.testing.assert_allclose(logits(prepared, texts), logits(fixed, texts), rtol=1e-3, atol=1e-3)


def test_norms_behind_halves_leave_a_scale(make_stack, texts):
    whole = make_stack(name="gemma_like")
    shallow = skip_layers(whole, parse_skip("2"))
    with pytest.raises(UnsupportedOption, match="use scale"):
        repair_stack(whole, shallow, texts)
    (gap,) = repair_stack(whole, shallow, texts, "scale").gaps
    assert gap.repaired_error < gap.error


def test_a_gap_at_the_bottom_stays(make_stack, texts):
    whole = make_stack()
    shallow = skip_layers(whole, parse_skip("0"))
    assert repair_stack(whole, shallow, texts).gaps == ()
    assert repair_stack(whole, whole, texts).program.history == ()


def test_wrong_settings_are_refused(make_stack, texts):
    whole = make_stack()
    shallow = skip_layers(whole, parse_skip("1"))
    with pytest.raises(UnsupportedOption, match="ridge"):
        repair_stack(whole, shallow, texts, ridge=0)
    with pytest.raises(UnsupportedOption, match="expected linear"):
        repair_stack(whole, shallow, texts, "glue")
    with pytest.raises(TransformError, match="no tokens"):
        repair_stack(whole, shallow, [])
    folded = Program(whole.spec, whole.graph, whole.weights)
    assert repair_stack(whole, folded, texts).gaps == ()
