"""Reads a checkpoint's configuration key by key and refuses what nobody asked for.

Values are type-checked and bounded where they are taken, because a configuration is an untrusted file:
an absurd size must fail here, not in an allocation. It knows no key names itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted

MAX_INTEGER = 2**31 - 1  # sizes, positions and token ids are int32 in every emitted graph
# Far outside of what any model uses, and close enough that no formula on such numbers overflows.
MIN_NUMBER, MAX_NUMBER = 1e-20, 1e20


class ConfigReader:
    """A configuration whose keys are taken one by one; a null counts as absent."""

    def __init__(self, values: Mapping[str, JsonValue], path: str = "config") -> None:
        """Reads `values`; `path` stands in messages."""
        self._values = values
        self._path = path
        self._taken: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the key is there and not null; takes nothing."""
        return self._values.get(key) is not None

    def filled(self, key: str) -> bool:
        """Whether the key is there and neither null nor an empty object or list; takes it if not."""
        if self._values.get(key) in (None, {}, []):
            self._taken.add(key)
            return False
        return True

    def is_text(self, key: str) -> bool:
        """Whether the key holds a string; takes nothing."""
        return isinstance(self._values.get(key), str)

    def stated(self, key: str) -> bool:
        """Whether the key is there, null or not; takes nothing."""
        return key in self._values

    def integer(
        self, key: str, default: int | None = None, *, minimum: int = 1, maximum: int = MAX_INTEGER
    ) -> int:
        """An integer in [minimum, maximum]; required when there is no default.

        Raises:
            CheckpointError: it is absent, of another type, or out of range.
        """
        value = self._take(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, "an integer")
        if not minimum <= value <= maximum:
            raise self.error(key, f"an integer from {minimum} to {maximum}")
        return value

    def optional_integer(self, key: str) -> int | None:
        """A positive integer, or None when it is absent."""
        self._taken.add(key)
        return self.integer(key) if self.has(key) else None

    def number(self, key: str, default: float | None = None) -> float:
        """A number above zero, within MIN_NUMBER and MAX_NUMBER; required when there is no default.

        Raises:
            CheckpointError: it is absent, of another type, or out of range.
        """
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "a number")
        if not MIN_NUMBER <= value <= MAX_NUMBER:
            raise self.error(key, f"a number from {MIN_NUMBER} to {MAX_NUMBER}")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        """A number above zero, or None when it is absent."""
        self._taken.add(key)
        return self.number(key) if self.has(key) else None

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """A list of `count` numbers above zero, which must be there.

        Raises:
            CheckpointError: it is absent, of another length or type, or a number is out of range.
        """
        value = self._take(key, None)
        if not isinstance(value, list) or len(value) != count:
            raise self.error(key, f"a list of {count} numbers")
        found: list[float] = []
        for item in value:
            if isinstance(item, bool) or not isinstance(item, int | float):
                raise self.error(key, f"a list of {count} numbers")
            if not MIN_NUMBER <= item <= MAX_NUMBER:
                raise self.error(key, f"numbers from {MIN_NUMBER} to {MAX_NUMBER}")
            found.append(float(item))
        return tuple(found)

    def flag(self, key: str, default: bool) -> bool:
        """A boolean."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required when there is no default."""
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self.error(key, "a string")
        return value

    def items(self, key: str, count: int | None = None) -> list[JsonValue] | None:
        """A list of `count` items, or of any number; None when it is absent."""
        self._taken.add(key)
        if not self.has(key):
            return None
        value = self._values[key]
        if not isinstance(value, list) or count not in (None, len(value)):
            raise self.error(key, "a list" if count is None else f"a list of {count} items, one per layer")
        return value

    def section(self, key: str) -> ConfigReader:
        """A nested object, empty when it is absent; the caller finishes it too."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "an object")
        return ConfigReader(value, f"{self._path}.{key}")

    def extended(self, values: Mapping[str, JsonValue]) -> ConfigReader:
        """A reader of the same object with further values where it has none."""
        own = {key: value for key, value in self._values.items() if value is not None}
        return ConfigReader({**values, **own}, self._path)

    def expect(self, key: str, *allowed: JsonValue) -> None:
        """Takes a key that must be absent or one of `allowed`: other values are not supported.

        Raises:
            CheckpointError: it has another value.
        """
        self._taken.add(key)
        if self.has(key) and self._values[key] not in allowed:
            raise self.error(key, " or ".join(map(repr, (*allowed, None))) + "; nothing else is supported")

    def finish(
        self,
        irrelevant: Iterable[str] = (),
        harmless: Mapping[str, Sequence[JsonValue]] = MappingProxyType({}),
    ) -> None:
        """Checks that no key with a value is left.

        Args:
            irrelevant: keys that cannot change the decoder.
            harmless: keys that can, with values at which they do not.

        Raises:
            CheckpointError: naming a key that nobody took, and its value.
        """
        left = set(self._values) - self._taken - set(irrelevant)
        unknown = sorted(
            key
            for key in left
            if self._values[key] is not None and self._values[key] not in harmless.get(key, ())
        )
        if unknown:
            raise CheckpointError(
                f"{self._path} has the key {unknown[0]!r} with value {quoted(self._values[unknown[0]])}, "
                "which this version does not know; it may change the model, so it is not ignored"
            )

    def error(self, key: str, expected: str) -> CheckpointError:
        """An error about the value of `key`."""
        return CheckpointError(f"{self._path}.{key} is {quoted(self._values.get(key))}, expected {expected}")

    def _take(self, key: str, default: JsonValue) -> JsonValue:
        self._taken.add(key)
        value = self._values.get(key)
        if value is None and default is None:
            raise CheckpointError(f"{self._path} lacks the key {key!r}, which this architecture needs")
        return default if value is None else value
