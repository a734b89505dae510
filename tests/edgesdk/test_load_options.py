"""Options of a load: one object, checked when it is made, for whoever loads."""

import inspect
import typing
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

import edgesdk
from edgesdk.errors import UnsupportedOption
from edgesdk.load_options import LoadKeywords, LoadOptions

NAMES = [field.name for field in fields(LoadOptions)]


def test_keywords_and_help_list_every_option():
    assert typing.get_type_hints(LoadKeywords) == typing.get_type_hints(LoadOptions)
    listed = inspect.signature(edgesdk.load).parameters
    assert [n for n, p in listed.items() if p.kind is p.KEYWORD_ONLY] == NAMES
    defaults = LoadOptions()
    assert {n: listed[n].default for n in NAMES} == {n: getattr(defaults, n) for n in NAMES}
    said = inspect.getdoc(edgesdk.load)
    assert all(f"    {name}: " in said for name in NAMES)


def test_it_cannot_be_changed_and_holds_plain_values():
    asked = LoadOptions(threads=np.int64(2), strict=np.bool_(True))
    assert (type(asked.threads), type(asked.strict)) == (int, bool)
    with pytest.raises(FrozenInstanceError):
        asked.threads = 3
    with pytest.raises(UnsupportedOption, match="threads is 0"):
        replace(asked, threads=0)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("divice", "device"),
        ("thread", "threads"),
        ("isolate_grammar", "isolate_grammars"),
        ("varient", "variant"),
    ],
)
def test_a_name_that_is_nearly_right(wrong, meant, tmp_path):
    what = rf"^there is no option '{wrong}'; did you mean {meant}\?$"
    with pytest.raises(UnsupportedOption, match=what):
        edgesdk.load(tmp_path, **{wrong: 1})
    with pytest.raises(UnsupportedOption, match=f"no option 'xyzzy'; there are {', '.join(NAMES)}$"):
        edgesdk.load(tmp_path, xyzzy=1)


def test_a_backend_that_is_nearly_right():
    with pytest.raises(UnsupportedOption, match=r"^backend 'litrt' is unknown; did you mean litert\?$"):
        LoadOptions(backend="litrt")
    with pytest.raises(UnsupportedOption, match=r"^backend 'xyzzy' is unknown; expected auto, litert, "):
        LoadOptions(backend="xyzzy")


def test_a_goal_that_is_a_device_becomes_one():
    assert LoadOptions(goal="gpu") == LoadOptions(device="gpu")
    assert (LoadOptions(goal="latency").kind, LoadOptions(goal="npu").kind) == (None, "npu")


def test_an_object_and_keywords(fake_runtime):
    path = fake_runtime()
    asked = LoadOptions(threads=2, backend="fake")
    with edgesdk.load(path, asked) as model:
        assert (model.receipt.threads, model.receipt.backend) == (2, "fake")
    with edgesdk.load(path, asked, threads=1) as model:
        assert (model.receipt.threads, model.receipt.backend) == (1, "fake")
    with pytest.raises(UnsupportedOption, match=r"options is 5, expected an edgesdk\.LoadOptions"):
        edgesdk.load(path, 5)
    with pytest.raises(UnsupportedOption, match="which strict forbids"):
        edgesdk.load(path, LoadOptions(strict=True), device="gpu", serve_meanwhile=True)
