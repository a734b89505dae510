"""Runs a saved Core ML package op by op in numpy, float16 emulated: the proof where there is no Mac.

Each result is rounded to the element type that the program declares for it; products accumulate in
float32 and round once. What a real device does otherwise (accumulation in float16, fused operations)
stays unproven. It covers the operations that edgesdk emits and refuses others by name, before it runs
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.coreml.half import round_to_half
from edgesdk.backends.coreml.mil_operations import OPERATIONS
from edgesdk.backends.coreml.mil_program import (
    Argument,
    Array,
    Function,
    MilProgram,
    Operation,
    Stored,
    TensorType,
    read_program,
)
from edgesdk.errors import BundleError, DeviceError

_CONSTANT = ("const", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense")

Value = Array | str


class MilInterpreter:
    """A package, ready to run; implements `PartPredictor`.

    Memory: every weight that a function in use reads, unpacked to float32, once.
    """

    def __init__(self, package: Path) -> None:
        """Reads and checks a package.

        Raises:
            BundleError: it is damaged, or uses an operation that edgesdk does not emit.
            MissingExtra: coremltools is not installed.
        """
        self._program = read_program(package)
        self._weights: dict[tuple[Stored, ...], Array] = {}
        self._prepared: dict[str, _Prepared] = {}
        check_program(self._program)

    def inputs(self, function: str) -> Mapping[str, TensorType]:
        """Types of a function's inputs, states among them.

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

    def make_states(self, function: str) -> dict[str, NDArray[np.float32]]:
        """Zeroed states for a function, to be given to `predict` again and again."""
        types = self.inputs(function)
        return {name: np.zeros(kind.shape, np.float32) for name, kind in types.items() if kind.state}

    def start(self, function: str) -> Callable[[str, Mapping[str, Array]], dict[str, Array]]:
        """`predict` over zeroed states of a function, which every call reads and updates."""
        return partial(self.predict, states=self.make_states(function))

    def predict(
        self,
        function: str,
        inputs: Mapping[str, Array],
        states: dict[str, NDArray[np.float32]] | None = None,
    ) -> dict[str, Array]:
        """Runs a function.

        Args:
            function: its name.
            inputs: an array for every input, of the declared shape; floating point numbers of any type
                are rounded to the declared one.
            states: what `make_states` gave; updated in place.

        Returns:
            Outputs by name: int32, or float32 holding numbers of the declared type.

        Raises:
            DeviceError: inputs are missing or of another type or shape.
            BundleError: the program contradicts itself.
        """
        found = self._function(function)
        for name, kind in found.inputs.items():
            if kind.state:
                if states is None or name not in states:
                    raise DeviceError(f"function {function!r} needs the state {name!r}")
                continue
            given = inputs.get(name)
            floats = given is not None and given.dtype.kind == "f" and kind.dtype in ("float16", "float32")
            if given is None or given.shape != kind.shape or not (floats or given.dtype.name == kind.dtype):
                what = "nothing" if given is None else f"{given.dtype} {given.shape}"
                raise DeviceError(f"input {name!r} is {what}, expected {kind.dtype} {kind.shape}")
        if function not in self._prepared:
            self._prepared[function] = _Prepared(found, self._constants(found))
        wanted = {name: inputs[name] for name, kind in found.inputs.items() if not kind.state}
        return self._prepared[function].run(wanted, states or {})

    def _function(self, name: str) -> Function:
        if name not in self._program.functions:
            names = ", ".join(sorted(self._program.functions))
            raise DeviceError(f"the Core ML package has no function {name!r}; it has {names}")
        return self._program.functions[name]

    def _constants(self, function: Function) -> dict[str, Value]:
        """Constants by name, unpacked; functions that read the same blobs share the array."""
        values: dict[str, Value] = {}
        for op in function.operations:
            if op.type == "const":
                values[op.outputs[0][0]] = self._constant(op.inputs["val"][0])
            elif op.type in _UNPACK:
                unpack, first, second = _UNPACK[op.type]
                numbers, table = op.inputs[first][0], op.inputs[second][0]
                key = tuple(part for part in (numbers, table) if isinstance(part, Stored))
                if len(key) < 2 or key not in self._weights:
                    made = unpack(self._stored(numbers), self._stored(table), op.outputs[0][1])
                    if len(key) < 2:  # a tiny weight, inside the program itself
                        values[op.outputs[0][0]] = made
                        continue
                    self._weights[key] = made
                values[op.outputs[0][0]] = self._weights[key]
        return values

    def _constant(self, argument: Argument) -> Value:
        if isinstance(argument, Stored):
            if (argument,) not in self._weights:
                self._weights[(argument,)] = _widened(self._stored(argument))
            return self._weights[(argument,)]
        literal = argument[0]
        return literal if isinstance(literal, str) else _widened(literal)

    def _stored(self, argument: Argument) -> Array:
        if isinstance(argument, Stored):
            return self._program.weights.read(argument.offset, argument.type.dtype, argument.type.shape)
        literal = argument[0]
        if isinstance(literal, str):
            raise BundleError("a weight is a string or a name, expected numbers")
        return literal


