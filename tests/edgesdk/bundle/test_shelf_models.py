import shutil
import subprocess
import sys

import pytest

from edgesdk.bundle import shelf
from edgesdk.bundle.shelf_aliases import read_aliases
from edgesdk.bundle.shelf_models import (
    making,
    remove_model,
    set_alias,
    shelf_space,
    shelved_model,
    shelved_models,
)
from edgesdk.errors import BundleError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, bundle):
    """A shelf with two copies of a bundle."""
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "shelf"))
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    for name in ("one", "two"):
        shutil.copytree(bundle.path, tmp_path / "shelf" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shelf"


def test_what_is_there_with_sizes_and_aliases(folder, bundle):
    set_alias("chat", "one")
    one, two = shelved_models()
    assert (one.name, one.aliases, one.path, one.damage) == ("one", ("chat",), folder / "one", None)
    assert one.manifest == bundle.manifest
    assert two.aliases == ()
    size = sum(path.stat().st_size for path in (folder / "one").rglob("*") if path.is_file())
    assert one.size_bytes == two.size_bytes == size
    space = shelf_space([one, two])
    assert (space.models_bytes, space.unfinished_bytes) == (2 * size, 0)
    assert space.free_bytes > 0


def test_a_damaged_bundle_is_shown_and_can_be_removed(folder):
    (folder / "one" / "manifest.json").write_text("{")
    damaged = shelved_models()[0]
    assert damaged.manifest is None
    assert "is not valid JSON" in damaged.damage
    assert remove_model("one").name == "one"
    assert shelf.names() == ["two"]


def test_an_alias_is_found_in_every_place_of_a_name(folder):
    assert set_alias("chat", "one") is None
    assert shelf.find("Chat") == shelf.find("one") == shelf.Found(folder / "one")
    assert shelved_model("chat").name == "one"
    assert set_alias("more", "chat") is None  # of the bundle, not of the alias
    assert set_alias("chat", "two") == "one"
    assert read_aliases(folder) == {"chat": "two", "more": "one"}
    assert shelf.find("chat").path == folder / "two"


@pytest.mark.parametrize(
    ("alias", "name", "said"),
    [
        ("two", "one", "two is the name of a bundle on the shelf; choose another alias"),
        ("x", "none", "there is no model 'none' on the shelf .*; it has: one, two"),
        ("../x", "one", r"'\.\./x' is no name for a model"),
        ("x", "../one", r"'\.\./one' is no name for a model"),
        ("X", "one", "'X' is no name for a model"),
    ],
)
def test_an_alias_that_cannot_be_is_one_line(folder, alias, name, said):
    with pytest.raises(BundleError, match=said):
        set_alias(alias, name)
    assert read_aliases(folder) == {}


def test_a_bundle_goes_with_its_aliases_and_an_alias_alone(folder):
    set_alias("chat", "one")
    set_alias("other", "two")
    assert remove_model("OTHER") is None
    assert remove_model("one").size_bytes > 0
    assert sorted(path.name for path in folder.iterdir()) == ["two"]
    with pytest.raises(BundleError, match=r"no folder and no model 'chat'; the shelf .* has two"):
        shelf.find("chat")


@pytest.mark.parametrize("name", ["none", "../shelf/one", "one/", "/", "", "."])
def test_only_names_are_removed(folder, name):
    with pytest.raises(BundleError):
        remove_model(name)
    assert shelf.names() == ["one", "two"]


def test_a_folder_that_is_no_bundle_is_not_removed(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "precious").write_text("x")
    with pytest.raises(BundleError, match="no model 'mine'"):
        remove_model("mine")
    assert (folder / "mine" / "precious").exists()


def test_a_name_that_another_process_makes_is_busy(folder):
    code = (
        "import time\nfrom edgesdk.bundle.shelf_models import making\n"
        "with making('one', lambda: None):\n    print('made', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"made\n"
        with pytest.raises(BundleError, match="another process is making one; wait until it is done"):
            remove_model("one")
        process.kill()
    assert remove_model("one").name == "one"


def test_a_shelf_that_stays_empty_goes_again(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "a" / "b"))
    with making("x", lambda: None) as place:
        assert place.parent.is_dir()
    assert not (tmp_path / "a").exists()


def test_a_shelf_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "file" / "shelf"))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BundleError, match="shelf cannot be written") as error, making("x", lambda: None):
        raise AssertionError
    assert "\n" not in str(error.value)


def test_no_bundle_gets_the_name_of_an_alias(folder):
    set_alias("chat", "one")
    with pytest.raises(BundleError, match="chat is an alias of one; choose another name, or remove it with"):
        shelf.new_place("chat")
    shutil.copytree(folder / "one", folder / "chat")  # by hand: the bundle wins
    assert shelf.find("chat").path == folder / "chat"
    assert shelf.new_place("chat") == folder / "chat"
    assert shelved_model("one").aliases == ("chat",)


def test_an_alias_of_what_was_removed_by_hand_stands_for_nothing(folder):
    set_alias("chat", "one")
    shutil.rmtree(folder / "one")
    with pytest.raises(BundleError, match="no model 'chat'"):
        shelf.find("chat")
    assert remove_model("chat") is None
