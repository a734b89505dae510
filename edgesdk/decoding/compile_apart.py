"""Compiles a grammar in a process of its own first, for servers that take grammars from strangers.

What ends that process (a stack overflow, too much memory or time) is a refusal here, and nothing else
stops. Switched on by `LoadOptions.isolate_grammars` or EDGESDK_ISOLATE_GRAMMARS=1; it costs a start of
Python for each new grammar. The process reads a grammar in llguidance's own form from standard input and
writes what is wrong with it.
"""

from __future__ import annotations

import os

from edgesdk.devices.python_process import python_command
from edgesdk.errors import DeviceError, UnsupportedOption

SWITCH = "EDGESDK_ISOLATE_GRAMMARS"

_MOST_S = 20
_MOST_BYTES = 2 << 30


def check_apart(source: str, what: str, isolated: bool | None = None) -> None:
    """Compiles a grammar elsewhere, where that was asked for.

    Args:
        source: in llguidance's form.
        what: what it is, as the start of a message.
        isolated: whether it was; None for what the environment says.

    Raises:
        UnsupportedOption: it is not valid, or compiling it ended or outlived the process.
    """
    if isolated is None:
        isolated = os.environ.get(SWITCH, "") in ("1", "true", "yes")
    if not isolated:
        return
    import subprocess  # only here: loading a model needs none

    try:
        done = subprocess.run(
            python_command(("-c", _CHILD, str(_MOST_BYTES), str(_MOST_S))),
            input=source.encode(),
            capture_output=True,
            timeout=2 * _MOST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnsupportedOption(
            f"{what} takes more than {2 * _MOST_S} s to compile; make it simpler"
        ) from None
    except (OSError, DeviceError) as error:
        raise UnsupportedOption(f"{what} cannot be compiled apart ({error}); switch {SWITCH} off") from error
    if done.returncode != 0:
        raise UnsupportedOption(
            f"{what} ended the process that compiled it (code {done.returncode}); make it simpler"
        )
    problem = " ".join(done.stdout.decode("utf-8", "replace").split())[:300]
    if problem:
        raise UnsupportedOption(f"{what} cannot be used: {problem}")


_CHILD = """
import sys
source = sys.stdin.buffer.read().decode()
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
from llguidance import LLMatcher
print((LLMatcher.validate_grammar(source, None) or "")[:2000])
"""
"""No import of edgesdk: the child starts in the time that Python and llguidance take."""
