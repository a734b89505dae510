"""The window: what is seen, and which of its parts tells which other. It never waits for the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chat_tree import ChatTree
from import_model import ImportDialog
from keep_chat import load_chat, save_chat
from model_thread import Ask, ModelThread
from PySide6.QtCore import QSettings, Qt, QTimer
from PySide6.QtGui import QAction, QCloseEvent, QKeySequence
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolBar,
    QVBoxLayout,
    QWidget,
)
from settings import Settings, SettingsDialog
from turn_view import TurnView

import edgesdk

SHOW_MS = 33
"""Between two looks at what the model has written: to lay text out for every token would be wasted."""

STYLE = """
QFrame#user { background: palette(alternate-base); border-radius: 8px; }
QLabel#who { font-weight: bold; }
QLabel#note { color: palette(dark); }
QTextEdit { background: transparent; }
"""


class Window(QMainWindow):
    """A conversation with a model."""

    def __init__(self, data: Path, model: str = "") -> None:
        """Opens the window and begins to load the model.

        Args:
            data: folder of settings and conversation; made if it is absent.
            model: name or folder; empty for the one that was used last.
        """
        super().__init__()
        data.mkdir(parents=True, exist_ok=True)
        self._chat_file = data / "chat.json"
        self._store = QSettings(str(data / "settings.ini"), QSettings.Format.IniFormat)
        self.settings = Settings.load(self._store)
        self.tree = load_chat(self._chat_file)
        self.views: dict[int, TurnView] = {}
        self.answering = 0
        self.loaded = False
        self.receipt = "no model is loaded"
        self.figures = ""
        self.importing: ImportDialog | None = None
        self._editing: int | None = None
        self._waiting: tuple[str, bool] | None = None
        self._unseen = ""
        self._build()
        self.thread_of_model = ModelThread()
        self._connect()
        self._timer = QTimer(self, interval=SHOW_MS, timeout=self._show_pieces)
        self._rebuild()
        self._choose_first(model)

    # What is seen

    def _build(self) -> None:
        self.setWindowTitle("edgesdk chat")
        self.setStyleSheet(STYLE)
        self.resize(820, 640)
        self.models = QComboBox(accessibleName="model")
        self.models.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        bar = QToolBar(movable=False)
        bar.addWidget(self.models)
        for text, slot, keys in (
            ("&Import…", self._choose_import, "Ctrl+O"),
            ("&Settings…", self._change_settings, "Ctrl+,"),
            ("&Receipt", self._show_receipt, "Ctrl+I"),
            ("&New chat", self.new_chat, "Ctrl+N"),
        ):
            action = QAction(text, self, triggered=slot)
            action.setShortcut(QKeySequence(keys))
            bar.addAction(action)
        self.addToolBar(bar)
        self._turns = QVBoxLayout()
        self._turns.addStretch()
        inside = QWidget()
        inside.setLayout(self._turns)
        self._scroll = QScrollArea(widgetResizable=True, widget=inside)
        self._scroll.verticalScrollBar().rangeChanged.connect(self._follow)
        self.entry = QPlainTextEdit(
            placeholderText="Ask something; Ctrl+Enter sends", accessibleName="question"
        )
        self.entry.setFixedHeight(80)
        self.send = QPushButton("Send", enabled=False, clicked=self.ask)
        self.send.setShortcut(QKeySequence("Ctrl+Return"))
        self.stop = QPushButton("Stop", enabled=False, clicked=lambda: self.thread_of_model.stop())
        self.stop.setShortcut(QKeySequence("Esc"))
        buttons = QVBoxLayout()
        buttons.addWidget(self.send)
        buttons.addWidget(self.stop)
        row = QHBoxLayout()
        row.addWidget(self.entry)
        row.addLayout(buttons)
        whole = QVBoxLayout()
        whole.addWidget(self._scroll)
        whole.addLayout(row)
        centre = QWidget()
        centre.setLayout(whole)
        self.setCentralWidget(centre)
        self.status = QLabel(wordWrap=False)
        self.statusBar().addWidget(self.status, 1)

    def _connect(self) -> None:
        thread = self.thread_of_model
        thread.loading.connect(self._loading)
        thread.ready.connect(self._ready)
        thread.failed.connect(self._failed)
        thread.piece.connect(self._piece)
        thread.ended.connect(self._ended)
        self.models.activated.connect(lambda _: self.load(self.models.currentText()))

    def _rebuild(self) -> None:
        """Shows the branch that the tree says."""
        for view in self.views.values():
            view.setParent(None)
            view.deleteLater()
        self.views = {}
        for number in self.tree.shown():
            self._show_turn(number)

    def _show_turn(self, number: int) -> None:
        turn = self.tree[number]
        view = TurnView(number, turn.role, self.tree.branch(number))
        view.text.setPlainText(turn.text)
        view.show_note(turn.note)
        view.acted.connect(self.edit if turn.role == "user" else self.again)
        view.moved.connect(self._move)
        self.views[number] = view
        self._turns.insertWidget(self._turns.count() - 1, view)

    def _follow(self, least: int, most: int) -> None:
        self._scroll.verticalScrollBar().setValue(most)

    # Models

    def _choose_first(self, model: str) -> None:
        names = self._list_models()
        chosen = (
            model or (self.settings.model if self.settings.model in names else "") or next(iter(names), "")
        )
        if not chosen:
            self.status.setText("no model is on the shelf yet: import one")
            return
        self.load(chosen)

    def _list_models(self) -> list[str]:
        try:
            names = [model.name for model in edgesdk.shelved_models() if model.manifest is not None]
        except edgesdk.EdgeError as error:
            self.status.setText(str(error))
            names = []
        self.models.clear()
        self.models.addItems(names)
        return names

    def load(self, model: str) -> None:
        """Loads a model; the conversation stays."""
        if self.models.findText(model) < 0:
            self.models.addItem(model)
        self.models.setCurrentText(model)
        self.settings = replace(self.settings, model=model)
        self.settings.save(self._store)
        self.loaded = False
        self._allow()
        self.thread_of_model.load(model, self.settings.threads)

    def _loading(self, model: str) -> None:
        self.status.setText(f"loading {model}")

    def _ready(self, receipt: str) -> None:
        self.receipt, self.loaded = receipt, True
        self.status.setText(receipt.splitlines()[-1])
        self._allow()
        if self._waiting is not None:
            self.entry.setPlainText(self._waiting[0])
            self.ask()

    def _failed(self, line: str) -> None:
        self.receipt = line
        self.status.setText(line)

    def _choose_import(self) -> None:
        kinds = "Models (*.gguf *.zip manifest.json config.json)"
        path, _ = QFileDialog.getOpenFileName(
            self, "A model: .gguf, .zip, or a file in its folder", "", kinds
        )
        if path:
            self.start_import(str(Path(path).parent) if path.endswith(".json") else path)

    def start_import(self, source: str) -> None:
        """Brings a model from a file onto the shelf, and loads it then."""
        self.importing = ImportDialog(source, self)
        self.importing.imported.connect(self._imported)
        self.importing.not_imported.connect(self._not_imported)
        self.importing.start()

    def _imported(self, name: str) -> None:
        self.importing = None
        self._list_models()
        self.load(name)

    def _not_imported(self, line: str) -> None:
        self.importing = None
        self.status.setText(line or "the import was cancelled; nothing was left behind")

    # The conversation

    def ask_when_ready(self, question: str, *, then_quit: bool) -> None:
        """Asks as soon as the model is loaded; for tests of the packaged program."""
        self._waiting = (question, then_quit)

    def ask(self) -> None:
        """Asks what stands in the entry: after the last turn, or in place of a question that is edited."""
        text = self.entry.toPlainText().strip()
        if not text or not self.send.isEnabled():
            return
        shown = self.tree.shown()
        parent = self.tree[self._editing].parent if self._editing is not None else (shown[-1] if shown else 0)
        self._editing = None
        self.entry.clear()
        self._answer(self.tree.add(parent, "user", text))

    def edit(self, number: int) -> None:
        """Puts a question into the entry; what is sent then begins a branch beside it."""
        self._editing = number
        self.entry.setPlainText(self.tree[number].text)
        self.entry.setFocus(Qt.FocusReason.OtherFocusReason)
        self.status.setText("the question is edited: sending it begins a branch, the old one stays")

    def again(self, number: int) -> None:
        """Answers a question once more, as a branch beside the answer."""
        if self.send.isEnabled():
            self._answer(self.tree[number].parent)

    def _answer(self, question: int) -> None:
        self.answering = self.tree.add(question, "assistant")
        self._rebuild()
        self._allow()
        self._timer.start()
        messages = self.tree.messages(question)
        if self.settings.system:
            messages.insert(0, {"role": "system", "content": self.settings.system})
        settings = self.settings
        self.thread_of_model.ask(Ask(self.answering, messages, settings.temperature, settings.max_tokens))

    def _piece(self, number: int, text: str) -> None:
        self._unseen += text

    def _show_pieces(self) -> None:
        if self._unseen and self.answering in self.views:
            self.tree[self.answering].text += self._unseen
            self.views[self.answering].text.add(self._unseen)
            self._unseen = ""

    def _ended(self, number: int, why: str, completion: edgesdk.Completion | None) -> None:
        self._timer.stop()
        self._show_pieces()
        self.tree[number].note = why
        self.views[number].show_note(why)
        self.answering = 0
        if completion is not None:
            pace = completion.decode_tokens_per_s
            self.figures = (
                f"{completion.prompt_tokens} tokens read, first word after {completion.ttft_ms:.0f} ms"
            )
            self.figures += "" if pace is None else f", {pace:.0f} tokens/s"
            self.status.setText(self.figures)
        self._allow()
        self._save_chat()
        if self._waiting is not None and self._waiting[1]:
            print(f"{self.tree[number].text}\n{why or 'whole'}", flush=True)
            self.close()
        self._waiting = None

    def _move(self, number: int, step: int) -> None:
        if not self.answering:
            self.tree.choose(number, step)
            self._rebuild()
            self._save_chat()

    def new_chat(self) -> None:
        """Forgets the conversation."""
        if not self.answering:
            self.tree, self._editing = ChatTree(), None
            self._rebuild()
            self._save_chat()

    def _allow(self) -> None:
        self.send.setEnabled(self.loaded and not self.answering)
        self.stop.setEnabled(bool(self.answering))
        for view in self.views.values():
            view.allow(not self.answering)

    # What is kept

    def _change_settings(self) -> None:
        dialog = SettingsDialog(self.settings, self)
        if dialog.exec() == QDialog.DialogCode.Accepted:
            self.apply(dialog.chosen())

    def apply(self, settings: Settings) -> None:
        """Uses other settings from now on; another number of threads loads the model anew."""
        again = settings.threads != self.settings.threads
        self.settings = settings
        settings.save(self._store)
        if again and settings.model:
            self.load(settings.model)

    def _show_receipt(self) -> None:
        box = QMessageBox(QMessageBox.Icon.NoIcon, "Receipt", self.receipt_text(), parent=self)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        box.open()

    def receipt_text(self) -> str:
        """What runs the model and what was refused on the way, and the last answer's figures."""
        return f"{self.receipt}\n\n{self.figures}".strip()

    def _save_chat(self) -> None:
        problem = save_chat(self._chat_file, self.tree)
        if problem:
            self.status.setText(f"the conversation cannot be kept: {problem}")

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Ends what runs: a step of the model takes milliseconds, then its thread is done."""
        if self.importing is not None:
            self.importing.end()
        self.thread_of_model.close()
        self._timer.stop()
        self._save_chat()
        event.accept()
