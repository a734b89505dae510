"""Runs one size of a LiteRT file and tells how long each operator took.

LiteRT 2.3 has a profiler that its Python wrapper does not reach: it is switched on by an option of the
runtime and read through the C API, here with ctypes. XNNPACK, which runs nearly all of a step, reports each
of its own operators in order, in whole microseconds, rounded down, without a start; what it does not hand to
the profiler (waiting threads, rounding) is found only by comparing with the time of the whole run.
It knows neither layers nor what an operator reads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.backends.litert.graph_operations import SignatureGraph
from edgesdk.backends.litert.host_memory import Bindable, HostBuffer, c_library, supported
from edgesdk.backends.litert.native_model import NATIVE_LINES, Arguments, NativeModel
from edgesdk.backends.native_log import caught_native_log, hush_the_end
from edgesdk.errors import DeviceError

_PLAIN, _OPERATOR, _DELEGATE_OPERATORS = 1, 1 << 1, (1 << 2, 1 << 3)
_WHOLE = "Invoke"
_TYPES = {1 << bit for bit in range(9)}
_SOURCES = range(3)
_MOST_EVENTS = 1 << 20


class _Event(ctypes.Structure):
    """ProfiledEventData; the tag stays an address until the layout has proved right."""

    _fields_ = (
        ("tag", ctypes.c_void_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", ctypes.c_int64 * 3),
        ("memory_after", ctypes.c_int64 * 3),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


@dataclass(frozen=True)
class OperatorEvent:
    """One operator in one run.

    Attributes:
        tag: what LiteRT or XNNPACK call it.
        node: its index in the graph; None for operators of XNNPACK, which count their own.
        elapsed_us: how long it took.
    """

    tag: str
    node: int | None
    elapsed_us: int


class OperatorProfiler:
    """One size of a LiteRT file, loaded with the profiler on."""

    def __init__(
        self,
        path: Path,
        graph: SignatureGraph,
        arrays: Mapping[str, Bindable],
        *,
        threads: int,
        weight_cache: Path | None,
    ) -> None:
        """Loads a file.

        Args:
            path: the file.
            graph: the signature to run.
            arrays: what its inputs and outputs are bound to, by name; aligned.
            threads: CPU threads.
            weight_cache: packed weights that exist already; None to pack anew.

        Raises:
            DeviceError: LiteRT is not of a version whose profiler is known, or refused something.
        """
        reason = supported()
        if reason is not None:
            raise DeviceError(f"LiteRT's profiler cannot be used: {reason}")
        self._library = c_library()
        self._index = graph.index
        try:
            inputs = [HostBuffer(arrays[name]) for name in graph.inputs]
            outputs = [HostBuffer(arrays[name]) for name in graph.outputs]
        except (KeyError, RuntimeError) as error:
            raise DeviceError(f"{path.name} has inputs that cannot be bound: {error}") from error
        self._arguments = Arguments(inputs, outputs)
        self._model = NativeModel(path, threads=threads, weight_cache=weight_cache, profiled=True)
        try:
            self._model.resize(self._index, [buffer.shape for buffer in inputs])
        except RuntimeError as error:
            raise DeviceError(f"LiteRT could not resize an input: {error}") from error
        self._profiler = ctypes.c_void_p()
        self._check(
            self._library.LiteRtCompiledModelGetProfiler(self._model.handle, ctypes.byref(self._profiler)),
            "open a profiler",
        )
        with caught_native_log(known=NATIVE_LINES):
            self._run()  # the first run sets up, and says so
        hush_the_end()

    def profile(self) -> tuple[float, list[OperatorEvent]]:
        """Runs once.

        Returns:
            Microseconds of the graph as a whole, and its operators in order.

        Raises:
            DeviceError: LiteRT failed, or its profile has another layout than known.
        """
        library = self._library
        self._check(library.LiteRtResetProfiler(self._profiler), "reset its profiler")
        self._check(library.LiteRtStartProfiler(self._profiler), "start its profiler")
        self._run()
        self._check(library.LiteRtStopProfiler(self._profiler), "stop its profiler")
        return self._events()

    def close(self) -> None:
        """Releases the model, not the arrays."""
        self._model.close()

    def _run(self) -> None:
        try:
            self._model.run(self._index, self._arguments)
        except RuntimeError as error:
            raise DeviceError(f"LiteRT could not run the step: {error}") from error

    def _events(self) -> tuple[float, list[OperatorEvent]]:
        count = ctypes.c_int()
        self._check(
            self._library.LiteRtGetNumProfilerEvents(self._profiler, ctypes.byref(count)), "count its events"
        )
        if not 0 < count.value <= _MOST_EVENTS:
            raise DeviceError(f"LiteRT recorded {count.value} events of a step, expected at least one")
        # Twice the room, should a version's structure be larger than ours.
        events = (_Event * (2 * count.value))()
        self._check(self._library.LiteRtGetProfilerEvents(self._profiler, count, events), "read its events")
        kept = events[: count.value]
        if any(e.type not in _TYPES or e.source not in _SOURCES or not e.tag for e in kept):
            raise DeviceError("LiteRT's profile has another layout than that of version 2.3")
        found, whole_us = [], 0
        for event in kept:
            tag = ctypes.string_at(event.tag).decode("utf-8", "replace")
            if event.type == _OPERATOR or event.type in _DELEGATE_OPERATORS:
                node = event.metadata[0] if event.type == _OPERATOR else None
                found.append(OperatorEvent(tag, node, event.elapsed_us))
            elif tag == _WHOLE and event.type == _PLAIN:
                whole_us += event.elapsed_us
        if not whole_us:
            raise DeviceError("LiteRT's profile does not tell how long the graph took")
        return float(whole_us), found

    def _check(self, status: int, what: str) -> None:
        if status:
            raise DeviceError(f"LiteRT could not {what} (status {status})")
