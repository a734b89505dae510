"""A sentence encoder (MiniLM and its kin) in ONNX, as what gives an index its vectors.

A folder as sentence-transformers and the hub have them: `onnx/model.onnx` or `model.onnx`, `tokenizer.json`,
and what says how states are pooled and where texts are cut. Vectors have length 1, as an index wants them.
The file is read before ONNX Runtime does (`check_onnx_file`). It knows no index, and of prompts nothing:
models that want words before a text are bundles (docs/embeddings.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.check_onnx_file import check_onnx_file
from edgesdk.backends.onnxruntime_session import onnxruntime_errors, open_session
from edgesdk.bundle.embedding_record import Pooling, pooling_modes
from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.bundle.read_json import read_json
from edgesdk.devices.cpu import usable_cores
from edgesdk.errors import BundleError, DeviceError, quoted
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.vectors.embed_texts import of_length_one

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_TOKENIZER = "tokenizer.json"
_FILES = ("onnx/model.onnx", "model.onnx")
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_MOST_JSON = 1 << 20
_MOST_TOKENS = 8192
_MOST_WIDTH = 1 << 16
_STATES = ("tensor(float)", "tensor(float16)")
_TEXTS_A_RUN = 16


def is_encoder(folder: Path) -> bool:
    """Whether a folder looks like one of these."""
    return (folder / _TOKENIZER).is_file() and any((folder / name).is_file() for name in _FILES)


class Encoder:
    """An `edgesdk.Embedder`; `open_encoder` makes one. Any thread may use it.

    Attributes:
        name: of the folder, its weights and the form of its vectors, so that an index knows them again.
        width: numbers of a vector.
        most_tokens: where a text is cut.
    """

    def __init__(
        self, name: str, session: InferenceSession, tokenizer: Tokenizer, pooling: Pooling, most_tokens: int
    ) -> None:
        self.name = f"{name} {pooling}"
        self.most_tokens = most_tokens
        self._session: InferenceSession | None = session
        self._tokenizer = tokenizer
        self._pooling = pooling
        with onnxruntime_errors("cannot say what the encoder takes and gives"):  # names that are not UTF-8
            self._inputs = {each.name for each in session.get_inputs()}
            states = session.get_outputs()[0]
            shape = tuple(states.shape)
        odd = sorted(self._inputs - _INPUTS)
        if odd or "input_ids" not in self._inputs:
            raise BundleError(
                f"{name} has the inputs {quoted(sorted(self._inputs))}, expected {', '.join(sorted(_INPUTS))}"
            )
        sized = len(shape) == 3 and isinstance(shape[2], int) and 1 <= shape[2] <= _MOST_WIDTH
        if not sized or states.type not in _STATES:
            raise BundleError(
                f"{name} gives {quoted(shape)} as {states.type}, expected states: (texts, tokens, width) in "
                f"floating point, the width up to {_MOST_WIDTH}"
            )
        self.width = int(shape[2])

    def __enter__(self) -> Self:
        """Gives the encoder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def close(self) -> None:
        """Releases the model; may be called again."""
        self._session = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: (texts, width); what is longer than the model reads is cut.

        Raises:
            UnsupportedOption: a text has half a character.
            DeviceError: it is closed, or ONNX Runtime failed.
        """
        ids = [self._cut(self._tokenizer.frame(text)) for text in texts]
        vectors = np.empty((len(ids), self.width), np.float32)
        # Of like length together: what fills a run up costs as much as text.
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for begin in range(0, len(order), _TEXTS_A_RUN):
            places = order[begin : begin + _TEXTS_A_RUN]
            vectors[places] = self._run([ids[i] for i in places])
        return vectors

    def embed_question(self, question: str) -> NDArray[np.float32]:
        """Vector of a question, of length 1: (width,).

        Raises:
            UnsupportedOption, DeviceError: as `embed`.
        """
        vector: NDArray[np.float32] = self.embed([question])[0]
        return vector

    def _cut(self, ids: list[int]) -> list[int]:
        """With the token that ends a text, as the model was trained."""
        return ids if len(ids) <= self.most_tokens else [*ids[: self.most_tokens - 1], ids[-1]]

    def _run(self, texts: Sequence[list[int]]) -> NDArray[np.float64]:
        session = self._session
        if session is None:
            raise DeviceError("the encoder is closed; open it again")
        tokens = np.zeros((len(texts), max(1, *map(len, texts))), np.int64)
        mask = np.zeros_like(tokens)
        for row, ids in enumerate(texts):
            tokens[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        with onnxruntime_errors("cannot run the encoder"):
            states = session.run(None, {name: given[name] for name in sorted(self._inputs)})[0]
        if states.shape != (*tokens.shape, self.width):
            raise DeviceError(
                f"the encoder gave {states.shape}, expected {(*tokens.shape, self.width)}; get it again"
            )
        if self._pooling == "cls":
            pooled = states[:, 0].astype(np.float64)
        else:
            pooled = np.einsum("btw,bt->bw", states, mask, dtype=np.float64)
        return of_length_one(pooled)


def open_encoder(folder: str | Path, *, threads: int | None = None) -> Encoder:
    """Opens a sentence encoder.

    Args:
        folder: with its ONNX file, tokenizer and pooling.
        threads: CPU threads; None for as many as there are cores.

    Raises:
        BundleError: a file is missing or damaged, or says what is not known here.
        DeviceError: onnxruntime is missing or refuses the file.
    """
    folder = Path(folder)
    path = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if path is None:
        raise BundleError(f"{folder} has no {_FILES[0]}; get the model with its ONNX file")
    _check_modules(folder / "modules.json")
    pooling, most = _pooling(folder), _most_tokens(folder)
    # Whoever reads a pipe waits for somebody to write.
    if not (folder / _TOKENIZER).is_file():
        raise BundleError(f"{folder / _TOKENIZER} is not there, or no plain file; get the model again")
    check_onnx_file(path, {}, encoder=True)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    tokenizer = Tokenizer(folder / _TOKENIZER, TokenizerRecord(None, (), False))
    _ = tokenizer.engine  # read now: its errors belong here
    session = open_session(path, threads or usable_cores())
    name = f"{folder.absolute().name} {digest[:16]}"
    return Encoder(name, session, tokenizer, pooling, most)


def _check_modules(path: Path) -> None:
    """Refuses what makes other vectors of pooled states, as a dense layer does; many folders do not say."""
    if not path.exists():
        return
    listed = _document(path)
    entries = listed if isinstance(listed, list) else [listed]
    types = [entry.get("type") if isinstance(entry, dict) else None for entry in entries]
    kinds = [str(each).rpartition(".")[2] for each in types]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise BundleError(
            f"{path} lists {quoted(kinds)}, expected Transformer, Pooling and perhaps Normalize; "
            "take another encoder"
        )


def _pooling(folder: Path) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    document = _json(path)
    modes = pooling_modes(document)
    if modes == ["mean"]:
        return "mean"
    if modes == ["cls"]:
        return "cls"
    raise BundleError(f"{path} pools by {quoted(modes)}, expected mean or cls")


def _most_tokens(folder: Path) -> int:
    path = folder / "sentence_bert_config.json"
    settings = _json(path)
    if settings.get("do_lower_case"):
        raise BundleError(f"{path} asks for do_lower_case, which is not known here; take another encoder")
    most = settings.get("max_seq_length")
    if type(most) is not int or not 3 <= most <= _MOST_TOKENS:
        raise BundleError(f"{path} has max_seq_length {quoted(most)}, expected 3 to {_MOST_TOKENS}")
    return most


def _json(path: Path) -> dict[str, object]:
    document = _document(path)
    if not isinstance(document, dict):
        raise BundleError(f"{path} is no JSON object; get the model again")
    return document


def _document(path: Path) -> object:
    if not path.is_file():
        raise BundleError(f"{path} is not there, or no plain file; get the model again")
    return read_json(path, str(path), _MOST_JSON, "get the model again")
