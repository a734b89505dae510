import shutil

import pytest


@pytest.fixture
def two(tiny_bundle, shelf):
    for name in ("one", "two"):
        shutil.copytree(tiny_bundle, shelf / name)
    return shelf


def test_an_empty_shelf_says_how_to_fill_it(edgesdk, shelf):
    result = edgesdk("list")
    assert result.out == f"The shelf {shelf} is empty; get a model with: edgesdk pull smollm2\n"
    assert edgesdk("list", "--json").json["models"] == []


def test_models_with_their_disk_use(edgesdk, two):
    edgesdk("alias", "chat", "one")
    (two / "two" / "manifest.json").write_text("[]")
    said = edgesdk("list")
    assert said.code == 0
    rows = {line.split()[0]: line for line in said.out.splitlines() if line.startswith((" one", " two"))}
    assert "chat" in rows["one"]
    assert "f32, w8" in rows["one"]
    assert "cannot be read" in rows["two"]
    document = edgesdk("list", "--json").json
    one, other = document["models"]
    assert (one["name"], one["aliases"], one["damage"]) == ("one", ["chat"], None)
    assert one["recipes"] == ["f32", "w8"]
    size = sum(path.stat().st_size for path in (two / "one").rglob("*") if path.is_file())
    assert one["size_bytes"] == size
    assert document["space"]["models_bytes"] == size + other["size_bytes"]
    assert other["damage"]


def test_what_killed_processes_left_is_not_listed_and_goes(edgesdk, two):
    left = two / ".edgesdk-0123456789ab.partial"
    (left / "bundle").mkdir(parents=True)
    (left / "lock").touch()
    assert len(edgesdk("list", "--json").json["models"]) == 2
    assert not left.exists()


def test_show_says_what_a_model_can_do(edgesdk, two, tiny_bundle):
    said = edgesdk("show", "one")
    assert said.code == 0
    facts = dict(line.split(maxsplit=1) for line in said.out.splitlines()[:9] if line.strip())
    assert facts["name"] == "one"
    assert facts["can"].startswith("chat")
    assert str(two / "one") in said.out
    document = edgesdk("show", "ONE", "--json").json
    assert document["abilities"]["chat"] == "yes"
    assert {variant["recipe"] for variant in document["variants"]} == {"f32", "w8"}
    template = edgesdk("show", "one", "--template")
    assert template.out.rstrip("\n") == (tiny_bundle / "chat_template.jinja").read_text().rstrip("\n")
    assert edgesdk("show", "none").error.endswith("it has: one, two")
    assert edgesdk("show", "one", "--template", "--json").code == 2


def test_rm_frees_and_takes_names_only(edgesdk, two):
    edgesdk("alias", "chat", "one")
    alias = edgesdk("rm", "chat", "--json").json
    assert alias == {"removed": [{"name": "chat", "alias": True, "freed_bytes": 0}]}
    assert "is no name for a model" in edgesdk("rm", two / "one").error
    assert "MB freed" in edgesdk("rm", "one", "two").out
    assert list(two.iterdir()) == []
    assert edgesdk("rm").code == 2


def test_aliases_are_set_shown_and_followed(edgesdk, two):
    assert edgesdk("alias").out.startswith("There are no aliases")
    assert edgesdk("alias", "chat", "one").out == "chat stands for one\n"
    assert edgesdk("alias", "chat", "two").out == "chat stands for two, no longer for one\n"
    assert edgesdk("alias", "--json").json == {"aliases": {"chat": "two"}}
    assert "chat" in edgesdk("alias").out
    assert edgesdk("run", "chat", "x", "--max-tokens", 1).code == 0
    assert edgesdk("inspect", "chat").code == 0
    assert edgesdk("alias", "chat").code == 2
