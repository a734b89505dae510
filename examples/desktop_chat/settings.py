"""What the user can choose, kept between starts, and the dialog for it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from PySide6.QtCore import QSettings
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QPlainTextEdit,
    QSpinBox,
    QWidget,
)


@dataclass(frozen=True)
class Settings:
    """How to load and how to answer.

    Attributes:
        model: name on the shelf, or a folder; empty for the first on the shelf.
        system: what the model is told before every conversation; empty for nothing.
        temperature: 0 for the likeliest words.
        max_tokens: most tokens of an answer.
        threads: CPU threads; 0 for every core.
    """

    model: str = ""
    system: str = ""
    temperature: float = 0.0
    max_tokens: int = 400
    threads: int = 0

    @classmethod
    def load(cls, store: QSettings) -> Settings:
        """What is kept; the default in place of a value that has another type."""
        found = cls()
        for each in fields(cls):
            default = getattr(found, each.name)
            try:
                value = type(default)(store.value(each.name, default))
            except (TypeError, ValueError):
                continue
            found = replace(found, **{each.name: value})
        return found

    def save(self, store: QSettings) -> None:
        """Keeps them."""
        for each in fields(self):
            store.setValue(each.name, getattr(self, each.name))


class SettingsDialog(QDialog):
    """Asks for what `Settings` holds, but for the model, which the window itself offers."""

    def __init__(self, settings: Settings, parent: QWidget | None = None) -> None:
        """Shows these settings."""
        super().__init__(parent)
        self.setWindowTitle("Settings")
        self._settings = settings
        self._system = QPlainTextEdit(settings.system)
        self._system.setFixedHeight(70)
        self._temperature = QDoubleSpinBox(minimum=0, maximum=2, singleStep=0.1, value=settings.temperature)
        self._max_tokens = QSpinBox(minimum=1, maximum=100_000, value=settings.max_tokens)
        self._threads = QSpinBox(minimum=0, maximum=256, value=settings.threads)
        self._threads.setSpecialValueText("every core")
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form = QFormLayout(self)
        form.addRow("What the model is told &first", self._system)
        form.addRow("&Temperature", self._temperature)
        form.addRow("&Most tokens of an answer", self._max_tokens)
        form.addRow("&Threads", self._threads)
        form.addRow(buttons)

    def chosen(self) -> Settings:
        """The settings as they stand in the dialog."""
        return replace(
            self._settings,
            system=self._system.toPlainText().strip(),
            temperature=round(self._temperature.value(), 2),
            max_tokens=self._max_tokens.value(),
            threads=self._threads.value(),
        )
