"""Where `edgesdk` begins: an interruption while commands are still being imported is one word too.

It imports nothing of its own, so that next to nothing comes before.
"""

import os
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line of the process and exits."""
    # OpenBLAS reads it when NumPy is imported. Between two products its threads would spin for 2^28 cycles,
    # which other threads and programs could have; asleep after 2^4, they wake in microseconds.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    try:
        from edgesdk.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 1
    except SystemExit as end:
        if not end.code or not isinstance(end.code, int):
            raise
        code = end.code
    if "jaxlib" in sys.modules:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """Ends the process without taking the interpreter down; everything of ours has unwound by now.

    A call of JAX that Ctrl-C or an error ends leaves what it dispatched to threads of JAX's own, and the
    interpreter's end frees what they use. (One training of ours ended by SIGSEGV behind "interrupted", on a
    busy machine, with JAX 0.10; it could not be made to happen again.)
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads, or it is closed
            stream.flush()
    os._exit(code)
