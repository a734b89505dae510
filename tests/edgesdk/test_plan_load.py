"""What a load tries, in which order, decided without opening anything."""

from dataclasses import replace

import pytest

from edgesdk.backends import registry
from edgesdk.bundle.reader import open_bundle
from edgesdk.devices.governor import Governor, GovernorRule, GovernorSettings
from edgesdk.devices.power_readings import PowerReadings
from edgesdk.errors import BundleError, DeviceError, UnsupportedOption
from edgesdk.load_options import LoadOptions
from edgesdk.plan_load import plan_load


@pytest.fixture
def bundle(fake_runtime, monkeypatch):
    """A bundle that two backends on the CPU open, and one on an NPU that nobody tries unasked."""
    found = open_bundle(fake_runtime())
    first, second = registry.BACKENDS
    npu = replace(second, name="fast", device_classes=("npu",), automatic=False, open=None)
    monkeypatch.setattr(registry, "BACKENDS", (first, replace(second, automatic=True), npu))
    (only,) = found.manifest.variants
    variants = (replace(only, device_classes=("cpu", "npu")),)
    return replace(found, manifest=replace(found.manifest, variants=variants))


def tried(planned):
    return [(prefill.backend.name, decode.backend.name) for prefill, decode in planned.plan.attempts]


def test_the_fixed_order_and_who_may_take_over(bundle):
    planned = plan_load(bundle, LoadOptions())
    assert tried(planned) == [("fake", "fake"), ("refusing", "refusing")]
    assert [c.backend.name for c in planned.successors] == ["fake", "refusing"]
    assert (planned.better, planned.reachable, planned.refusals) == ((), (), ())
    for asked in (LoadOptions(strict=True), LoadOptions(backend="fake")):
        assert plan_load(bundle, asked).successors == ()


def test_a_device_comes_first_and_the_cpu_behind_it(bundle):
    planned = plan_load(bundle, LoadOptions(device="npu"))
    assert [name for name, _ in tried(planned)] == ["fast", "fake", "refusing"]
    nothing = plan_load(bundle, LoadOptions(device="gpu"))
    assert [name for name, _ in tried(nothing)] == ["fake", "refusing"]
    assert [str(r) for r in nothing.refusals] == [
        "refused: - on gpu (-): no backend runs on gpu in this version"
    ]
    with pytest.raises(DeviceError, match="no backend runs on gpu"):
        plan_load(bundle, LoadOptions(device="gpu", strict=True))


def test_the_cpu_serves_while_a_device_opens(bundle):
    asked = LoadOptions(device="npu", serve_meanwhile=True)
    planned = plan_load(bundle, asked)
    assert [name for name, _ in tried(planned)] == ["fake", "refusing", "fast"]
    assert [c.backend.name for c in planned.better] == ["fast"]
    cpu, npu = planned.plan.attempts[0][1], planned.plan.attempts[-1][1]
    assert planned.moves(cpu, asked).better == planned.better
    assert planned.moves(npu, asked).better == ()


def test_a_governor_reaches_the_devices_of_its_rules(bundle):
    rules = (GovernorRule(on_battery=True, device="npu"),)
    governor = Governor(GovernorSettings(rules), readings=PowerReadings)
    planned = plan_load(bundle, LoadOptions(governor=governor))
    assert [c.backend.name for c in planned.reachable] == ["fast"]
    assert planned.moves(planned.plan.attempts[0][1], LoadOptions(governor=governor)).governor is governor


def test_what_the_bundle_does_not_have_is_refused(bundle):
    with pytest.raises(UnsupportedOption, match="no variant has the recipe 'w8'; the bundle has f32"):
        plan_load(bundle, LoadOptions(recipe="w8"))
    with pytest.raises(BundleError, match=r"has no variant .other.; it has: only"):
        plan_load(bundle, LoadOptions(variant="other"))
