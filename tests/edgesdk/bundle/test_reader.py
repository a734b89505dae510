import json
import time

import pytest

from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.bundle.reader import MANIFEST_LIMIT_BYTES, open_bundle
from edgesdk.errors import BundleError


@pytest.fixture
def edited(bundle):
    """Opens the bundle after `change` has had its way with the parsed manifest."""

    def edit(change):
        file = bundle.path / "manifest.json"
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))
        return open_bundle(bundle.path)

    return edit


def test_a_newer_schema_says_so(edited):
    with pytest.raises(BundleError, match="schema 99, this edgesdk reads 2; upgrade"):
        edited(lambda m: m.update(schema_version=99, added_later=True))


def test_an_older_schema_says_so(edited):
    with pytest.raises(BundleError, match="convert it again"):
        edited(lambda m: m.update(schema_version=1))


@pytest.mark.parametrize("version", [None, "1", True, 1.0])
def test_a_version_that_is_no_number_is_refused(edited, version):
    with pytest.raises(BundleError, match="no schema_version"):
        edited(lambda m: m.update(schema_version=version))


def test_missing_folders_and_manifests(tmp_path):
    with pytest.raises(BundleError, match="is not a folder"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="has no manifest"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100_000, b"\xff\xfe{}", b"[]", b'{"schema_version": ' + b"9" * 9999]
)
def test_a_manifest_that_is_not_json_is_one_line(bundle, text):
    (bundle.path / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle.path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_oversized_manifest_is_not_parsed(bundle):
    with (bundle.path / "manifest.json").open("wb") as stream:
        stream.truncate(MANIFEST_LIMIT_BYTES + 1)
    with pytest.raises(BundleError, match="larger than 16 MiB"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_names_that_lead_out_are_refused(edited, name):
    with pytest.raises(BundleError, match="not a file name"):
        edited(lambda m: m["files"].update({name: {"sha256": "0" * 64, "size_bytes": 1}}))


def test_a_bad_digest_is_refused(edited):
    with pytest.raises(BundleError, match="no valid sha256"):
        edited(lambda m: m["files"]["tokenizer.json"].update(sha256="xyz"))


def test_a_variant_whose_entry_is_unlisted_is_refused(edited):
    with pytest.raises(BundleError, match="does not list"):
        edited(lambda m: m["variants"][0].update(entry="variants/w8/other.tflite"))


@pytest.mark.parametrize("changes", [{"rows": 5}, {"cells": LARGEST_SIZE + 1}, {"tokens": LARGEST_SIZE + 1}])
def test_an_impossible_step_is_refused(edited, changes):
    with pytest.raises(BundleError, match="step size"):
        edited(lambda m: m["variants"][0]["steps"][0].update(changes))


def test_a_size_that_no_array_has_is_refused(edited):
    with pytest.raises(BundleError, match=r"manifest.decoder: vocab_size is \d+, expected 1 to"):
        edited(lambda m: m["decoder"].update(vocab_size=LARGEST_SIZE + 1))


def test_a_number_that_no_float_holds_is_refused(edited):
    with pytest.raises(BundleError, match=r"decoder.norm_eps is 1000.*0, which no float holds"):
        edited(lambda m: m["decoder"].update(norm_eps=10**400))


def test_an_end_token_outside_the_vocabulary_is_refused(edited):
    with pytest.raises(BundleError, match="outside the vocabulary"):
        edited(lambda m: m["tokenizer"].update(eos_ids=[32]))


def test_only_listed_files_are_given_out(bundle):
    (bundle.path / "extra.txt").write_text("x")
    with pytest.raises(BundleError, match="not a file of the bundle"):
        bundle.file("extra.txt")


def test_a_link_is_refused(bundle, tmp_path):
    (tmp_path / "secret").write_text("{}")
    (bundle.path / "tokenizer.json").unlink()
    (bundle.path / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="is a link, expected a plain file"):
        bundle.file("tokenizer.json")


def test_a_missing_file_is_named(bundle):
    (bundle.path / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"lacks 'tokenizer.json'"):
        bundle.file("tokenizer.json")


def test_variants_by_name(bundle):
    assert bundle.variant("w8").context == 64
    with pytest.raises(BundleError, match="it has: w8"):
        bundle.variant("w4")


@pytest.mark.parametrize("numbers", ["", "0" * 63, "z" * 64])
def test_a_variant_whose_weights_have_no_digest_is_refused(edited, numbers):
    with pytest.raises(BundleError, match="'w8' has no valid digest of its weights' numbers; convert"):
        edited(lambda m: m["variants"][0].update(numbers=numbers))


def test_a_variant_without_numbers_is_refused(edited):
    with pytest.raises(BundleError, match=r"manifest.variants\[0\] lacks the key 'numbers'"):
        edited(lambda m: m["variants"][0].pop("numbers"))


def test_more_convolutions_than_a_port_holds_are_refused(edited):
    def change(manifest):
        decoder = manifest["decoder"]
        decoder["hidden_size"] = LARGEST_SIZE
        decoder["blocks"][1]["mixer"] = {"kernel": 3}

    with pytest.raises(BundleError, match=r"convolutions take \d+ numbers of a token"):
        edited(change)


def test_lists_of_a_manifest_have_an_end(edited):
    adapter = {"sha256": "0" * 64, "gate": 1, "rank": 1, "products": 1, "scale": 1.0, "size_bytes": 1}
    port = {"dims": ["T"], "dtype": "float32"}
    many = range(40_000)
    before = time.process_time()
    with pytest.raises(BundleError, match="has 40000 adapters, expected at most 64"):
        edited(lambda m: m.update(adapters=[{**adapter, "name": f"a{i}"} for i in many]))

    def ports(manifest):
        manifest["adapters"] = []
        inputs = [{**port, "name": f"a{i}"} for i in many]
        manifest["variants"][0]["stacks"] = [{"name": "main", "inputs": inputs}]

    def stacks(manifest):
        manifest["variants"][0]["stacks"] = [{"name": f"a{i}"} for i in many]

    with pytest.raises(BundleError, match="has 40000 further ports"):
        edited(ports)
    edited(stacks)
    assert time.process_time() - before < 10  # each compared with each: minutes


def test_segments_cut_where_no_block_attends_are_refused_in_a_line(edited):
    def change(manifest):
        blocks = manifest["decoder"]["blocks"]
        variant = manifest["variants"][0]
        other = {**manifest["decoder"], "blocks": [blocks[1]]}
        first = {**manifest["decoder"], "blocks": [blocks[0]]}
        manifest["decoder"] = {**manifest["decoder"], "blocks": [blocks[0], {**blocks[1], "mixer": None}]}
        parts = (
            ("segment", 0, 1, first),
            ("segment", 1, 2, other),
            ("head", 0, 0, None),
            ("fill", 1, 2, other),
        )
        names = {
            ("segment", 0): "to_1",
            ("segment", 1): "from_1",
            ("head", 0): "exit_head",
            ("fill", 1): "fill_1",
        }
        for part, start, end, decoder in parts:
            name = names[part, start]
            exit_ = {"part": part, "first": start, "last": end}
            variant["stacks"].append({"name": name, "decoder": decoder, "exit": exit_})
            size = {"tokens": 1, "cells": 64, "rows": 1, "signature": name, "stack": name}
            variant["steps"].append(size)

    with pytest.raises(BundleError, match="has the stack 'from_1' of another decoder"):
        edited(change)


STREAMS = {"name": "streams", "dims": ["T", 2], "dtype": "float32"}
SOURCES = {"name": "sources", "dims": ["T"], "dtype": "int32"}
RECORD = {"form": "streams", "count": 2, "layers": 1, "rank": 4, "size_bytes": 1}


@pytest.mark.parametrize(
    ("inputs", "record", "said"),
    [
        ([STREAMS], RECORD, "input 'sources'"),
        ([STREAMS, SOURCES], {**RECORD, "form": "masks"}, "input 'sources'"),
        ([STREAMS, {**SOURCES, "dims": ["T", 2]}], RECORD, "input 'sources'"),
        ([STREAMS, {**SOURCES, "dtype": "float32"}], RECORD, "input 'sources'"),
        ([{**STREAMS, "dtype": "int8"}, SOURCES], RECORD, "input 'streams'"),
        ([SOURCES], None, "input 'sources'"),
        ([{"name": "gates", "dims": ["T", LARGEST_SIZE]}], None, "64 at most"),
        ([{"name": "gates", "dims": ["T", 2], "dtype": "int32"}], None, "expected float32"),
        ([{"name": "gates", "dims": ["T"]}], None, "expected float32"),
    ],
)
def test_inputs_that_steps_cannot_fill_are_refused(edited, inputs, record, said):
    stack = {"name": "main", "inputs": inputs, "streams": record}
    with pytest.raises(BundleError, match=said):
        edited(lambda m: m["variants"][0].update(stacks=[stack]))


def test_inputs_that_steps_fill_are_read(edited):
    gates = {"name": "gates", "dims": ["T", 2]}
    stack = {"name": "main", "inputs": [STREAMS, SOURCES, gates], "streams": RECORD}
    (variant,) = edited(lambda m: m["variants"][0].update(stacks=[stack])).manifest.variants
    assert variant.stacks[0].streams.count == 2
