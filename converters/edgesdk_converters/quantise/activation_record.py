"""Which products of a program read activations without loss, for the manifest."""

from __future__ import annotations

from edgesdk.bundle.manifest import TransformRecord
from edgesdk_converters.graph.low_rank_term import STREAM_INNER
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.activation_rule import FEW_TOKENS
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights


def with_exact_activations(
    history: tuple[TransformRecord, ...], program: Program, weights: QuantisedWeights
) -> tuple[TransformRecord, ...]:
    """A history with a record of the products that are exact, if the recipe asks for any.

    What rows of streams alone have is not among them: what those say is never a choice.

    Args:
        history: of the program.
        program: the stack whose products count.
        weights: its weights under the recipe.
    """
    recipe = weights.recipe
    if not recipe.has_exact_products:
        return history
    products = [node.inputs[1] for node in program.graph.nodes if isinstance(node.op, Linear)]
    own = [name for name in products if not name.endswith(STREAM_INNER)]
    rounding = [name for name in own if weights.scheme(name) is not None]
    sizes = {"decode": 1, "few": FEW_TOKENS, "prompt": FEW_TOKENS + 1}
    exact = {phase: sum(recipe.exact(name, T) for name in rounding) for phase, T in sizes.items()}
    return (*history, TransformRecord("exact_activations", {**exact, "of": len(rounding)}))
