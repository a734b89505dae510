"""GGUF files in parts: they are the file that was split, or refused in one line."""

import os
import re
import shutil

import gguf
import numpy as np
import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints import gguf_file
from edgesdk_converters.checkpoints.gguf_parts import first_part, model_name, part_names, part_paths
from edgesdk_converters.checkpoints.mapped_file import MappedFile
from edgesdk_converters.checkpoints.open_checkpoint import open_local
from edgesdk_converters.checkpoints.open_gguf import open_gguf

KINDS = gguf.GGMLQuantizationType


@pytest.fixture
def parts(tmp_path, gguf_from_tiny):
    """Three of a model, and that model in one file, under other folders."""

    def kind_of(name):
        return KINDS.Q4_1 if name.endswith("_down.weight") else KINDS.F32

    for folder, count in (("parts", 9), ("whole", 0)):
        (tmp_path / folder).mkdir()
        gguf_from_tiny(tmp_path / folder / "m.gguf", "llama", kind_of=kind_of, tensors_per_part=count)
    return sorted((tmp_path / "parts").iterdir())


def rewrite(path, change=lambda metadata: None, rename=lambda name: name, keep=lambda name: True):
    """Writes a part again with other metadata and other tensors."""
    reader = gguf.GGUFReader(path)
    metadata = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = [(t.name, np.array(t.data), t.tensor_type) for t in reader.tensors]
    values = {name: (field.contents(), field.types) for name, field in metadata.items()}
    change(values)
    writer = gguf.GGUFWriter(path.with_suffix(".new"), "llama")
    writer.kv_data[0].clear()
    for name, (value, types) in values.items():
        writer.add_key_value(name, value, types[0], types[1] if len(types) > 1 else None)
    for name, data, kind in tensors:
        if keep(name):
            writer.add_tensor(rename(name), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".new").replace(path)


def test_parts_are_the_file_that_was_split(parts, tmp_path):
    assert [path.name for path in parts] == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    whole, joined = open_gguf(tmp_path / "whole" / "m.gguf"), open_gguf(parts[0])
    assert joined.name == whole.name == "m"
    assert joined.config == whole.config
    assert sorted(joined.tensors) == sorted(whole.tensors)
    for name in whole.tensors:
        assert name in joined.tensors
        assert joined.tensors.shape(name) == whole.tensors.shape(name)
        assert joined.tensors.stored_type(name) == whole.tensors.stored_type(name)
        np.testing.assert_array_equal(joined.tensors.load(name), whole.tensors.load(name))
        np.testing.assert_array_equal(joined.tensors.load_rows(name, 1, 3), whole.tensors.load(name)[1:3])
        assert joined.tensors.block_type(name) == whole.tensors.block_type(name)
        if whole.tensors.block_type(name):
            found, expected = joined.tensors.stored_blocks(name), whole.tensors.stored_blocks(name)
            np.testing.assert_array_equal(found.values, expected.values)
    with pytest.raises(CheckpointError, match="the parts of the model have no tensor 'x'"):
        joined.tensors.load("x")


def test_every_part_has_a_digest(parts):
    files = open_gguf(parts[0]).source.files
    assert [file.name for file in files] == [path.name for path in parts]
    assert [file.size_bytes for file in files] == [path.stat().st_size for path in parts]
    assert len({file.sha256 for file in files}) == 3
    local = open_local(str(parts[0])).source.files
    assert [(file.name, file.sha256) for file in local] == [(path.name, "") for path in parts]


def test_a_first_part_of_metadata_alone(tmp_path, write_gguf, parts):
    """As `llama-gguf-split --no-tensor-first-split` writes it."""
    for old, path in enumerate([*parts][::-1]):
        number = 3 - old

        def change(values, number=number):
            values["split.no"] = (number, values["split.no"][1])
            values["split.count"] = (4, values["split.count"][1])

        rewrite(path, change)
        path.rename(path.with_name(f"m-0000{number + 1}-of-00004.gguf"))
    second = parts[0].with_name("m-00002-of-00004.gguf")
    first = parts[0].with_name("m-00001-of-00004.gguf")
    shutil.copy(second, first)

    def change_first(values):
        values["split.no"] = (0, values["split.no"][1])

    def drop(values):
        for name in [name for name in values if not name.startswith("split.")]:
            del values[name]

    rewrite(first, change_first, keep=lambda name: False)
    rewrite(second, drop)
    whole = open_gguf(tmp_path / "whole" / "m.gguf")
    assert sorted(open_gguf(first).tensors) == sorted(whole.tensors)


def _set(key, value):
    def change(values):
        values[key] = (value, values[key][1])

    return change


