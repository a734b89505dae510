"""The scripts of android_demo, which are no package."""

import importlib
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2] / "android_demo"


@pytest.fixture(scope="session")
def script():
    """Imports a script of android_demo by name, or the one of ios_notes that both apps use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT.parent / "ios_notes"))
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


@pytest.fixture(scope="session")
def built(jvm, maven, script, shared_folder):
    """What Maven said when it tested all modules on two tiny bundles: once for all processes of the run.

    Parts that this machine cannot build are left out; `said` names them with the reason.
    """
    pytest.importorskip("ai_edge_litert")
    from edgesdk.backends.litert.host_memory import library_path

    folder, kept = shared_folder / "java-bundles", shared_folder / "maven.txt"
    with FileLock(shared_folder / "maven.lock"):
        if not kept.exists():
            jvm.check_parts()
            script("make_test_bundles").make_all(folder)
            properties = {"bundles": str(folder), "litert.library": str(library_path())}
            lacking = []
            try:
                properties["litert.jni"] = str(jvm.jni_library())
            except RuntimeError as error:
                if "refused" in str(error):
                    raise
                lacking.append(f"no JNI: {error}")
            linked = shared_folder / "app-linked"
            try:
                script("build_apk").link_resources(linked)
                said = maven("test", **properties, **{"app.linked": str(linked)})
            except RuntimeError as error:
                if "aapt2" not in str(error) and "cannot fetch" not in str(error):
                    raise
                lacking.append(f"no app: {error}")
                said = maven("test", **properties)
            except pytest.skip.Exception as skipped:  # Robolectric is not there; the others may be
                said = maven("test", **properties)
                lacking.append(f"no app: {skipped}")
            jvm.check_parts()
            kept.write_text("\n".join([*lacking, said]), encoding="utf-8")
    return jvm, folder, kept.read_text(encoding="utf-8")
