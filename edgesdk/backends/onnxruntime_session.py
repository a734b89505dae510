"""Opens ONNX Runtime sessions and turns its failures into one line.

It knows no model: what the inputs mean is the business of the backends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.backends.onnxruntime_provider import Provider, add_provider
from edgesdk.backends.onnxruntime_telemetry import stop_telemetry
from edgesdk.errors import DeviceError, first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDER = "CPUExecutionProvider"
_LOG_ERRORS_ONLY = 3


def open_session(
    path: Path, threads: int, provider: Provider | None = None, *, profile: Path | None = None
) -> InferenceSession:
    """Opens a model.

    Args:
        path: the ONNX file.
        threads: CPU threads.
        provider: execution provider; None for the CPU's.
        profile: write a profile whose name starts so, until the session's `end_profiling`.

    Raises:
        DeviceError: onnxruntime is missing or refuses the file, or the provider cannot run it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"onnxruntime cannot be imported: {error}") from error
    stop_telemetry(onnxruntime)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    where = "" if provider is None else f" on {provider.name}"
    with onnxruntime_errors(f"cannot load {path.name}{where}"):
        # Left to itself the constructor tries again on the CPU when a provider fails, and so does `run`.
        if provider is None:
            return onnxruntime.InferenceSession(
                str(path), options, providers=[PROVIDER], enable_fallback=False
            )
        add_provider(options, provider)
        session = onnxruntime.InferenceSession(str(path), options, enable_fallback=False)
    if provider.name not in session.get_providers():
        raise DeviceError(f"onnxruntime opened {path.name} without {provider.name}")
    return session


@contextmanager
def onnxruntime_errors(what: str) -> Iterator[None]:
    """Turns exceptions of onnxruntime inside the block into `DeviceError`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
        RuntimeError,
        ValueError,
    )
    try:
        yield
    except kinds as error:
        raise DeviceError(f"onnxruntime {what}: {first_line(error)}") from error


def check_inputs(
    session: InferenceSession, path: Path, expected: Mapping[str, tuple[int | None, ...]]
) -> None:
    """Compares a model's inputs with what a backend is going to bind.

    Args:
        session: the opened model.
        path: its file, for the message.
        expected: shape by name; None for a dimension that may be any.

    Raises:
        DeviceError: an input is missing, unknown, or of another shape.
    """
    with onnxruntime_errors(f"cannot say what {path.name} takes"):  # names that are not UTF-8
        found = {value.name: tuple(value.shape) for value in session.get_inputs()}
    _compare("input", found, path, expected)


def check_outputs(session: InferenceSession, path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compares what a model gives with what a backend is going to bind, before memory is made for it.

    Args:
        session: the opened model.
        path: its file, for the message.
        expected: shape by name.

    Raises:
        DeviceError: an output is missing, unknown, or of another shape.
    """
    with onnxruntime_errors(f"cannot say what {path.name} gives"):
        found = {value.name: tuple(value.shape) for value in session.get_outputs()}
    _compare("output", found, path, expected)


def _compare(
    kind: str,
    found: Mapping[str, tuple[object, ...]],
    path: Path,
    expected: Mapping[str, tuple[int | None, ...]],
) -> None:
    if set(found) != set(expected):
        odd = sorted(set(found) ^ set(expected))[0]
        raise DeviceError(f"{path.name} does not have the {kind}s of its manifest: {odd!r} differs")
    for name, shape in expected.items():
        # What a file leaves open the runtime compares when it runs.
        fits = len(shape) == len(found[name]) and all(
            want is None or want == have or not isinstance(have, int)
            for want, have in zip(shape, found[name], strict=True)
        )
        if not fits:
            raise DeviceError(f"{path.name} has the {kind} {name!r} as {found[name]}, expected {shape}")
