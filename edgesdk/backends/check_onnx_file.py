"""Reads what an ONNX file refers to before ONNX Runtime does, and refuses what no bundle of edgesdk has.

A model can name other files (external data, binaries of a compiler), functions, subgraphs, operators of
libraries, and settings for the session that loads it. Here everything is on a list: fields, operators,
element types; files that it names must be listed in the manifest, beside it, and large enough. What is on no
list is refused by name. Layout: onnx.proto, "External Data"; onnxruntime.ai, "EP Context Design". It needs no
package and copies no tensor; whether a graph makes sense is ONNX Runtime's business.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgesdk.backends.protobuf_reader import (
    FIXED32,
    LENGTH,
    VARINT,
    Data,
    Field,
    ProtobufError,
    read_fields,
    signed,
)
from edgesdk.backends.say_damage import say_damage
from edgesdk.errors import BundleError

CONTRIB = "com.microsoft"
CONTEXT_OPERATOR = "EPContext"

_STANDARD = (
    "Abs Add Cast Concat DequantizeLinear Div Gather Gelu Gemm MatMul Max Mul QuantizeLinear Range ReduceMax "
    "ReduceMean ReduceSum Reshape Round Shape Sigmoid SimplifiedLayerNormalization Slice Softmax Split Sqrt "
    "Squeeze Sub Tanh Transpose Unsqueeze"
)
_CONTRIBUTED = (
    "FusedMatMul GatherBlockQuantized GroupQueryAttention MatMulNBits RotaryEmbedding "
    "SkipSimplifiedLayerNormalization"
)
OPERATORS = frozenset(("", name) for name in _STANDARD.split()) | frozenset(
    (CONTRIB, name) for name in _CONTRIBUTED.split()
)
"""Domain and type of every operator that edgesdk writes."""

_EXPORTED = (
    "And Constant ConstantOfShape Equal Erf Expand Flatten Greater GreaterOrEqual Identity "
    "LayerNormalization Less LessOrEqual Not Or Pow Where"
)
ENCODER_OPERATORS = frozenset(("", name) for name in _EXPORTED.split())
"""What exporters of torch write of sentence encoders besides; none reads a file or has a graph inside."""

_MOST_FIELDS = 2_000_000
"""Far above the largest model; reading that many takes a second or two."""

_MOST_DIMENSIONS = 8
_LARGEST_TENSOR = 1 << 48

# Fields by number: name, and wire types that they may have. Lists of numbers are not packed in proto2.
_TEXT = (LENGTH,)
_NUMBER = (VARINT,)
_MODEL = {
    1: ("ir_version", _NUMBER),
    2: ("producer_name", _TEXT),
    3: ("producer_version", _TEXT),
    4: ("domain", _TEXT),
    5: ("model_version", _NUMBER),
    6: ("doc_string", _TEXT),
    7: ("graph", _TEXT),
    8: ("opset_import", _TEXT),
}
_COMPILED_MODEL = {**_MODEL, 14: ("metadata_props", _TEXT)}
_COMPILED_NOTES = ("ep_compatibility_info.", "external_dependencies")
"""What ONNX Runtime notes in a model that it has compiled; a session could take options from other notes."""

_GRAPH = {
    1: ("node", _TEXT),
    2: ("name", _TEXT),
    5: ("initializer", _TEXT),
    10: ("doc_string", _TEXT),
    11: ("input", _TEXT),
    12: ("output", _TEXT),
    13: ("value_info", _TEXT),
}
_NODE = {
    1: ("input", _TEXT),
    2: ("output", _TEXT),
    3: ("name", _TEXT),
    4: ("op_type", _TEXT),
    5: ("attribute", _TEXT),
    6: ("doc_string", _TEXT),
    7: ("domain", _TEXT),
}
_ATTRIBUTE = {
    1: ("name", _TEXT),
    2: ("f", (FIXED32,)),
    3: ("i", _NUMBER),
    4: ("s", _TEXT),
    5: ("t", _TEXT),
    7: ("floats", (FIXED32,)),
    8: ("ints", _NUMBER),
    13: ("doc_string", _TEXT),
    20: ("type", _NUMBER),
}
_TENSOR = {
    1: ("dims", _NUMBER),
    2: ("data_type", _NUMBER),
    8: ("name", _TEXT),
    9: ("raw_data", _TEXT),
    12: ("doc_string", _TEXT),
    13: ("external_data", _TEXT),
    14: ("data_location", _NUMBER),
}
_PAIR = {1: ("key", _TEXT), 2: ("value", _TEXT)}
_MANY = frozenset(
    (
        *("opset_import", "metadata_props", "node", "initializer", "input", "output", "value_info"),
        *("attribute", "floats", "ints", "dims", "external_data"),
    )
)
Known = Mapping[int, tuple[str, tuple[int, ...]]]

# Bits of an element by its number in TensorProto.DataType.
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    16: 16,
    21: 4,
    22: 4,
}
_EXTERNAL = 1


def check_onnx_file(
    path: Path, beside: Mapping[str, int], *, compiled: bool = False, encoder: bool = False
) -> None:
    """Checks a file.

    Args:
        path: the model.
        beside: size in bytes, by name, of the files in its folder that the manifest lists: it may name these.
        compiled: whether it was compiled for a processor and may hold or name its binary.
        encoder: whether it may have what exporters write of sentence encoders: further operators, and
            constants as attributes of nodes.

    Raises:
        BundleError: it is damaged, or has or names what no model of edgesdk does.
    """
    with (
        say_damage(path, ProtobufError),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        _OnnxFile(path.name, data, beside, compiled, encoder).check()


class _OnnxFile:
    """One file on its way through the checks."""

    def __init__(
        self, name: str, data: Data, beside: Mapping[str, int], compiled: bool, encoder: bool
    ) -> None:
        self._name = name
        self._data = data
        self._beside = beside
        self._compiled = compiled
        self._encoder = encoder
        self._operators = OPERATORS | ENCODER_OPERATORS if encoder else OPERATORS
        self._left = _MOST_FIELDS

    def check(self) -> None:
        graphs = 0
        known = _COMPILED_MODEL if self._compiled else _MODEL
        for name, start, end in self._fields(known, "the model", 0, len(self._data)):
            if name == "graph":
                graphs += 1
                self._graph(start, end)
            elif name == "metadata_props":
                key, _ = self._pair(start, end)
                if not key.startswith(_COMPILED_NOTES):
                    raise self._refuse(f"has the note {key[:60]!r}")
        if graphs != 1:
            raise self._refuse("holds no graph")

    def _graph(self, start: int, end: int) -> None:
        for name, begin, stop in self._fields(_GRAPH, "the graph", start, end):
            if name == "node":
                self._node(begin, stop)
            elif name == "initializer":
                self._tensor(begin, stop)

    def _node(self, start: int, end: int) -> None:
        kind = domain = ""
        attributes: list[tuple[int, int]] = []
        for name, begin, stop in self._fields(_NODE, "a node", start, end):
            if name == "op_type":
                kind = self._text(begin, stop)
            elif name == "domain":
                domain = self._text(begin, stop)
            elif name == "attribute":
                attributes.append((begin, stop))
        domain = "" if domain == "ai.onnx" else domain
        context = self._compiled and (domain, kind) == (CONTRIB, CONTEXT_OPERATOR)
        if not context and (domain, kind) not in self._operators:
            where = f" of {domain[:60]!r}" if domain else ""
            raise self._refuse(f"has the operator {kind[:60]!r}{where}")
        values = dict(self._attribute(*place) for place in attributes)
        if len(values) != len(attributes):
            raise self._refuse(f"gives a node {kind!r} an attribute twice")
        if context:
            self._context(values)

    def _attribute(self, start: int, end: int) -> tuple[str, int | tuple[int, int]]:
        """Name, and the integer or where the string lies; other values are passed over."""
        label, value = "", 0
        place: tuple[int, int] | None = None
        for name, begin, stop in self._fields(_ATTRIBUTE, "an attribute", start, end):
            if name == "name":
                label = self._text(begin, stop)
            elif name == "i":
                value = begin
            elif name == "s":
                place = (begin, stop)
            elif name == "t":
                if not self._encoder:
                    raise self._refuse("has a tensor as an attribute")
                self._tensor(begin, stop)
        return label, value if place is None else place

    def _context(self, attributes: Mapping[str, int | tuple[int, int]]) -> None:
        """A compiled part: its binary lies inside, or in a listed file."""
        place = attributes.get("ep_cache_context")
        if attributes.get("embed_mode", 1) == 1 or place is None:
            return
        name = self._text(*place) if isinstance(place, tuple) else ""
        if name not in self._beside:
            raise self._refuse(
                f"loads {name[:80]!r}, which the manifest does not list beside it;", unlisted=True
            )

    def _tensor(self, start: int, end: int) -> None:
        name, kind, place = "", 0, 0
        dims: list[int] = []
        raw: int | None = None
        external: dict[str, str] = {}
        for field, begin, stop in self._fields(_TENSOR, "a tensor", start, end):
            if field == "name":
                name = self._text(begin, stop)
            elif field == "data_type":
                kind = begin
            elif field == "data_location":
                place = begin
            elif field == "raw_data":
                raw = stop - begin
            elif field == "dims":
                dims.append(signed(begin))
            elif field == "external_data":
                key, value = self._pair(begin, stop)
                if external.setdefault(key, value) != value:
                    raise self._refuse(f"says twice where {name[:60]!r} lies")
        size = self._bytes(name, kind, dims)
        if place == _EXTERNAL or external:
            if raw is not None or place != _EXTERNAL:
                raise self._refuse(f"has the tensor {name[:60]!r} both inside and outside")
            self._external(name, external, size)
        elif raw != size and (raw or size):
            raise self._refuse(f"has {raw or 0} bytes for the tensor {name[:60]!r}, its shape needs {size}")

    def _bytes(self, name: str, kind: int, dims: list[int]) -> int:
        if kind not in _BITS:
            raise self._refuse(f"has the tensor {name[:60]!r} of element type {kind}")
        # The count first: a product of very many numbers would take long.
        odd = len(dims) > _MOST_DIMENSIONS or any(size < 0 for size in dims)
        elements = 0 if odd else math.prod(dims)
        if odd or elements > _LARGEST_TENSOR:
            raise self._refuse(f"has the tensor {name[:60]!r} of an impossible shape")
        return (elements * _BITS[kind] + 7) // 8

    def _external(self, name: str, external: Mapping[str, str], size: int) -> None:
        odd = set(external) - {"location", "offset", "length"}
        location = external.get("location", "")
        if odd:
            raise self._refuse(f"describes where {name[:60]!r} lies by {min(odd)[:40]!r}")
        if location not in self._beside:
            raise self._refuse(
                f"takes the tensor {name[:60]!r} from {location[:80]!r}, which the manifest does not list "
                "beside it;",
                unlisted=True,
            )
        offset, length = (
            self._decimal(external.get("offset", "0")),
            self._decimal(external.get("length", str(size))),
        )
        if length != size or offset + length > self._beside[location]:
            raise self._refuse(
                f"takes the tensor {name[:60]!r} from {offset} to {offset + length} of {location!r}, which "
                f"has {self._beside[location]} bytes;",
                unlisted=True,
            )

    def _decimal(self, text: str) -> int:
        if not (0 < len(text) < 20 and text.isascii() and text.isdecimal()):
            raise self._refuse(f"has {text[:40]!r} where a place in a file is stated")
        return int(text)

    def _pair(self, start: int, end: int) -> tuple[str, str]:
        found = {"key": "", "value": ""}
        for name, begin, stop in self._fields(_PAIR, "an entry", start, end):
            found[name] = self._text(begin, stop)
        return found["key"], found["value"]

    def _fields(self, known: Known, what: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Name and place of each field, none but those that are known, and once what has one value."""
        seen: set[str] = set()
        field: Field
        for field in read_fields(self._data, start, end):
            number, kind, begin, stop = field
            self._left -= 1
            if self._left < 0:
                raise self._refuse(f"has more than {_MOST_FIELDS} fields")
            name, kinds = known.get(number, ("", ()))
            if kind not in kinds:  # nor is one that is known of another type
                raise self._refuse(f"has the field {number} in {what}")
            if name in seen and name not in _MANY:
                raise self._refuse(f"has {name!r} twice in {what}")
            seen.add(name)
            yield name, begin, stop

    def _text(self, start: int, end: int) -> str:
        try:
            return str(self._data[start : min(end, start + 4096)], "utf-8") if end > start else ""
        except UnicodeDecodeError as error:
            raise ProtobufError("a name is not UTF-8") from error

    def _refuse(self, what: str, *, unlisted: bool = False) -> BundleError:
        rest = " it was not opened" if unlisted else ", which no model of edgesdk does; it was not opened"
        return BundleError(f"{self._name} {what}{rest}")
