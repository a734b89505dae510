"""Strict reading of JSON into frozen dataclasses.

Unknown keys, missing keys and wrong types are refused with the path of the key, so that a manifest
of a newer version or a damaged one never half-loads. Supports what manifests use: dataclasses,
tuples of one type, string-keyed mappings, unions with None, literals and JSON scalars.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from pathlib import PurePath
from typing import TypeVar, Union, cast

from edgesdk.errors import BundleError, quoted

T = TypeVar("T")

Builder = Callable[[object, str], object]
"""Builds a value from parsed JSON and the path where that stands."""

_SCALARS = (bool, int, float, str)

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def from_json(kind: type[T], value: object, path: str = "manifest") -> T:
    """Builds a `kind` from parsed JSON.

    Args:
        kind: a dataclass type.
        value: what `json.loads` gave.
        path: where `value` stands, for messages.

    Returns:
        The dataclass.

    Raises:
        BundleError: a key is unknown or missing, or a value has the wrong type.
    """
    return cast(T, _builder(cast(Hashable, kind))(value, path))


def to_json(value: object) -> JsonValue:
    """Turns dataclasses, tuples, mappings and paths into what `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


@functools.cache
def _builder(kind: Hashable) -> Builder:
    """What builds a type: worked out once for each, because a manifest holds thousands of records."""
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is Union or origin is types.UnionType:
        return _union_builder(arguments)
    if origin is typing.Literal:
        return _literal_builder(arguments)
    if origin is tuple:
        return _tuple_builder(arguments[0])
    if origin in (dict, Mapping):
        return _mapping_builder(arguments[1])
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass_builder(kind)
    return _scalar_builder(kind)


def _literal_builder(options: tuple[object, ...]) -> Builder:
    def build(value: object, path: str) -> object:
        if value in options:
            return value
        raise BundleError(f"{path} is {quoted(value)}, expected one of {options}")

    return build


def _tuple_builder(item: object) -> Builder:
    build_item = _builder(item)

    def build(value: object, path: str) -> object:
        if not isinstance(value, list):
            raise BundleError(f"{path} is {_name(value)}, expected a list")
        return tuple([build_item(v, f"{path}[{i}]") for i, v in enumerate(value)])

    return build


def _mapping_builder(item: object) -> Builder:
    build_item = _builder(item)

    def build(value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise BundleError(f"{path} is {_name(value)}, expected an object")
        return {k: build_item(v, f"{path}.{k}") for k, v in value.items()}

    return build


def _union_builder(options: tuple[object, ...]) -> Builder:
    optional = type(None) in options
    *first, last = [_builder(o) for o in options if o is not type(None)]

    def build(value: object, path: str) -> object:
        if value is None and optional:
            return None
        for build_option in first:
            try:
                return build_option(value, path)
            except BundleError:
                continue
        return last(value, path)

    return build


def _dataclass_builder(kind: type) -> Builder:
    hints = typing.get_type_hints(kind)
    fields = [
        (
            field.name,
            hints[field.name] if hints[field.name] in _SCALARS else None,
            _builder(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    ]
    known = {name for name, *_ in fields}

    def build(value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise BundleError(f"{path} is {_name(value)}, expected an object")
        if not known.issuperset(value):
            unknown = min(set(value) - known)
            expected = ", ".join(name for name, *_ in fields)
            raise BundleError(
                f"{path} has unknown key {quoted(unknown)}, expected {expected}; "
                "it may come from a newer edgesdk"
            )
        arguments = {}
        for name, scalar, build_field, required in fields:
            if name in value:
                item = value[name]
                # Most of a manifest's thousands of values are what they should be; a path is for messages.
                arguments[name] = item if type(item) is scalar else build_field(item, f"{path}.{name}")
            elif required:
                raise BundleError(f"{path} lacks the key {name!r}")
        try:
            return kind(**arguments)
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from error

    return build


def _scalar_builder(kind: object) -> Builder:
    def build(value: object, path: str) -> object:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise BundleError(f"{path} is {quoted(value)}, which no float holds") from None
        if kind is int and isinstance(value, bool):
            raise BundleError(f"{path} is a boolean, expected int")
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        raise BundleError(f"{path} is {_name(value)}, expected {getattr(kind, '__name__', kind)}")

    return build


def _name(value: object) -> str:
    return "null" if value is None else type(value).__name__
