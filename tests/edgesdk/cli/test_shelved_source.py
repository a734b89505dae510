import json
import shutil

import pytest

from edgesdk.cli.convert_once import RECIPE
from edgesdk.cli.shelved_source import ShelvedSource


@pytest.mark.parametrize(
    ("model", "text", "name"),
    [
        ("owner/Name-1B", "owner/Name-1B", "name-1b"),
        ("owner/name@v1", "owner/name", "name-v1"),
        ("owner/Name-GGUF:q8_0", "owner/Name-GGUF:Q8_0", "name-q8_0"),
        ("owner/name:Q4_K_M@v1", "owner/name:Q4_K_M", "name-q4_k_m-v1"),
        ("smollm2-135m", "smollm2-135m", "smollm2-135m"),
    ],
)
def test_what_is_fetched_has_a_name(model, text, name, shelf):
    source = ShelvedSource.of(model)
    assert (source.text, source.name()) == (text, name)


@pytest.mark.parametrize(
    "model", ["", "x", "a/b/c", "../x", "owner/x.gguf", "a/b:", "a/b:c/d", "a b/c", "/a:Q8_0"]
)
def test_what_is_no_checkpoint_is_none(model, shelf):
    assert ShelvedSource.of(model) is None


def test_hub_ids_are_known_by_their_revision(tiny_bundle, shelf):
    """No network: only what is on the shelf is looked at."""
    shutil.copytree(tiny_bundle, shelf / "theirs")
    file = shelf / "theirs" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["source"].update(kind="huggingface", location="owner/name", revision="a" * 40)
    for variant in manifest["variants"]:
        variant["recipe"] = RECIPE
    file.write_text(json.dumps(manifest))
    source = ShelvedSource.of
    assert source("owner/name").kept((RECIPE,)) == shelf / "theirs"
    assert source(f"owner/name@{'a' * 40}").kept((RECIPE,)) == shelf / "theirs"
    assert source("owner/name@other").kept((RECIPE,)) is None
    assert source("owner/name@other").new_name(RECIPE) == "name-other-w8-round"
    assert source("other/name").kept((RECIPE,)) is None