class _Prepared:
    """A function with its constants, and where each value is read for the last time."""

    def __init__(self, function: Function, constants: dict[str, Value]) -> None:
        self._function = function
        self._constants = constants
        self._operations = [op for op in function.operations if op.type not in _CONSTANT]
        last = {name: i for i, op in enumerate(self._operations) for name in _names(op)}
        self._dropped: list[list[str]] = [[] for _ in self._operations]
        for name, i in last.items():
            if name not in function.outputs and name not in constants:
                self._dropped[i].append(name)

    def run(self, inputs: Mapping[str, Array], states: dict[str, NDArray[np.float32]]) -> dict[str, Array]:
        kinds = self._function.inputs
        values: dict[str, Value] = dict(self._constants)
        values.update((name, _entering(array, kinds[name])) for name, array in inputs.items())
        # Infinities and NaN are results like others: the comparison that follows sees them.
        with np.errstate(all="ignore"):
            for op, dropped in zip(self._operations, self._dropped, strict=True):
                results = _results(op, values, states)
                for (name, kind), result in zip(op.outputs, results, strict=True):
                    if result.shape != kind.shape:
                        raise BundleError(
                            f"{op.type} {name!r} gives {result.shape}, declared is {kind.shape}"
                        )
                    values[name] = result
                for name in dropped:
                    values.pop(name, None)
        return {name: _array(values[name]) for name in self._function.outputs}


def _results(
    op: Operation, values: Mapping[str, Value], states: dict[str, NDArray[np.float32]]
) -> tuple[Array, ...]:
    if op.type == "read_state":
        return (states[_name(op, "input")],)
    if op.type == "write_state":
        states[_name(op, "input")] = _array(_value(op.inputs["data"][0], values)).astype(np.float32)
        return ()
    found = OPERATIONS[op.type]
    arguments: dict[str, Value | tuple[Value, ...]] = {}
    for name, parts in op.inputs.items():
        given = tuple(_value(part, values) for part in parts)
        arguments[name] = given if name == "values" else given[0]
    try:
        result = found.run(**arguments)
    except (ValueError, IndexError, TypeError) as error:
        raise BundleError(f"{op.type} {op.outputs[0][0]!r} cannot be run: {error}") from error
    results = result if isinstance(result, tuple) else (result,)
    if found.rounds and op.outputs[0][1].dtype == "float16":
        return tuple(round_to_half(np.asarray(part, np.float32)) for part in results)
    return results


def _value(argument: Argument, values: Mapping[str, Value]) -> Value:
    if isinstance(argument, str):
        return values[argument]
    if isinstance(argument, Stored):
        raise BundleError("an operation reads the weight file itself, expected a constant before it")
    literal = argument[0]
    return literal if isinstance(literal, str) else _widened(literal)


def check_program(program: MilProgram) -> None:
    """Refuses a program that edgesdk does not emit, before anything runs it.

    Raises:
        BundleError: it uses another operation, a name that nothing has made, or a weight that is not there.
    """
    for name, function in program.functions.items():
        _check(name, function, program)


