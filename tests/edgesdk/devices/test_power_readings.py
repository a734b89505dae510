import pytest

from edgesdk.devices.power_readings import PowerReadings, read_power


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path):
    """Adds batteries and thermal zones to a folder that stands for the root."""

    def add(batteries=(), zones=()):
        for i, (charge, status, scope) in enumerate(batteries):
            folder = tmp_path / f"sys/class/power_supply/BAT{i}"
            put(folder / "type", "Battery\n")
            put(folder / "capacity", f"{charge}\n")
            put(folder / "status", f"{status}\n")
            put(folder / "scope", scope)
        for i, (name, millidegrees) in enumerate(zones):
            put(tmp_path / f"sys/class/thermal/thermal_zone{i}/type", f"{name}\n")
            put(tmp_path / f"sys/class/thermal/thermal_zone{i}/temp", f"{millidegrees}\n")
        put(tmp_path / "sys/class/power_supply/AC/type", "Mains\n")
        return read_power(tmp_path)

    return add


def test_the_emptiest_battery_and_the_hottest_processor_zone_count(machine):
    found = machine(
        [(80, "Discharging", "System"), (31, "Full", "System"), (2, "Discharging", "Device")],
        [("acpitz", 41000), ("x86_pkg_temp", 67500), ("nvme", 90000)],
    )
    assert found == PowerReadings(31.0, True, 67.5, "x86_pkg_temp")
    assert str(found) == "battery at 31%, discharging, x86_pkg_temp at 68 C"


def test_a_charging_battery_is_plugged_in(machine):
    found = machine([(50, "Charging", "")])
    assert (found.on_battery, str(found)) == (False, "battery at 50%, plugged in")


@pytest.mark.parametrize("millidegrees", ["0", "-274000", "999000", "hot", ""])
def test_nonsense_is_no_reading(machine, millidegrees):
    found = machine([("full", "Discharging", "")], [("cpu-thermal", millidegrees)])
    assert found == PowerReadings()
    assert str(found) == "no readings"


def test_this_machine_can_be_asked():
    found = read_power()
    assert found.battery_percent is None or 0 <= found.battery_percent <= 100
    assert found.temperature_c is None or 0 < found.temperature_c < 150
