"""Core ML itself, through coremltools' `MLModel`: only on macOS.

A model object is made per function when it is first used, which is when Core ML compiles it for the
chosen units. Nothing here can run elsewhere; see docs/coreml.md for what that leaves open.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgesdk.backends.coreml.interpreter import check_program
from edgesdk.backends.coreml.mil_program import Array, Function, MilProgram, TensorType, read_program
from edgesdk.errors import DeviceError, MissingExtra

if TYPE_CHECKING:
    from coremltools.models import MLModel
    from coremltools.models.model import MLState

Units = Literal["ALL", "CPU_AND_GPU", "CPU_ONLY"]
"""Compute units as coremltools names them; with `ALL`, Core ML chooses, the Neural Engine included."""


class MlModelPredictor:
    """A package that Core ML runs; implements `PartPredictor`."""

    def __init__(self, package: Path, units: Units) -> None:
        """Prepares a package; nothing is compiled yet.

        Args:
            package: the `.mlpackage` folder.
            units: where Core ML may run it.

        Raises:
            BundleError: the package is damaged, or uses an operation that edgesdk does not emit.
            DeviceError: this is not macOS.
            MissingExtra: coremltools is not installed.
        """
        if platform.system() != "Darwin":
            raise DeviceError(
                f"Core ML runs on macOS and iOS only, this is {platform.system()}; "
                "the backend coreml-interpreter checks the package here"
            )
        self._package = package
        self._units = units
        self._program: MilProgram = read_program(package)
        check_program(self._program)
        self._models: dict[str, MLModel] = {}

    def inputs(self, function: str) -> Mapping[str, TensorType]:
        """Types of a function's inputs.

        Raises:
            DeviceError: there is no such function.
        """
        return self._function(function).inputs

    def outputs(self, function: str) -> tuple[str, ...]:
        """Names of what a function gives.

        Raises:
            DeviceError: there is no such function.
        """
        return self._function(function).outputs

    def predict(self, function: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Runs a function.

        Raises:
            DeviceError: Core ML refused or failed.
        """
        return self._predict(function, inputs, None)

    def start(self, function: str) -> Callable[[str, Mapping[str, Array]], Mapping[str, Array]]:
        """`predict` over zeroed states, which every call reads and updates.

        The states that one function makes are given to all: they have the same names and shapes.

        Raises:
            DeviceError: Core ML makes no states.
        """
        try:
            states = self._model(function).make_state()
        except Exception as error:  # coremltools raises nothing more specific
            raise DeviceError(f"Core ML makes no states for {function!r}: {error}") from error
        return partial(self._predict, states=states)

    def _predict(
        self, function: str, inputs: Mapping[str, Array], states: MLState | None
    ) -> Mapping[str, Array]:
        types = self.inputs(function)
        given = {name: np.asarray(array, types[name].dtype) for name, array in inputs.items()}
        try:
            outputs: Mapping[str, Array] = self._model(function).predict(given, states)
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"Core ML failed in {function!r}: {error}") from error
        return outputs

    def _function(self, function: str) -> Function:
        if function not in self._program.functions:
            raise DeviceError(f"the Core ML package has no function {function!r}; convert the bundle again")
        return self._program.functions[function]

    def _model(self, function: str) -> MLModel:
        if function not in self._models:
            try:
                import coremltools
            except ImportError as error:
                raise MissingExtra("coremltools", "coreml") from error
            units = coremltools.ComputeUnit[self._units]
            self._models[function] = coremltools.models.MLModel(
                str(self._package), compute_units=units, function_name=function
            )
        return self._models[function]
