"""Where `edgesdk` begins: an interruption while commands are still being imported is one word too.

It imports nothing of its own, so that next to nothing comes before.
"""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line of the process and exits."""
    try:
        from edgesdk.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(1)
