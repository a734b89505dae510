"""Several packages are the whole: the same logits, the same texts, none above the limit."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.package_list import read_package_list
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import EmitError, UnsupportedOption
from edgesdk_converters.convert import ConvertOptions, convert

TINY = Path(__file__).parents[4] / "tests" / "data" / "tiny"
TEXT = np.arange(3, 30, dtype=np.int32)


def options(target, recipe="w8", limit_mb=None, calibration=None):
    return ConvertOptions(
        targets=(target,),
        recipes=(recipe,),
        context=64,
        prove=False,
        package_limit_mb=limit_mb,
        calibration=calibration,
    )


def largest(bundle):
    folders = Path(bundle).rglob("*.mlpackage")
    return max(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) for folder in folders)


@pytest.fixture(scope="module", params=["coreml", "coreml-state"])
def pair(request, tmp_path_factory, short_text):
    """The whole and the parts of one model."""
    folder, source = tmp_path_factory.mktemp("parts"), str(TINY / "gemma3")
    whole = convert(source, folder / "whole", options(request.param, calibration=short_text))
    limit = 0.6 * largest(whole) / 1e6
    return (
        request.param,
        whole,
        convert(source, folder / "parts", options(request.param, limit_mb=limit, calibration=short_text)),
        limit,
    )


def test_logits_are_the_same_numbers(pair):
    target, whole, parts, _ = pair
    found = []
    for bundle in (whole, parts):
        with (
            edgesdk.load(bundle, backend=f"{target}-interpreter", strict=True) as model,
            contextlib.closing(model.new_sequence()) as sequence,
        ):
            logits = [sequence.extend(TEXT[:20]).copy(), sequence.extend(TEXT[20:21]).copy()]
            sequence.truncate(9)
            logits += list(sequence.score(TEXT[9:]))
            found.append(np.stack(logits))
    np.testing.assert_array_equal(found[0], found[1])


def test_no_package_is_above_the_limit_and_all_are_listed(pair):
    target, _, parts, limit = pair
    assert largest(parts) <= limit * 1e6
    bundle = open_bundle(parts)
    (variant,) = bundle.manifest.variants
    assert variant.entry == f"variants/{target}-w8/packages.json"
    names = read_package_list(bundle.file(variant.entry)).packages
    assert names == tuple(f"part_{i + 1}.mlpackage" for i in range(len(names)))
    assert len(names) > 1
    on_disk = sum(path.stat().st_size for path in (parts / "variants").rglob("*") if path.is_file())
    assert bundle.variant_bytes(variant) == on_disk


def test_a_missing_part_is_named(pair, tmp_path):
    target, _, parts, _ = pair
    copy = Path(shutil.copytree(parts, tmp_path / "copy"))
    shutil.rmtree(next(copy.rglob("part_2.mlpackage")))
    with pytest.raises(edgesdk.EdgeError, match=r"part_2\.mlpackage"):
        edgesdk.load(copy, backend=f"{target}-interpreter")


def test_a_limit_that_one_package_keeps_gives_one(tmp_path):
    bundle = open_bundle(convert(str(TINY / "qwen3"), tmp_path / "one", options("coreml", limit_mb=100)))
    (variant,) = bundle.manifest.variants
    assert read_package_list(bundle.file(variant.entry)).packages == ("part_1.mlpackage",)


def test_limits_that_nothing_can_keep(tmp_path):
    what = r"alone takes 0\.0\d\d MB, the limit of a package is 0\.001 MB; give at least 0\.\d{3}, or"
    with pytest.raises(EmitError, match=what):
        convert(str(TINY / "qwen3"), tmp_path / "no", options("coreml", limit_mb=0.001))
    with pytest.raises(UnsupportedOption, match="for the targets coreml, coreml-state only, found litert"):
        convert(str(TINY / "qwen3"), tmp_path / "no", options("litert", limit_mb=1))
    with pytest.raises(UnsupportedOption, match="more than 0"):
        convert(str(TINY / "qwen3"), tmp_path / "no", options("coreml", limit_mb=0))
    assert list(tmp_path.iterdir()) == []
