"""A chat window with a model on this machine.

    python examples/desktop_chat [MODEL] [--data FOLDER]

MODEL is a name on the shelf or a bundle's folder; without it the one that was used last, or the first on the
shelf. Needs PySide6 (pip install 'edgesdk[desktop]'). docs/embedding.md says how it is put together, and
package.py makes a folder of it that runs without Python.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Opens the window, until it is closed."""
    parser = argparse.ArgumentParser(description="A chat window with a model on this machine.")
    parser.add_argument("model", nargs="?", default="", help="name on the shelf, or a bundle's folder")
    parser.add_argument("--data", type=Path, help="folder for settings and the conversation")
    parser.add_argument("--ask", default="", help="ask this when the model is ready")
    parser.add_argument("--quit", action="store_true", help="close the window after the answer, for tests")
    options = parser.parse_args()

    try:
        from PySide6.QtCore import QStandardPaths
        from PySide6.QtWidgets import QApplication
    except ImportError as error:
        sys.exit(f"Qt cannot be loaded ({error}); install it with: pip install 'edgesdk[desktop]'")
    from window import Window

    app = QApplication(sys.argv[:1])
    app.setApplicationName("edgesdk chat")
    place = QStandardPaths.StandardLocation.AppDataLocation
    window = Window(options.data or Path(QStandardPaths.writableLocation(place)), options.model)
    window.show()
    if options.ask:
        window.ask_when_ready(options.ask, then_quit=options.quit)
    return app.exec()


if __name__ == "__main__":
    import edgesdk

    edgesdk.freeze_support()  # before anything else: a packaged program is also started for edgesdk's parts
    sys.exit(main())
