import json

import pytest

from edgesdk.decoding import compile_apart
from edgesdk.errors import UnsupportedOption

pytest.importorskip("llguidance")
GOOD = json.dumps({"grammars": [{"lark_grammar": "start: /a/"}]})


def test_nothing_is_started_unless_asked(monkeypatch):
    monkeypatch.delenv(compile_apart.SWITCH, raising=False)
    monkeypatch.setattr(compile_apart, "_CHILD", "raise SystemExit(3)")
    compile_apart.check_apart("no grammar at all", "the regex")


def test_a_grammar_is_compiled_elsewhere(monkeypatch):
    monkeypatch.setenv(compile_apart.SWITCH, "1")
    compile_apart.check_apart(GOOD, "the Lark grammar")
    with pytest.raises(UnsupportedOption, match="the Lark grammar cannot be used: "):
        compile_apart.check_apart(GOOD.replace("/a/", "nothing"), "the Lark grammar")


def test_what_ends_the_other_process_is_a_refusal(monkeypatch):
    monkeypatch.setenv(compile_apart.SWITCH, "1")
    monkeypatch.setattr(compile_apart, "_CHILD", "import os; os.abort()")
    with pytest.raises(UnsupportedOption, match="ended the process that compiled it"):
        compile_apart.check_apart(GOOD, "the regex")