def _missing(parts):
    parts[1].unlink()


def _renamed(parts):
    parts[0].rename(parts[0].with_name("x.gguf"))
    return parts[0].with_name("x.gguf")


def _named_as_part(parts):
    shutil.copy(parts[0].parents[1] / "whole" / "m.gguf", parts[0])


def _swapped(parts):
    shutil.copy(parts[2], parts[1])


def _other_architecture(parts):
    def change(values):
        values["general.architecture"] = ("gemma", [gguf.GGUFValueType.STRING])

    rewrite(parts[1], change)


def _drop_one(parts):
    dropped = gguf.GGUFReader(parts[1]).tensors[0].name
    rewrite(parts[1], keep=lambda name: name != dropped)


def _twice(parts):
    first, again = (gguf.GGUFReader(path).tensors[0].name for path in (parts[0], parts[2]))
    rewrite(parts[2], rename=lambda name: first if name == again else name)


def _no_count(parts):
    rewrite(parts[1], lambda values: values.pop("split.count"))


def _with(number, **values):
    """Another value of `split.KEY` in one part."""

    def spoil(parts):
        for key, value in values.items():
            rewrite(parts[number - 1], _set(f"split.{key}", value))

    return spoil


def _cut(parts):
    parts[1].write_bytes(parts[1].read_bytes()[:-40])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda parts: parts[1],
            "00002-of-00003.gguf is part of a model in 3; give the first, m-00001-of-00003",
        ),
        (_missing, "is one of 3 parts, and m-00002-of-00003.gguf is not beside it"),
        (_renamed, "x.gguf is named as a whole model, and has split.count 3; give the first part under the"),
        (_named_as_part, "m-00001-of-00003.gguf is named as one of 3 parts, and has split.count 1"),
        (_swapped, "m-00002-of-00003.gguf has split.no 2, expected 1"),
        (_with(1, no=1), "m-00001-of-00003.gguf has split.no 1, expected 0"),
        (_with(1, count=2), "one of 3 parts, and has split.count 2"),
        (
            _with(3, count=4),
            "00003-of-00003.gguf has 'split.count' 4, the first part 3; it is a part of another",
        ),
        (_with(3, **{"tensors.count": 7}), "has 'split.tensors.count' 7, the first part 20"),
        (_other_architecture, "has 'general.architecture' 'gemma', the first part 'llama'; it is a part of"),
        (_no_count, "m-00002-of-00003.gguf has no split.count; it is no part of a model"),
        (_drop_one, "says that its parts have 20 tensors (split.tensors.count), they have 19; a part is of"),
        (_twice, "m-00001-of-00003.gguf and m-00003-of-00003.gguf both hold '"),
        (_cut, "00002-of-00003.gguf puts "),
    ],
)
def test_parts_that_do_not_belong_together_are_one_line(parts, spoil, said):
    given = spoil(parts)
    path = given if hasattr(given, "name") else parts[0]
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        open_gguf(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("when", ["before it is mapped", "after"])
def test_a_part_that_is_cut_after_its_header_was_read_is_one_line(parts, monkeypatch, when):
    last = parts[2]
    if when == "after":
        tensors = open_gguf(parts[0]).tensors
        os.truncate(last, last.stat().st_size - 40)
    else:

        def cut_first(path):
            if path == last:
                os.truncate(path, path.stat().st_size - 40)
            return MappedFile(path)

        monkeypatch.setattr(gguf_file, "MappedFile", cut_first)
        tensors = open_gguf(parts[0]).tensors
    with pytest.raises(CheckpointError, match=r"m-00003-of-00003.gguf has \d+ bytes, .* was cut") as caught:
        [tensors.load(name) for name in tensors]
    assert "\n" not in str(caught.value)


def test_names():
    assert model_name("Model-Q8_0-00001-of-00012.gguf") == "Model-Q8_0"
    assert model_name("Model.GGUF") == "Model"
    assert model_name("a-00001-of-2.gguf") == "a-00001-of-2"
    assert model_name("folder") == "folder"
    assert part_names("m.gguf") == ("m.gguf",)
    assert part_names("m-00001-of-00000.gguf") == ("m-00001-of-00000.gguf",)
    assert part_names("m-00002-of-00002.gguf") == ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    for name in ("m.gguf", "m-00001-of-00000.gguf", "m-00002-of-00002.GGUF", "a-00007-OF-00012.gguf"):
        assert first_part(name) == part_names(name)[0]


def test_only_the_first_part_stands_for_all(parts):
    assert list(part_paths(parts[0])) == parts
    assert part_paths(parts[1]) == (parts[1],)
