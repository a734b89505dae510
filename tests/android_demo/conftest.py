"""The scripts of android_demo, which are no package."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "android_demo"


@pytest.fixture(scope="session")
def script():
    """Imports a script of android_demo by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module


@pytest.fixture(scope="session")
def jvm(script):
    """The module that finds Java; skips where there is none."""
    module = script("jvm")
    reason = module.lacking()
    if reason is not None:
        pytest.skip(f"{reason}: the Java modules of android_demo are not tested")
    return module


@pytest.fixture(scope="session")
def maven(jvm):
    """Runs Maven without the network if that does, else with it; skips where there is none."""

    def run(*goals, **properties):
        done = jvm.maven(*goals, offline=True, properties=properties)
        if "offline mode" in done.stdout:
            done = jvm.maven(*goals, properties=properties)
            if "Could not transfer" in done.stdout:
                pytest.skip("Maven Central cannot be reached: android_demo's Java modules are not tested")
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return run
