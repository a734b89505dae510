"""Several packages in a row as one: what one gives under a name, later ones take under that name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from edgesdk.backends.coreml.mil_program import Array, TensorType
from edgesdk.backends.coreml.state_backend import Predict, StatePredictor
from edgesdk.backends.coreml.step_backend import Predictor
from edgesdk.errors import DeviceError


class PartPredictor(Predictor, StatePredictor, Protocol):
    """Runs the functions of one package, with states or without."""

    def outputs(self, function: str) -> tuple[str, ...]:
        """Names of what a function gives."""


class PartsPredictor:
    """Packages that run in order; implements `PartPredictor`."""

    def __init__(self, parts: Sequence[PartPredictor]) -> None:
        """Takes over predictors, at least one, in the order in which they run."""
        self._parts = tuple(parts)

    def inputs(self, function: str) -> Mapping[str, TensorType]:
        """Types of what a function wants from outside, over all parts.

        Raises:
            DeviceError: parts disagree on an input.
        """
        made: set[str] = set()
        wanted: dict[str, TensorType] = {}
        for part in self._parts:
            for name, kind in part.inputs(function).items():
                if name in made:
                    continue
                if wanted.setdefault(name, kind) != kind:
                    raise DeviceError(
                        f"the packages disagree on the input {name!r}; convert the bundle again"
                    )
            made.update(part.outputs(function))
        return wanted

    def outputs(self, function: str) -> tuple[str, ...]:
        """Names of all that the parts give."""
        return tuple(name for part in self._parts for name in part.outputs(function))

    def predict(self, function: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Runs all parts."""
        return self._run(function, inputs, [part.predict for part in self._parts])

    def start(self, function: str) -> Predict:
        """Zeroed states for every part, and what runs them all over these."""
        started = [part.start(function) for part in self._parts]
        return lambda name, inputs: self._run(name, inputs, started)

    def _run(
        self, function: str, inputs: Mapping[str, Array], predictions: Sequence[Predict]
    ) -> Mapping[str, Array]:
        values, found = dict(inputs), dict[str, Array]()
        for part, predict in zip(self._parts, predictions, strict=True):
            wanted = {n: values[n] for n, kind in part.inputs(function).items() if not kind.state}
            given = predict(function, wanted)
            values.update(given)
            found.update(given)
        return found
