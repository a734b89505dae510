"""Builds a Core ML package: several MIL functions over one file of weights.

A thin layer over coremltools: one MIL program holds every function, constants carry an id, and the
exporter writes each id into `weight.bin` once however many functions use it. Functions are written as
they are built: none of coremltools' passes runs, so no constant can be unpacked or folded on the way.
It knows nothing of decoders.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import EmitError, MissingExtra

Compute = Literal["fp16", "fp32"]
InputType = tuple[tuple[int, ...], str]
"""Shape and element type: `fp16`, `fp32` or `int32`."""
Constant = Callable[[], NDArray[np.generic]]


class MilValue(Protocol):
    """A value of a function under construction, as coremltools' builder gives and takes it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""


class MilBuilder(Protocol):
    """coremltools' builder: a method for every operation, which appends it to the open function."""

    def __getattr__(self, name: str) -> Callable[..., MilValue]:
        """An operation with one result."""

    def split(self, *, x: MilValue, split_sizes: Sequence[int], axis: int) -> Sequence[MilValue]:
        """The one operation in use that has several."""


def core_ml_name(name: str) -> str:
    """A name as Core ML allows it for inputs and outputs: letters, digits and underscores."""
    return re.sub(r"\W", "_", name)


class MilPackage:
    """A package under construction.

    Attributes:
        mb: coremltools' builder of operations.
    """

    def __init__(self) -> None:
        """An empty package.

        Raises:
            MissingExtra: coremltools is not installed.
        """
        # Outside macOS it warns about every native library that it cannot load.
        logging.getLogger("coremltools").setLevel(logging.ERROR)
        try:
            import coremltools as ct
            from coremltools.converters.mil import Builder
            from coremltools.converters.mil.mil import Function, Program, types
        except ImportError as error:
            raise MissingExtra("coremltools", "coreml") from error
        self._types: Any = types
        self._new_function: Any = Function
        self._target: Any = ct.target.iOS18
        self.mb: MilBuilder = Builder
        self._program: Any = Program()
        self._program.export_as_multifunction = True
        self._arrays: dict[str, NDArray[np.generic]] = {}

    @contextmanager
    def function(
        self,
        name: str,
        inputs: Mapping[str, InputType],
        states: Mapping[str, tuple[int, ...]],
    ) -> Iterator[MilFunction]:
        """A new function, complete when the block ends.

        Args:
            name: its name.
            inputs: shape and element type by name.
            states: shape by name; states are always fp16.
        """
        specs: dict[str, Any] = {
            core_ml_name(key): self.mb.TensorSpec(shape=shape, dtype=getattr(self._types, dtype))
            for key, (shape, dtype) in inputs.items()
        }
        for key, shape in states.items():
            specs[core_ml_name(key)] = self.mb.StateTensorSpec(shape=shape, dtype=self._types.fp16)
        function = self._new_function(specs, opset_version=self._target)
        made = MilFunction(self, dict(function.inputs))
        with function:
            yield made
            function.set_outputs(made.outputs)
        self._program.add_function(name, function)

    def constant(
        self, key: str, make: Constant, *, as_type: Literal["int4", "uint4"] | None = None
    ) -> MilValue:
        """A constant inside the function that is being built; its bytes are shared by all of them."""
        if key not in self._arrays:
            array = np.ascontiguousarray(make())
            # coremltools marks 4-bit integers by types of its own over those of 8 bits.
            self._arrays[key] = (
                array if as_type is None else array.astype(getattr(self._types, f"np_{as_type}_dtype"))
            )
        builder: Any = self.mb
        made: Any = builder.const(val=self._arrays[key])
        made.op.weight_id = key
        value: MilValue = made
        return value

    def save(self, path: Path, default: str) -> None:
        """Writes the package.

        Args:
            path: the `.mlpackage` folder; absent or empty.
            default: the function that runs when none is named.

        Raises:
            EmitError: `path` is not empty, or coremltools found the program inconsistent.
        """
        from coremltools.converters.mil.backend.mil.load import load
        from coremltools.models.utils import save_spec

        if path.exists() and any(path.iterdir()):
            raise EmitError(f"{path} is not empty; name a folder that is not there yet")
        self._program.default_function_name = default
        with TemporaryDirectory(dir=path.parent, prefix=".weights-") as folder:
            try:
                spec = load(self._program, folder, specification_version=self._target.value)
                save_spec(spec, str(path), weights_dir=folder)
            except (ValueError, RuntimeError, AssertionError) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise EmitError(f"coremltools cannot write {path.name}: {reason[:300]}") from error
        _make_readable(path)


def _make_readable(path: Path) -> None:
    """Gives what was written the rights of any new file; coremltools leaves it to the owner alone."""
    for item in path.rglob("*"):
        item.chmod(0o755 if item.is_dir() else 0o644)


class MilFunction:
    """One function under construction: the values made so far, by name.

    Attributes:
        mb: coremltools' builder.
        values: inputs, states and results.
        outputs: what the function returns.
    """

    def __init__(self, package: MilPackage, values: dict[str, MilValue]) -> None:
        """Starts with its inputs."""
        self.package = package
        self.mb = package.mb
        self.values = values
        self.outputs: list[MilValue] = []
        self._constants: dict[str, MilValue] = {}

    def constant(self, key: str, make: Constant) -> MilValue:
        """A constant, made once per function and stored once per package."""
        if key not in self._constants:
            self._constants[key] = self.package.constant(key, make)
        return self._constants[key]

    def quantised(self, key: str, values: Constant, scales: Constant, *, bits: int) -> MilValue:
        """Integers with a scale per row or block, unpacked by Core ML when it loads or runs the model.

        Args:
            key: name of the constant.
            values: (O, I) int8.
            scales: (O, B) in the type of the result; B divides I.
            bits: 8 or 4.
        """
        if key not in self._constants:
            data = self.package.constant(f"{key}.int{bits}", values, as_type="int4" if bits == 4 else None)
            scale = self.package.constant(f"{key}.scales", scales)
            self._constants[key] = self.mb.constexpr_blockwise_shift_scale(data=data, scale=scale)
        return self._constants[key]

    def palettised(self, key: str, indices: Constant, palettes: Constant) -> MilValue:
        """Indices of 4 bits into palettes that some rows share, looked up when the model loads or runs.

        Args:
            key: name of the constant.
            indices: (O, I) uint8, 0 to 15.
            palettes: (P, 1, 16, 1) in the type of the result; P divides O.
        """
        if key not in self._constants:
            index = self.package.constant(f"{key}.uint4", indices, as_type="uint4")
            table = self.package.constant(f"{key}.palettes", palettes)
            self._constants[key] = self.mb.constexpr_lut_to_dense(indices=index, lut=table)
        return self._constants[key]

    def returns(self, names: Sequence[str]) -> None:
        """Declares the outputs, each the value of that name."""
        self.outputs = [self.values[core_ml_name(name)] for name in names]
