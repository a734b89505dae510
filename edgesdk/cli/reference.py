"""The float32 evaluator of a source, for `edgesdk eval`; the converters are imported when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgesdk.cli.convert import converters_installed

if TYPE_CHECKING:
    from edgesdk.bundle.reader import Bundle
    from edgesdk.evaluation.evaluate_text import Scorer


def open_reference(source: str, bundle: Bundle) -> Scorer:
    """A function from token ids to float32 logits (`parity.score_source`).

    Raises:
        MissingExtra: a package of the `convert` extra is missing.
    """
    with converters_installed():
        from edgesdk_converters.parity.score_source import score_source

        return score_source(source, bundle)
