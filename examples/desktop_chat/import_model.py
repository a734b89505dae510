"""A model from a file: a bundle is copied onto the shelf, a checkpoint is converted.

Both are commands of edgesdk in a process of their own. A conversion is Python and would hold the window up in
a thread; a process can also be ended at any moment, and the shelf is whole then.
"""

from __future__ import annotations

import json
from pathlib import Path

from PySide6.QtCore import QObject, QProcess, Signal
from PySide6.QtWidgets import QProgressDialog, QWidget

import edgesdk

KILL_AFTER_MS = 3000


def import_command(source: str) -> list[str]:
    """The command that brings a file or folder onto the shelf, telling its progress in JSON lines."""
    path = Path(source)
    if path.suffix.lower() == ".zip" or (path / "manifest.json").is_file():
        return edgesdk.command_line("add", source, "--json")
    return edgesdk.command_line("pull", source, "--json")


class ImportModel(QObject):
    """An import that runs; `start` it once."""

    progress = Signal(int, str)
    """Share in percent, and a line about it."""
    finished = Signal(str)
    """The folder of the model."""
    failed = Signal(str)
    """Why there is none: one line; empty when it was cancelled."""

    def __init__(self, source: str, parent: QObject | None = None) -> None:
        """Prepares the import of a `.zip` or folder of a bundle, a `.gguf` file or a Hugging Face folder."""
        super().__init__(parent)
        self._command = import_command(source)
        self._process = QProcess(self)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.finished.connect(self._end)
        self._process.errorOccurred.connect(self._not_started)
        self._bundle = ""
        self._cancelled = False

    def start(self) -> None:
        """Starts; returns at once."""
        self._process.start(self._command[0], self._command[1:])

    def cancel(self) -> None:
        """Ends it; `failed` follows."""
        self._cancelled = True
        self._process.terminate()
        if not self._process.waitForFinished(1):
            self.startTimer(KILL_AFTER_MS)

    def timerEvent(self, event: object) -> None:  # noqa: N802 - Qt's name
        """It did not end when it was asked to."""
        self._process.kill()

    def _read(self) -> None:
        while self._process.canReadLine():
            try:
                event = json.loads(bytes(self._process.readLine().data()))
            except ValueError:
                continue
            if event.get("event") == "done":
                self._bundle = str(event["bundle"])
            elif event.get("stage") != "note":
                self.progress.emit(round(100 * event["share"]), str(event["what"]))

    def _end(self, code: int) -> None:
        self._read()
        if self._cancelled:
            self.failed.emit("")
        elif code == 0 and self._bundle:
            self.finished.emit(self._bundle)
        else:
            said = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace").splitlines()
            self.failed.emit((said or [f"the import ended with {code}"])[-1].removeprefix("error: "))

    def _not_started(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.failed.emit(f"the import could not be started: {self._process.errorString()}")


class ImportDialog(QProgressDialog):
    """Shows an import, and lets the user cancel it."""

    imported = Signal(str)
    """The name of the model on the shelf."""
    not_imported = Signal(str)
    """Why there is none; empty when it was cancelled."""

    def __init__(self, source: str, parent: QWidget | None = None) -> None:
        """Prepares the import; see `ImportModel`."""
        super().__init__(source, "Cancel", 0, 100, parent)
        self.setWindowTitle("Importing a model")
        self.setMinimumDuration(0)
        self.setAutoClose(False)
        self.setAutoReset(False)
        self._job = ImportModel(source, self)
        self._job.progress.connect(self._show)
        self._job.finished.connect(lambda folder: self._leave(self.imported, Path(folder).name))
        self._job.failed.connect(lambda line: self._leave(self.not_imported, line))
        self.canceled.connect(self._job.cancel)

    def start(self) -> None:
        """Starts; returns at once."""
        self.setValue(0)
        self._job.start()

    def end(self) -> None:
        """Ends the import, as the button does."""
        self._job.cancel()

    def _show(self, percent: int, what: str) -> None:
        if not self.wasCanceled():
            self.setLabelText(what)
            self.setValue(percent)

    def _leave(self, signal: Signal, said: str) -> None:
        self.canceled.disconnect()
        self.close()
        self.deleteLater()
        signal.emit(said)
