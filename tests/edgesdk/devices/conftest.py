"""Probes that do what vendors' libraries do."""

import pytest

from edgesdk.devices.cpu import Processor
from edgesdk.devices.discover import Probe


@pytest.fixture
def processor():
    return Processor("A fine CPU", "x86_64", 2, ("AVX2",), memory_bytes=1 << 30)


@pytest.fixture
def make_probe():
    def make(code, package="numpy", device="npu", provider="Vendor"):
        return Probe(package, ("-c", code), device, provider)

    return make
