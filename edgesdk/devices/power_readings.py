"""Battery, power source and temperature as the system tells them; what it hides is None.

Linux and Android are read from /sys, in about a millisecond. psutil is asked elsewhere, and for sensors that
have no thermal zone. It judges nothing: `edgesdk.devices.governor` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROCESSOR = re.compile(r"cpu|pkg|core|soc|k10temp|zenpower|tsens|acpitz", re.IGNORECASE)
"""Zones that tell how hot the processor is. Of others, such as a disk's, the limits are different."""

_PLAUSIBLE_C = (1.0, 150.0)
"""Zones without a sensor show zero or nonsense."""


@dataclass(frozen=True)
class PowerReadings:
    """What a governor goes by.

    Attributes:
        battery_percent: charge, 0 to 100; the emptiest of several; None without a battery.
        on_battery: whether nothing but a battery feeds the machine; None where nobody says.
        temperature_c: of the hottest part of the processor, degrees Celsius; None where nobody says.
        zone: name of that part.
    """

    battery_percent: float | None = None
    on_battery: bool | None = None
    temperature_c: float | None = None
    zone: str = ""

    def __str__(self) -> str:
        """As receipts show it."""
        parts = []
        if self.battery_percent is not None:
            source = {True: "discharging", False: "plugged in", None: "source unknown"}[self.on_battery]
            parts.append(f"battery at {self.battery_percent:.0f}%, {source}")
        if self.temperature_c is not None:
            parts.append(f"{self.zone or 'processor'} at {self.temperature_c:.0f} C")
        return ", ".join(parts) or "no readings"


def read_power(root: Path = Path("/")) -> PowerReadings:
    """Reads them now.

    Args:
        root: where sys is mounted; another folder in tests, where psutil is not asked.
    """
    battery, on_battery = _system_battery(root / "sys/class/power_supply")
    hottest = _hottest(_zones(root / "sys/class/thermal"))
    if root == Path("/"):
        if battery is None:
            battery, on_battery = _psutil_battery()
        if hottest is None:
            hottest = _hottest(_psutil_sensors())
    name, temperature_c = ("", None) if hottest is None else hottest
    return PowerReadings(battery, on_battery, temperature_c, name)


def _system_battery(folder: Path) -> tuple[float | None, bool | None]:
    charges, discharging = [], False
    for supply in sorted(folder.glob("*")):
        # A mouse has a battery too; its scope is the device.
        if _text(supply / "type") != "Battery" or _text(supply / "scope") == "Device":
            continue
        charge = _number(supply / "capacity")
        if charge is not None and 0 <= charge <= 100:
            charges.append(charge)
            discharging |= _text(supply / "status") == "Discharging"
    return (min(charges), discharging) if charges else (None, None)


def _zones(folder: Path) -> Iterable[tuple[str, float]]:
    for zone in sorted(folder.glob("thermal_zone*")):
        millidegrees = _number(zone / "temp")
        if millidegrees is not None:
            yield _text(zone / "type"), millidegrees / 1e3


def _psutil_battery() -> tuple[float | None, bool | None]:
    try:
        import psutil

        found = psutil.sensors_battery()
    # It has no such function on some systems, and on others it raises whatever a driver's text leads to.
    except Exception:  # noqa: BLE001 - a sensor must not end an answer
        return None, None
    if found is None:
        return None, None
    return float(found.percent), None if found.power_plugged is None else not found.power_plugged


def _psutil_sensors() -> list[tuple[str, float]]:
    try:
        import psutil

        found = psutil.sensors_temperatures()
    except Exception:  # noqa: BLE001 - as above
        return []
    return [(name, float(sensor.current)) for name, sensors in found.items() for sensor in sensors]


def _hottest(zones: Iterable[tuple[str, float]]) -> tuple[str, float] | None:
    """The hottest of the processor; None when only other things tell their temperature."""
    low, high = _PLAUSIBLE_C
    suited = [(name, at) for name, at in zones if low <= at <= high and _PROCESSOR.search(name)]
    return max(suited, key=lambda zone: zone[1], default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:256].strip()
    except OSError:  # also while a driver is busy
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
