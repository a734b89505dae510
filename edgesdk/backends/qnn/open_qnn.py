"""Opens step variants on a Hexagon processor: compiled while loading, or ahead of time.

Nothing may run elsewhere: a model of which the processor refuses one node is refused.
"""

from __future__ import annotations

from importlib.metadata import version

from edgesdk.backends.check_variant import checked
from edgesdk.backends.native_log import caught_native_log
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.backends.qnn.provider import NAME, PACKAGE, is_simulated, qnn_provider
from edgesdk.backends.qnn.step_backend import HexagonStepBackend
from edgesdk.bundle.step_shape import smallest_step
from edgesdk.errors import DeviceError

_SIMULATED = "Qualcomm's simulator on this CPU: right results, meaningless speed"
_COMPILED_NOW = "every size is compiled when it is first used; `edgesdk compile` does it ahead of time"


@checked
def open_qnn(request: OpenRequest) -> Opened:
    """Opens a step variant and compiles its smallest size.

    Raises:
        DeviceError: the processor does not take it as a whole, or its cells are int8.
        MissingExtra: the package is not installed.
    """
    require_float_cells(request.variant, "onnxruntime-qnn")
    return _open(request, (_COMPILED_NOW,))


@checked
def open_qnn_compiled(request: OpenRequest) -> Opened:
    """Opens a variant that was compiled ahead of time.

    Raises:
        DeviceError: it was compiled for another provider, or does not load.
        MissingExtra: the package is not installed.
    """
    require_float_cells(request.variant, "onnxruntime-qnn-compiled")
    made = request.variant.compatibility
    if made is None or made.provider != NAME:
        found = "an unknown provider" if made is None else made.provider
        raise DeviceError(f"variant {request.variant.name!r} was compiled for {found}, expected {NAME}")
    note = f"compiled ahead of time for {made.soc} by {made.compiler}; here is {PACKAGE} {version(PACKAGE)}"
    return _open(request, (note,))


def _open(request: OpenRequest, notes: tuple[str, ...]) -> Opened:
    provider = qnn_provider()
    backend = HexagonStepBackend(request.bundle, request.variant, threads=request.threads, provider=provider)
    with caught_native_log(stdout=is_simulated()):  # the simulator greets on standard output
        backend.buffers(smallest_step(backend.shapes))
    if is_simulated():
        notes = (_SIMULATED, *notes)
    return Opened(backend, provider.name, backend.accelerated_share(), notes=notes)
