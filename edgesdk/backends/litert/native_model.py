"""A LiteRT file opened through LiteRT's C functions, which let other threads run.

The Python wrapper of LiteRT 2.3 holds the interpreter's lock while it opens a file and while it runs it, so
nothing else of the process moves: no timer, no window, no event loop. ctypes releases that lock in a call.
Whatever comes in between is kept from freeing what runs: `close` waits for the run, and runs after it are
refused. In a forked child nothing is freed: LiteRT's threads, which that would wait for, are not there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from edgesdk.backends.litert.host_memory import HostBuffer, Layout, c_library
from edgesdk.backends.litert.keep_signatures import keep_signatures
from edgesdk.backends.native_log import caught_native_log
from edgesdk.errors import DeviceError

CPU = 1
_BOOL, _INT = 1, 2
_REGISTER_ACCELERATORS, _LEAST_SEVERITY = 24, 25
_SILENT = 4

NATIVE_LINES = ("INFO:", "WARNING:", "ERROR:", "VERBOSE:")
"""How the lines begin that LiteRT prints."""


class _Any(ctypes.Structure):
    """LiteRtAny, whose value is a union; integers and booleans are all that is set here."""

    _fields_ = (("type", ctypes.c_int), ("value", ctypes.c_int64))


class _EnvironmentOption(ctypes.Structure):
    """LiteRtEnvOption."""

    _fields_ = (("tag", ctypes.c_int), ("value", _Any))


class Arguments:
    """Inputs and outputs of a run, in order, as the C functions take them."""

    def __init__(self, inputs: Sequence[HostBuffer], outputs: Sequence[HostBuffer]) -> None:
        """Refers to buffers, which stay as long as this."""
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.native = tuple(
            part
            for buffers in (self.inputs, self.outputs)
            for part in (
                ctypes.c_size_t(len(buffers)),
                (ctypes.c_void_p * len(buffers))(*[buffer.address for buffer in buffers]),
            )
        )


class NativeModel:
    """A compiled model with its signatures."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        weight_cache: Path | None,
        profiled: bool = False,
        signatures: Collection[str] | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        """Opens a file on the CPU.

        Args:
            path: the LiteRT file.
            threads: CPU threads.
            weight_cache: where packed weights are kept; None to pack anew.
            profiled: have LiteRT time its operators.
            signatures: names of those to open; None for all.
            file: the LiteRT file where it is open, for some of its signatures.

        Raises:
            DeviceError: LiteRT refused something.
        """
        self._library = c_library()
        self._running = threading.Lock()
        handles: list[tuple[str, ctypes.c_void_p]] = []
        # LiteRT reads it as long as the model is there, so it is held by what destroys the model.
        mapped = None if signatures is None else keep_signatures(path, signatures, file)
        try:
            with caught_native_log(known=NATIVE_LINES):
                self.handle = _open(self._library, handles, path, mapped, threads, weight_cache, profiled)
                self._signatures = _signatures(self._library, dict(handles)["Model"])
        except BaseException:
            _destroy(self._library, handles, self._running, os.getpid())
            raise
        self._handles = handles
        self._run = self._library.LiteRtRunCompiledModel
        self._close = weakref.finalize(
            self, _destroy, self._library, handles, self._running, os.getpid(), mapped
        )

    @property
    def fully_accelerated(self) -> bool:
        """Whether every operation runs on the delegate."""
        found = ctypes.c_bool()
        with self._running:
            self._expect_open()
            status = self._library.LiteRtCompiledModelIsFullyAccelerated(self.handle, ctypes.byref(found))
        return not status and found.value

    def index(self, signature: str) -> int:
        """Index of a signature; -1 if there is none of that name."""
        names = [name for name, _, _ in self._signatures]
        return names.index(signature) if signature in names else -1

    def names(self, index: int) -> tuple[list[str], list[str]]:
        """Names of a signature's inputs and outputs, in order."""
        _, inputs, outputs = self._signatures[index]
        return inputs, outputs

    def input_shape(self, index: int, place: int) -> tuple[int, ...]:
        """Shape of an input, as the library describes it; () where it does not."""
        layout = Layout()
        with self._running:
            self._expect_open()
            status = self._library.LiteRtGetCompiledModelInputTensorLayout(
                self.handle, ctypes.c_size_t(index), ctypes.c_size_t(place), ctypes.byref(layout)
            )
        return () if status else layout.shape

    def resize(self, index: int, shapes: Iterable[tuple[int, ...]]) -> None:
        """Gives the inputs of a signature other shapes.

        Raises:
            RuntimeError: LiteRT refused.
        """
        with self._running:
            self._expect_open()
            for place, shape in enumerate(shapes):
                # What the file states as variable is variable; the strict way wants it in other words.
                status = self._library.LiteRtCompiledModelResizeInputTensorNonStrict(
                    self.handle,
                    ctypes.c_size_t(index),
                    ctypes.c_size_t(place),
                    (ctypes.c_int * len(shape))(*shape),
                    ctypes.c_size_t(len(shape)),
                )
                if status:
                    raise RuntimeError(f"input {place} cannot have the shape {shape} (status {status})")

    def run(self, index: int, arguments: Arguments) -> None:
        """Runs a signature.

        Raises:
            RuntimeError: LiteRT failed.
            DeviceError: it was closed.
        """
        with self._running:
            if not self._handles:
                self._expect_open()
            status = self._run(self.handle, ctypes.c_size_t(index), *arguments.native)
        if status:
            raise RuntimeError(f"status {status}")

    def close(self) -> None:
        """Releases the model, once the run that is under way is over."""
        self._close()

    def _expect_open(self) -> None:
        if not self._handles:
            raise DeviceError("the LiteRT file was closed; load it again")


