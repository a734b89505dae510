"""One message of the conversation, with what can be done about it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout

WHO = {"user": "You", "assistant": "Model"}
ACTION = {"user": "Edit", "assistant": "Again"}


class TurnView(QFrame):
    """Shows a turn; its text is shown as it is, for a model may write anything."""

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
        self.text = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.MinimumExpanding)
        self.note = QLabel(objectName="note", wordWrap=True, visible=False)
        self.action = QToolButton(text=ACTION[role], accessibleName=f"{ACTION[role]}, turn {number}")
        self.action.clicked.connect(lambda: self.acted.emit(number))
        row = QHBoxLayout()
        row.addWidget(QLabel(WHO[role], objectName="who"))
        row.addStretch()
        place, count = branch
        self.moves = []
        if count > 1:
            for step, arrow, name in ((-1, "<", "before"), (1, ">", "after")):
                button = QToolButton(text=arrow, accessibleName=f"the branch {name}, turn {number}")
                button.setEnabled(0 <= place + step < count)
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

    def show_note(self, note: str) -> None:
        """Says why the answer is not whole; empty for nothing."""
        self.note.setText(note)
        self.note.setVisible(bool(note))
