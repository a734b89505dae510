"""How late the window of examples/desktop_chat is while its model loads, reads a prompt and answers.

    python benchmarks/desktop_responsiveness.py BUNDLE [BUNDLE ...] [--threads N] [--repeat 3] [--json]

The window itself is opened, where there is no display by Qt's platform `offscreen`, and a question of about
1,500 tokens is sent through it. A timer of Qt's is to tick every 15 ms in the window's thread; a gap is what
lies between two ticks less these 15 ms, so it counts the drawing of the answer as well. Phases: loading,
from Send to the first piece of text, and from there to the end. Of several runs the one with the smallest
worst gap counts, because other programs can only make it longer; all worst gaps are shown. With --import FILE
a phase more: the window while a model is brought onto a shelf of its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import click
from responsiveness import PERIOD_S, PROMPT_TOKENS, gaps

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "desktop_chat"))
if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from window import Window

ANSWER_TOKENS = 100
MOST_S = 120
TEXT = "The ferry to the island leaves at nine, and the baker opens an hour before that.\n"
TEXT_TOKENS = 19
QUESTION = "Tell me a long story about this island and its ferry."


class Watch:
    """Ticks, and when phases began."""

    def __init__(self, app: QApplication) -> None:
        self._app = app
        self.moments: list[float] = []
        self._timer = QTimer(interval=int(PERIOD_S * 1e3))
        self._timer.timeout.connect(lambda: self.moments.append(time.perf_counter()))
        self._timer.start()

    def until(self, reached: Callable[[], bool]) -> float:
        """Lets Qt run as it does by itself; when it was so."""
        end = time.perf_counter() + MOST_S
        check = QTimer(interval=5)
        check.timeout.connect(lambda: self._app.exit() if reached() or time.perf_counter() > end else None)
        check.start()
        self._app.exec()
        if not reached():
            raise click.ClickException(f"nothing came of it within {MOST_S} s")
        return time.perf_counter()


def run(
    app: QApplication, bundle: str, threads: int, source: str | None
) -> tuple[dict[str, dict[str, float]], int, str]:
    """Figures of every phase, tokens of the prompt, and the receipt's last line."""
    watch = Watch(app)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGESDK_MODELS"] = str(Path(folder) / "shelf")
        data = Path(folder) / "data"
        data.mkdir()
        (data / "settings.ini").write_text(f"[General]\nthreads={threads}\nmax_tokens={ANSWER_TOKENS}\n")
        marks = {"load": time.perf_counter()}
        window = Window(data, bundle)
        window.show()
        marks["prompt"] = watch.until(lambda: window.loaded)
        window.entry.setPlainText(TEXT * (PROMPT_TOKENS // TEXT_TOKENS) + QUESTION)
        window.ask()
        answer = window.answering
        said = window.tree[answer]
        marks["decode"] = watch.until(lambda: bool(window.figures or window._unseen or said.text))
        marks["end"] = watch.until(lambda: not window.answering)
        receipt = window.receipt.splitlines()[-1]
        tokens = int(window.figures.split()[0])
        if source is not None:
            marks["import"] = time.perf_counter()
            window.loaded = False
            window.start_import(source)
            marks["imported"] = watch.until(lambda: window.importing is None)
        window.close()
    names = list(marks)
    phases = [(a, b) for a, b in pairwise(names) if a != "end"]
    return {a: gaps(watch.moments, marks[a], marks[b]) for a, b in phases}, tokens, receipt


@click.command(help=__doc__)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--threads", default=0, help="CPU threads of the model; default: every core.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--import", "source", type=click.Path(exists=True), help="A model to import, too.")
@click.option("--json", "as_json", is_flag=True)
def main(bundles: tuple[Path, ...], threads: int, repeat: int, source: str | None, as_json: bool) -> None:
    """Prints a row for each bundle and phase."""
    app = QApplication(sys.argv[:1])
    app.setQuitOnLastWindowClosed(False)
    rows = []
    for bundle in bundles:
        found = [run(app, str(bundle.resolve()), threads, source) for _ in range(repeat)]
        _, tokens, receipt = found[0]
        click.echo(f"{receipt}; {tokens} tokens of prompt; platform {app.platformName()}", err=True)
        for phase in found[0][0]:
            each = [figures[phase] for figures, _, _ in found]
            best = min(each, key=lambda row: row["worst_ms"])
            row = {
                "bundle": bundle.name,
                "phase": phase,
                **best,
                "all_worst_ms": [e["worst_ms"] for e in each],
            }
            rows.append(row)
            if not as_json:
                click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    if as_json:
        click.echo(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