def _open(
    library: ctypes.CDLL,
    handles: list[tuple[str, ctypes.c_void_p]],
    path: Path,
    mapped: mmap.mmap | None,
    threads: int,
    weight_cache: Path | None,
    profiled: bool,
) -> ctypes.c_void_p:
    """Opens a file, or what is mapped of it; what must be destroyed, last first, is added to `handles`."""

    what = f"{path.name} with its profiler" if profiled else path.name

    def make(kind: str, create: str, *arguments: object) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        status = getattr(library, create)(*arguments, ctypes.byref(handle))
        if status or not handle:
            raise DeviceError(f"LiteRT cannot load {what}: {create} gave status {status}")
        handles.append((kind, handle))
        return handle

    # Accelerators of other devices would be looked for, and what is not found reported.
    wanted = (_EnvironmentOption * 2)(
        _EnvironmentOption(_REGISTER_ACCELERATORS, _Any(_BOOL, 0)),
        _EnvironmentOption(_LEAST_SEVERITY, _Any(_INT, _SILENT)),
    )
    environment = make("Environment", "LiteRtCreateEnvironment", ctypes.c_int(len(wanted)), wanted)
    if mapped is None:
        model = make("Model", "LiteRtCreateModelFromFile", environment, os.fsencode(path))
    else:
        first = ctypes.c_char.from_buffer(mapped)
        address, size = ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapped))
        model = make("Model", "LiteRtCreateModelFromBuffer", environment, address, size)
    options = make("Options", "LiteRtCreateOptions")
    status = library.LiteRtSetOptionsHardwareAccelerators(options, ctypes.c_int(CPU))
    if status:
        raise DeviceError(f"LiteRT refused to run {path.name} on the CPU (status {status})")
    xnnpack = f"num_threads = {threads}\n"
    if weight_cache is not None and "'" not in str(weight_cache):
        # TOML's literal string knows no escapes, so that a path of Windows stays what it is.
        xnnpack += f"weight_cache_file_path = '{weight_cache}'\n"
    _add_option(library, options, b"xnnpack", xnnpack)
    if profiled:
        _add_option(library, options, b"runtime_options_string", "enable_profiling = true\n")
    return make("CompiledModel", "LiteRtCreateCompiledModel", environment, model, options)


_NEVER_FREED: list[ctypes.Array[ctypes.c_char]] = []
"""Texts of options: LiteRT keeps their address as long as the model lives, and they are a few bytes."""

_KEEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)


def _add_option(library: ctypes.CDLL, options: ctypes.c_void_p, name: bytes, text: str) -> None:
    payload = ctypes.create_string_buffer(text.encode())
    _NEVER_FREED.append(payload)
    option = ctypes.c_void_p()
    status = library.LiteRtCreateOpaqueOptions(name, payload, _KEEP, ctypes.byref(option))
    if status or library.LiteRtAddOpaqueOptions(options, option):
        raise DeviceError(f"LiteRT refused its option {name.decode()}")


def _signatures(library: ctypes.CDLL, model: ctypes.c_void_p) -> list[tuple[str, list[str], list[str]]]:
    """Name, inputs and outputs of every signature of a model."""
    found = []
    for index in range(_size(library.LiteRtGetNumModelSignatures, model)):
        signature = ctypes.c_void_p()
        _must(library.LiteRtGetModelSignature(model, ctypes.c_size_t(index), ctypes.byref(signature)))
        key = _text(library.LiteRtGetSignatureKey, signature)
        inputs = _size(library.LiteRtGetNumSignatureInputs, signature)
        outputs = _size(library.LiteRtGetNumSignatureOutputs, signature)
        found.append(
            (
                key,
                [_text(library.LiteRtGetSignatureInputName, signature, i) for i in range(inputs)],
                [_text(library.LiteRtGetSignatureOutputName, signature, i) for i in range(outputs)],
            )
        )
    return found


def _size(function: ctypes._FuncPointer, of: ctypes.c_void_p) -> int:
    count = ctypes.c_size_t()
    _must(function(of, ctypes.byref(count)))
    return count.value


def _text(function: ctypes._FuncPointer, of: ctypes.c_void_p, *indices: int) -> str:
    text = ctypes.c_char_p()
    _must(function(of, *map(ctypes.c_size_t, indices), ctypes.byref(text)))
    return (text.value or b"").decode("utf-8", "replace")


def _must(status: int) -> None:
    if status:
        raise DeviceError(f"LiteRT cannot tell the signatures of the file (status {status})")


def _destroy(
    library: ctypes.CDLL,
    handles: list[tuple[str, ctypes.c_void_p]],
    running: threading.Lock,
    process: int,
    mapped: mmap.mmap | None = None,
) -> None:
    """Destroys what was opened; `mapped` is memory that must be there until then."""
    if os.getpid() != process:
        handles.clear()
        return
    with running:
        mine, handles[:] = list(handles), []
        if mine:
            with caught_native_log(known=NATIVE_LINES):
                for kind, handle in reversed(mine):
                    getattr(library, f"LiteRtDestroy{kind}")(handle)
