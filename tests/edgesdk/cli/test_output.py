import io
import re
import sys

import pytest

from edgesdk.cli import output
from edgesdk.cli.progress_line import ProgressLine

NAME = "onnx-a-rather-long-name-w8-round"
HEADER = ("variant", "recipe", "tokens/s>", "note")
ROWS = [(NAME, "w8-round", "101", "some words that may be wrapped\nand a line"), ("b", "w8", "7", "")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    def show(columns, header=HEADER, rows=ROWS, title="Speed"):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        output.print_table(header, rows, title=title)
        return re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()

    return show


def test_piped_rows_are_lines(capsys):
    output.print_table(HEADER, [(NAME * 20, "w8", "1", "word " * 200)], title="Speed")
    lines = [line for line in capsys.readouterr().out.splitlines() if NAME in line]
    assert len(lines) == 1
    assert NAME * 20 in lines[0]
    assert lines[0].endswith("word")


@pytest.mark.parametrize("columns", [20, 40, 60, 70, 80, 200])
def test_names_are_never_broken(on_terminal, columns):
    lines = on_terminal(columns)
    assert sum(NAME in line for line in lines) == 1
    assert "…" not in "".join(lines)
    for word in ("w8-round", "tokens/s", "wrapped"):
        assert any(word in line for line in lines)
    if columns >= 60:
        assert max(map(len, lines)) <= columns


def test_where_words_do_not_fit_each_row_is_a_list(on_terminal):
    lines = on_terminal(40)
    assert f"variant   {NAME}" in lines
    assert "tokens/s  101" in lines
    assert lines[0] == "Speed"


def test_a_progress_line_is_written_over_and_gone(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "30")
    with ProgressLine() as line:
        line.show("a long line " * 9, 1)
        line.show("short", 1)
    shown = terminal.getvalue()
    assert "\n" not in shown
    assert all(len(part) <= 29 for part in shown.split("\r"))
    assert shown.endswith("\r" + " " * 5 + "\r")


def test_piped_progress_is_a_line_for_each_step(capsys):
    with ProgressLine() as line:
        for text, step in (("one", 1), ("within it", 1), ("two", 2), ("say", None), ("say", None)):
            line.show(text, step)
    assert capsys.readouterr().err == "one\ntwo\nsay\nsay\n"


@pytest.mark.parametrize("columns", [None, 60, 200])
def test_a_title_is_a_line_however_narrow_the_table(on_terminal, capsys, columns):
    title = "SmolLM2-135M-Instruct, 134.5 million weights"
    if columns is None:
        output.print_table(("variant", "size MB>"), [("litert-w8", "141.1")], title=title)
        lines = capsys.readouterr().out.splitlines()
    else:
        lines = on_terminal(columns, ("variant", "size MB>"), [("litert-w8", "141.1")], title)
    assert lines[0] == title
    assert sum("141.1" in line for line in lines) == 1
