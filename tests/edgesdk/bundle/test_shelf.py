import pytest

from edgesdk.bundle import shelf
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import BundleError
from edgesdk.load_model import load


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty shelf; the working folder is empty as well."""
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "shelf"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "shelf"


def put(path):
    path.mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    return path


def test_the_shelf_is_the_variables_folder_or_the_platforms(folder, monkeypatch):
    assert shelf.shelf_folder() == folder
    monkeypatch.delenv("EDGESDK_MODELS")
    default = shelf.shelf_folder()
    assert default.is_absolute()
    assert default.parts[-2:] == ("edgesdk", "models")


@pytest.mark.parametrize("name", ["smollm2", "qwen2.5-0.5b-w8-round", "a", "0", "a_b", "x" * 80])
def test_names(name, folder):
    assert shelf.place(name) == folder / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "A", "a b", "a.", "é", "con", "nul.txt", "x" * 81, "a\n"],
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(BundleError, match="is no name for a model; expected at most 80 lower-case letters"):
        shelf.place(name)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("SmolLM2-135M-Instruct.Q4_1", "w8-round"), "smollm2-135m-instruct.q4_1-w8-round"),
        (("Mein Modell (neu)", "w8"), "mein-modell-neu-w8"),
        (("日本", "w8"), "w8"),
        (("con",), "model-con"),
        (("", ""), "model"),
    ],
)
def test_names_are_made_from_anything(parts, name):
    assert shelf.make_name(*parts) == name


@pytest.mark.parametrize("text", ["x" * 300, "...", "---", "a" * 79 + ".b", "CON.gguf", "\x00/.."])
def test_what_is_made_is_a_name(text):
    assert shelf.is_name(shelf.make_name(text))


def test_a_name_is_found_whatever_its_case(folder):
    put(folder / "smollm2")
    assert shelf.find("smollm2") == shelf.find("SmolLM2") == shelf.Found(folder / "smollm2")
    assert shelf.names() == ["smollm2"]


def test_a_bundle_here_wins_and_that_is_said(folder, tmp_path):
    put(folder / "mine")
    put(tmp_path / "here" / "mine")
    found = shelf.find("mine")
    assert str(found.path) == "mine"
    assert found.note == f"the folder mine is used, not the model of that name in {folder / 'mine'}"


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_no_bundle_hides_no_name(folder, tmp_path, is_folder):
    put(folder / "mine")
    other = tmp_path / "here" / "mine"
    other.mkdir() if is_folder else other.write_text("x")
    found = shelf.find("mine")
    assert found.path == folder / "mine"
    assert found.note.endswith("is used; mine here is not a bundle")


def test_a_path_is_never_a_name(folder, tmp_path):
    put(folder / "mine")
    with pytest.raises(
        BundleError, match=r"^there is no folder \./mine; the shelf .* has mine; get one with: "
    ):
        shelf.find("./mine")
    put(tmp_path / "here" / "mine")
    assert shelf.find("./mine").note is None
    assert shelf.find(tmp_path / "here" / "mine").path == tmp_path / "here" / "mine"


def test_what_is_nowhere_is_one_line_with_what_there_is_and_the_command(folder):
    with pytest.raises(
        BundleError, match=r"no model 'qwen'; the shelf .* is empty; .*pull SOURCE --name qwen$"
    ):
        shelf.find("qwen")
    with pytest.raises(BundleError, match=r"get one with: edgesdk pull smollm2$"):
        shelf.find("smollm2")
    for index in range(9):
        put(folder / f"m{index}")
    with pytest.raises(BundleError, match=r"has m0, m1, .*, m7, \.\.\.; .*--name NAME$") as caught:
        shelf.find("Not A Name" * 100)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_told_from_a_bundle(tmp_path):
    (tmp_path / "here" / "model.gguf").write_text("x")
    with pytest.raises(BundleError, match=r"convert it with: edgesdk convert model\.gguf"):
        shelf.find("model.gguf")


def test_drafts_files_and_other_folders_are_not_listed(folder):
    put(folder / ".smollm2.0123abcd.partial")
    put(folder / "Capital")
    (folder / "empty").mkdir()
    (folder / "file").write_text("x")
    assert shelf.names() == []


@pytest.mark.parametrize("text", ["", "\x00", "a\x00b", "~", "/", "."])
def test_odd_texts_are_paths_that_are_no_bundles(text):
    with pytest.raises(BundleError):
        open_bundle(shelf.find(text).path)


def test_load_takes_a_name_and_notes_what_it_passed_over(bundle, folder, tmp_path):
    import shutil

    with pytest.raises(BundleError, match="no model 'nothing'"):
        load("nothing")
    shutil.copytree(bundle.path, folder / "mine")
    assert open_bundle(shelf.find("mine").path).manifest == bundle.manifest
