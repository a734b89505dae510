"""Says how much of a machine may be used, by its battery and its temperature.

Rules are data: each names a condition and what it lowers. A rule that holds counts at once; it is let go only
after its condition has been clear by a margin for a while, so that a reading near a limit changes nothing
twice. What is done about it is `edgesdk.dispatch.governed`'s.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgesdk.bundle.manifest import DeviceClass
from edgesdk.devices.power_readings import PowerReadings, read_power
from edgesdk.errors import UnsupportedOption


@dataclass(frozen=True)
class GovernorRule:
    """A condition, of which every part that is given must hold, and what it lowers.

    Attributes:
        hotter_than_c: degrees Celsius of the processor's hottest part.
        battery_below_percent: charge, while only the battery feeds the machine.
        on_battery: True: only the battery feeds the machine.
        threads_share: share of the CPU threads that may be used, above 0 and at most 1; one thread at least.
        device: class of devices to move to.
        context_tokens: most tokens of prompt and answer together of new requests.
    """

    hotter_than_c: float | None = None
    battery_below_percent: float | None = None
    on_battery: bool = False
    threads_share: float = 1.0
    device: DeviceClass | None = None
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuses a rule without meaning.

        Raises:
            UnsupportedOption: it has no condition, lowers nothing, or a number is out of range.
        """
        if self.hotter_than_c is None and self.battery_below_percent is None and not self.on_battery:
            raise UnsupportedOption(
                "a governor's rule has no condition; give hotter_than_c, battery_below_percent or on_battery"
            )
        if not 0 < self.threads_share <= 1:
            raise UnsupportedOption(f"threads_share is {self.threads_share}, expected above 0 and at most 1")
        if self.context_tokens is not None and self.context_tokens < 1:
            raise UnsupportedOption(f"context_tokens is {self.context_tokens}, expected at least 1")
        if self.threads_share == 1 and self.device is None and self.context_tokens is None:
            raise UnsupportedOption(
                "a governor's rule lowers nothing; give threads_share, device or context_tokens"
            )

    def __str__(self) -> str:
        """Its condition, as receipts show it."""
        parts = []
        if self.hotter_than_c is not None:
            parts.append(f"above {self.hotter_than_c:g} C")
        if self.battery_below_percent is not None:
            parts.append(f"battery below {self.battery_below_percent:g}%")
        elif self.on_battery:
            parts.append("on battery")
        return " and ".join(parts)

    def holds(self, found: PowerReadings, *, cooler_c: float = 0.0, fuller_percent: float = 0.0) -> bool:
        """Whether its condition holds; a reading that is missing makes none hold.

        Args:
            found: the readings.
            cooler_c: how much lower the limit of the temperature is taken.
            fuller_percent: how much higher that of the battery.
        """
        if self.hotter_than_c is not None and not (
            found.temperature_c is not None and found.temperature_c > self.hotter_than_c - cooler_c
        ):
            return False
        if self.battery_below_percent is not None and not (
            found.battery_percent is not None
            and found.battery_percent < self.battery_below_percent + fuller_percent
        ):
            return False
        asks_source = self.on_battery or self.battery_below_percent is not None
        return not asks_source or found.on_battery is True


DEFAULT_RULES = (
    GovernorRule(hotter_than_c=85.0, threads_share=0.5),
    GovernorRule(hotter_than_c=95.0, threads_share=0.25),
    GovernorRule(battery_below_percent=20.0, threads_share=0.5),
    GovernorRule(battery_below_percent=10.0, threads_share=0.25),
)
"""Laptop processors slow themselves down near 100 C. The context and the device are left alone: both change
what an app can rely on, so that is the app's to decide."""


