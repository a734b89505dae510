"""Refuses recipes and limits that a target cannot keep, before anything is read."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.quantise.recipe import Recipe
from edgesdk_converters.targets import TARGETS, Target


def check_palettes(targets: Sequence[Target], recipes: Sequence[Recipe]) -> None:
    """Refuses recipes that store palettes for targets that have none.

    Raises:
        UnsupportedOption: there is such a pair.
    """
    without = ", ".join(target.name for target in targets if not target.palettes)
    named = next((recipe.name for recipe in recipes if recipe.palettes), None)
    if named is not None and without:
        takes = ", ".join(target.name for target in TARGETS if target.palettes)
        raise UnsupportedOption(
            f"recipe {named} stores palettes, which only {takes} take, found {without}; leave it out or "
            "choose an int4 recipe"
        )


def check_exact(targets: Sequence[Target], recipes: Sequence[Recipe]) -> None:
    """Refuses recipes with exact activations for targets whose kernels round them on grids of their own.

    Raises:
        UnsupportedOption: there is such a pair.
    """
    without = ", ".join(target.name for target in targets if not target.exact)
    named = next((recipe.name for recipe in recipes if recipe.has_exact_products), None)
    if named is not None and without:
        takes = ", ".join(target.name for target in TARGETS if target.exact)
        raise UnsupportedOption(
            f"recipe {named} has exact activations, which only {takes} take, found {without}; leave it out"
        )


def check_package_limit(targets: Sequence[Target], limit_mb: float | None) -> None:
    """Refuses a limit that no target heeds, or that nothing can keep.

    Raises:
        UnsupportedOption: a target writes no packages, or the limit is not above zero.
    """
    if limit_mb is None:
        return
    without = ", ".join(target.name for target in targets if not target.packages)
    if without:
        takes = ", ".join(target.name for target in TARGETS if target.packages)
        raise UnsupportedOption(
            f"a package limit is for the targets {takes} only, found {without}; leave it out"
        )
    if not 0 < limit_mb < 1e6:
        raise UnsupportedOption(f"the package limit is {limit_mb} MB, expected more than 0")
