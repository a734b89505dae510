"""One message of the conversation, with what can be done about it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QTextCursor, QWheelEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QTextEdit, QToolButton, QVBoxLayout

WHO = {"user": "You", "assistant": "Model"}
ACTION = {"user": "Edit", "assistant": "Again"}


class TextView(QTextEdit):
    """Text as high as it is, shown as it is, for a model may write anything.

    A label would do for short texts. But it lays all of a text out for every token that is added, and once
    more for each width that a layout asks about: 50 ms for a page. A document lays out what is new.
    """

    def __init__(self) -> None:
        """Begins empty."""
        super().__init__()
        self.setReadOnly(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setUndoRedoEnabled(False)
        for set_policy in (self.setVerticalScrollBarPolicy, self.setHorizontalScrollBarPolicy):
            set_policy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.viewport().setAutoFillBackground(False)
        self.document().setDocumentMargin(0)
        self.document().documentLayout().documentSizeChanged.connect(lambda size: self._fit(size.height()))
        self.setFixedHeight(self.fontMetrics().lineSpacing())

    def add(self, text: str) -> None:
        """Adds text at the end."""
        cursor = self.textCursor()
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(text)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Left to the conversation."""
        event.ignore()

    def _fit(self, height: float) -> None:
        self.setFixedHeight(max(round(height), self.fontMetrics().lineSpacing()) + 1)


class TurnView(QFrame):
    """Shows a turn."""

    acted = Signal(int)
    """Edit this question, or answer again: the number of the turn."""
    moved = Signal(int, int)
    """Show the branch before (-1) or after (1) that of the turn."""

    def __init__(self, number: int, role: str, branch: tuple[int, int]) -> None:
        """Makes an empty one.

        Args:
            number: of the turn.
            role: `user` or `assistant`.
            branch: which of how many it begins.
        """
        super().__init__()
        self.setObjectName(role)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.text = TextView()
        self.text.setAccessibleName(f"{WHO[role]}, turn {number}")
        self.note = QLabel(objectName="note", wordWrap=True, visible=False)
        self.action = QToolButton(text=ACTION[role], accessibleName=f"{ACTION[role]}, turn {number}")
        self.action.clicked.connect(lambda: self.acted.emit(number))
        row = QHBoxLayout()
        row.addWidget(QLabel(WHO[role], objectName="who"))
        row.addStretch()
        place, count = branch
        self.moves: list[QToolButton] = []
        self._possible = (place > 0, place + 1 < count)
        if count > 1:
            for step, arrow, name in ((-1, "<", "before"), (1, ">", "after")):
                button = QToolButton(text=arrow, accessibleName=f"the branch {name}, turn {number}")
                button.clicked.connect(lambda _=False, step=step: self.moved.emit(number, step))
                self.moves.append(button)
            row.addWidget(self.moves[0])
            row.addWidget(QLabel(f"{place + 1} of {count}", objectName="note"))
            row.addWidget(self.moves[1])
        row.addWidget(self.action)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 8, 12, 10)
        column.addLayout(row)
        column.addWidget(self.text)
        column.addWidget(self.note)
        self.allow(True)

    def allow(self, allowed: bool) -> None:
        """Whether its buttons may be used; branches at the ends have no neighbours."""
        self.action.setEnabled(allowed)
        for button, possible in zip(self.moves, self._possible, strict=False):
            button.setEnabled(allowed and possible)

    def show_note(self, note: str) -> None:
        """Says why the answer is not whole; empty for nothing."""
        self.note.setText(note)
        self.note.setVisible(bool(note))