@dataclass(frozen=True)
class GovernorSettings:
    """How a governor judges.

    Attributes:
        rules: all that hold count; of several the lowest numbers, and the first device.
        every_s: least seconds between two readings, which are taken between two tokens.
        clear_s: seconds for which a condition must have been clear before its rule is let go.
        cooler_c: how far below its limit a temperature must fall to be clear.
        fuller_percent: how far above its limit a charge must rise.
    """

    rules: tuple[GovernorRule, ...] = DEFAULT_RULES
    every_s: float = 5.0
    clear_s: float = 60.0
    cooler_c: float = 5.0
    fuller_percent: float = 5.0

    def __post_init__(self) -> None:
        """Refuses numbers without meaning.

        Raises:
            UnsupportedOption: there is one.
        """
        for name in ("every_s", "clear_s", "cooler_c", "fuller_percent"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UnsupportedOption(f"{name} is {value}, expected 0 or more")


@dataclass(frozen=True)
class GovernorLimits:
    """What may be used now.

    Attributes:
        threads_share: share of the CPU threads.
        device: class of devices; None for the one that was loaded.
        context_tokens: most tokens of new requests; None for all there is room for.
        reason: the readings, and the conditions that hold; not compared.
    """

    threads_share: float = 1.0
    device: DeviceClass | None = None
    context_tokens: int | None = None
    reason: str = field(default="", compare=False)

    def threads(self, most: int) -> int:
        """How many of the CPU threads may be used: one at least."""
        return max(1, int(most * self.threads_share))


@dataclass(slots=True)
class _Watched:
    """A rule and how it stands: since when its condition has been clear, while it counts."""

    rule: GovernorRule
    counts: bool = False
    clear_since: float | None = None


class Governor:
    """Reads the machine now and then and says what may be used; any thread may ask.

    Give each model its own, or share one between models that should be limited together.
    """

    def __init__(
        self,
        settings: GovernorSettings | None = None,
        *,
        readings: Callable[[], PowerReadings] = read_power,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts without limits.

        Args:
            settings: None for the defaults.
            readings: reads the machine; another in tests, or where an app knows better than /sys.
            clock: seconds since some start, never going back.
        """
        self.settings = settings or GovernorSettings()
        """How it judges."""
        self._read = readings
        self._clock = clock
        self._rules = [_Watched(rule) for rule in self.settings.rules]
        self._limits = GovernorLimits()
        self._found = PowerReadings()
        self._read_at: float | None = None
        self._lock = threading.Lock()

    def limits(self) -> GovernorLimits:
        """What may be used now; the machine is read if that is due."""
        with self._lock:
            now = self._clock()
            if self._read_at is None or now - self._read_at >= self.settings.every_s:
                self._read_at = now
                self._found = self._read()
                self._judge(self._found, now)
            return self._limits

    @property
    def readings(self) -> PowerReadings:
        """The readings of the last time."""
        return self._found

    def _judge(self, found: PowerReadings, now: float) -> None:
        for watched in self._rules:
            self._watch(watched, found, now)
        held = [watched.rule for watched in self._rules if watched.counts]
        contexts = [rule.context_tokens for rule in held if rule.context_tokens is not None]
        limits = GovernorLimits(
            threads_share=min((rule.threads_share for rule in held), default=1.0),
            device=next((rule.device for rule in held if rule.device is not None), None),
            context_tokens=min(contexts, default=None),
            reason=f"{found} ({'; '.join(map(str, held)) or 'no limit holds any more'})",
        )
        # The reason stays that of the change.
        if limits != self._limits:
            self._limits = limits

    def _watch(self, watched: _Watched, found: PowerReadings, now: float) -> None:
        rule, settings = watched.rule, self.settings
        if rule.holds(found):
            watched.counts, watched.clear_since = True, None
        elif not watched.counts:
            return
        elif rule.holds(found, cooler_c=settings.cooler_c, fuller_percent=settings.fuller_percent):
            watched.clear_since = None
        elif watched.clear_since is None:
            watched.clear_since = now
        if watched.clear_since is not None and now - watched.clear_since >= settings.clear_s:
            watched.counts, watched.clear_since = False, None