def _check(name: str, function: Function, program: MilProgram) -> None:
    """Refuses what cannot be run, before anything is: unknown operations, names, missing weights."""
    known = set(function.inputs)
    for op in function.operations:
        found = OPERATIONS.get(op.type)
        if found is not None:
            required, allowed = found.required, found.known
        elif op.type in _SPECIAL:
            required = allowed = _SPECIAL[op.type]
        else:
            raise BundleError(
                f"function {name!r} uses the operation {op.type!r}, which edgesdk does not emit"
            )
        odd = (set(op.inputs) - allowed) | (required - set(op.inputs))
        if odd or not all(op.inputs.values()):
            raise BundleError(f"{op.type} in {name!r} has an unknown or lacks an input: {sorted(odd)}")
        for part in (part for parts in op.inputs.values() for part in parts):
            if isinstance(part, Stored):
                program.weights.read(part.offset, part.type.dtype, part.type.shape)
            elif isinstance(part, str) and part not in known:
                raise BundleError(f"{op.type} in {name!r} reads {part!r}, which nothing has made")
        known.update(output for output, _ in op.outputs)
    missing = [output for output in function.outputs if output not in known]
    if missing:
        raise BundleError(f"function {name!r} returns {missing[0]!r}, which nothing has made")


_SPECIAL = {
    "const": frozenset({"val"}),
    "constexpr_blockwise_shift_scale": frozenset({"data", "scale"}),
    "constexpr_lut_to_dense": frozenset({"indices", "lut"}),
    "read_state": frozenset({"input"}),
    "write_state": frozenset({"input", "data"}),
}


def _unpack(data: Array, scale: Array, kind: TensorType) -> Array:
    """(O, I) integers times (O, B) scales; B divides I."""
    fits = data.ndim == scale.ndim == 2 and data.shape == kind.shape and data.shape[0] == scale.shape[0]
    if not fits or not scale.shape[1] or data.shape[1] % scale.shape[1]:
        raise BundleError(
            f"a weight of {data.shape} has scales of {scale.shape} and is declared {kind.shape}"
        )
    blocks = data.reshape(*scale.shape, -1).astype(np.float32) * scale.astype(np.float32)[:, :, None]
    unpacked = blocks.reshape(kind.shape)
    return round_to_half(unpacked) if kind.dtype == "float16" else unpacked


def _look_up(indices: Array, palettes: Array, kind: TensorType) -> Array:
    """(O, I) indices into (P, 1, 16, 1) palettes; P divides O."""
    fits = indices.ndim == 2 and indices.shape == kind.shape and palettes.ndim == 4
    each = palettes.shape[0] if fits and palettes.shape[1:] == (1, 16, 1) else 0
    if not each or indices.shape[0] % each or int(indices.max(initial=0)) >= 16:
        raise BundleError(
            f"a weight of {indices.shape} has palettes of {palettes.shape} and is declared {kind.shape}"
        )
    grouped = indices.astype(np.intp).reshape(len(palettes), -1)
    dense = np.take_along_axis(palettes[:, 0, :, 0].astype(np.float32), grouped, axis=1)
    return dense.reshape(kind.shape)


_UNPACK: Mapping[str, tuple[Callable[[Array, Array, TensorType], Array], str, str]] = {
    "constexpr_blockwise_shift_scale": (_unpack, "data", "scale"),
    "constexpr_lut_to_dense": (_look_up, "indices", "lut"),
}


def _entering(array: Array, kind: TensorType) -> Array:
    """An input as operations take it: rounded to its type, floating point numbers in float32."""
    if array.dtype.kind != "f":
        return array
    widened = np.asarray(array, np.float32)
    return round_to_half(widened) if kind.dtype == "float16" and array.dtype != np.float16 else widened


def _widened(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _array(value: Value) -> Array:
    if isinstance(value, str):
        raise BundleError("an operation computes with a string, expected numbers")
    return value


def _names(op: Operation) -> Iterable[str]:
    return (part for parts in op.inputs.values() for part in parts if isinstance(part, str))


def _name(op: Operation, parameter: str) -> str:
    part = op.inputs[parameter][0]
    if not isinstance(part, str):
        raise BundleError(f"{op.type} has a constant as {parameter!r}, expected a name")
    return part
