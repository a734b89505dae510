"""From a prepared program to integers: blocks kept, channels scaled or separated, matrices calibrated.

    keep_blocks or separate_outliers -> scale_channels -> calibrate -> mix -> quantise

Each step is there for recipes that ask for it. What a target's kernels can hold decides which blocks
are kept and whether outliers need separating, so two targets may get two programs from one recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.manifest import TransformRecord, WeightRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.activation_record import with_exact_activations
from edgesdk_converters.quantise.block_kernels import BlockKernels
from edgesdk_converters.quantise.budget import Budget, Mixture, search_mixture
from edgesdk_converters.quantise.calibrate import CalibrationRecord, calibrate
from edgesdk_converters.quantise.choose_scales import choose_scales
from edgesdk_converters.quantise.peak_activations import outlier_channels, peak_activations
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.sensitivity import measure_sensitivities
from edgesdk_converters.quantise.tensor_spool import TensorSpool
from edgesdk_converters.quantise.weight_records import weight_records
from edgesdk_converters.transforms.keep_blocks import keep_blocks, needs_peaks
from edgesdk_converters.transforms.scale_channels import scale_channels
from edgesdk_converters.transforms.separate_outliers import separate_outliers

Report = Callable[[str], None]
Texts = Sequence[NDArray[np.int32]]

_INT8 = Scheme(8, None, "round")
# Large channels are the same in every text, and scales are chosen among a few candidates: neither needs
# all of the sample, as calibration does.
_PEAK_TEXTS = 4
_SCALE_TEXTS = 2
# Where GPTQ's loss decides, channels have to be known with each other: thousands of tokens.
_SCALE_TEXTS_EXACT = 8
# A hundred matrices are each measured on the first; a few mixtures are on the second.
_SENSITIVITY_TEXTS, _SENSITIVITY_TOKENS = 4, 128
_CHECKED_TEXTS = 4


@dataclass(frozen=True)
class QuantisedProgram:
    """What is emitted.

    Attributes:
        program: with float weights.
        weights: its weights under the recipe.
        calibration: how well each calibrated matrix came out; empty without calibration.
        mixture: how precisions were mixed to a budget; None without.
        tokens: of calibration text that were run; 0 for none.
    """

    program: Program
    weights: QuantisedWeights
    calibration: tuple[CalibrationRecord, ...] = ()
    mixture: Mixture | None = None
    tokens: int = 0

    @property
    def history(self) -> tuple[TransformRecord, ...]:
        """What was done to the program, and which of its products read activations without loss."""
        return with_exact_activations(self.program.history, self.program, self.weights)

    @cached_property
    def records(self) -> tuple[WeightRecord, ...]:
        """How every matrix came from its source; each is computed once more for it, for all targets."""
        return weight_records(self.program, self.weights)


def quantise_program(
    program: Program,
    recipe: Recipe,
    kernels: BlockKernels,
    texts: Texts,
    budget: Budget | None = None,
    report: Report | None = None,
    spool: TensorSpool | None = None,
) -> QuantisedProgram:
    """Quantises a program for kernels of one kind.

    Args:
        program: from `prepare`, with the same recipe.
        recipe: how weights are stored.
        kernels: what the target can multiply with.
        texts: calibration text as token ids; may be empty for recipes that need none.
        budget: store as many matrices as it allows as the recipe says, and the others in int8.
        report: told what happens.
        spool: where integers wait; None for memory.

    Raises:
        TransformError: the recipe needs calibration and there is no text, or does not suit the model.
    """
    if budget is not None:
        check_mixable(recipe)
    if recipe.needs_data and not any(len(text) for text in texts):
        raise TransformError(f"recipe {recipe.name} needs calibration text and got none")
    peaks, used = None, 0
    if needs_peaks(recipe, kernels):
        if report is not None:
            report("looking for outlier channels")
        peaks, used = peak_activations(program, texts[:_PEAK_TEXTS]), _PEAK_TEXTS
    if recipe.keep_blocks:
        program, recipe = keep_blocks(program, recipe, kernels, peaks)
    elif peaks is not None:
        program = separate_outliers(program, outlier_channels(program, peaks, recipe.outliers))
    if recipe.scale_channels:
        count = _SCALE_TEXTS_EXACT if recipe.has_exact_products else _SCALE_TEXTS
        program = scale_channels(program, choose_scales(program, recipe, texts[:count], report))
        used = max(used, count)
    if not recipe.calibrates:
        tokens = sum(len(text) for text in texts[:used])
        return QuantisedProgram(
            program, QuantisedWeights(program.weights, recipe, None, spool), tokens=tokens
        )
    tokens = sum(len(text) for text in texts)
    found = calibrate(program, recipe, texts, report, spool=spool)
    if budget is None:
        weights = QuantisedWeights(program.weights, recipe, found.tensors, spool)
        return QuantisedProgram(program, weights, found.records, tokens=tokens)
    integers = {name: t for name, t in found.tensors.items() if isinstance(t, QuantisedTensor)}
    mixture = _mix(program, integers, texts, budget, report)
    own = tuple(Rule(name, _INT8) for name in found.tensors if name not in mixture.low)
    mixed = replace(recipe, name=f"{recipe.name}-mixed", rules=(*own, *recipe.rules))
    return QuantisedProgram(
        program,
        QuantisedWeights(program.weights, mixed, mixture.tensors, spool),
        found.records,
        mixture,
        tokens,
    )


def _mix(
    program: Program,
    low: Mapping[str, QuantisedTensor],
    texts: Texts,
    budget: Budget,
    report: Report | None,
) -> Mixture:
    """Chooses on some of the text and checks on the rest."""
    if len(texts) < 2:
        raise TransformError(
            f"a budget needs at least 2 texts, got {len(texts)}; give a longer calibration text"
        )
    high = {name: round_to_nearest(program.weights.load(name), _INT8) for name in low}
    try:
        store = cache_folder() / "sensitivity" / "figures.jsonl"
    except FileNotFoundError:  # a user without a home folder
        store = None
    count = min(_SENSITIVITY_TEXTS, len(texts) // 2)
    short = [text[:_SENSITIVITY_TOKENS] for text in texts[:count]]
    ranked = measure_sensitivities(program, high, low, short, store=store, report=report)
    checked = texts[count : count + _CHECKED_TEXTS]
    return search_mixture(program, high, low, ranked, checked, budget, report)


def check_mixable(recipe: Recipe) -> None:
    """Refuses a recipe that a budget cannot mix with int8.

    Raises:
        TransformError: it has no calibrated int4 matrices.
    """
    if recipe.palettes or not recipe.calibrates_int4:
        raise TransformError(
            f"recipe {recipe.name} has no calibrated int4 matrices to choose from; a budget needs w4b32, "
            "w4b64, w4c or a recipe file with algorithm gptq"
        )


def depends_on_target(recipe: Recipe) -> bool:
    """Whether targets with other kernels get another program from a recipe."""
    return recipe.keep_blocks or recipe.outliers > 0
