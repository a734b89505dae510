import io
import shutil

import pytest

from edgesdk.load_model import load

QUESTION = "The fox?"
ANSWER = "The quick brown fox 😀 jumps."


@pytest.fixture
def fox(fake_runtime, byte_level):
    """A bundle that answers QUESTION, put through the chat template, with ANSWER."""

    def make(prompt=f"<|start|>user: {QUESTION}\n<|start|>assistant: ", **options):
        script = [*byte_level.encode(prompt), *byte_level.encode(ANSWER), byte_level.record.eos_ids[0]]
        return fake_runtime(script, **options)

    return make


def test_the_answer_goes_to_stdout_and_the_receipt_to_stderr(edgesdk, fox):
    result = edgesdk("run", fox(), QUESTION)
    assert (result.code, result.out) == (0, f"{ANSWER}\n")
    receipt, speed = result.err.splitlines()
    assert receipt.startswith("tiny only; fake on cpu (hashes, 100% of operations); ")
    assert "first token after" in speed


def test_a_prompt_can_come_from_stdin(edgesdk, fox):
    assert edgesdk("run", fox(), "-", stdin=f"{QUESTION}\n").out == f"{ANSWER}\n"


def test_what_is_piped_in_is_the_prompt_or_comes_before_it(edgesdk, fox):
    assert edgesdk("run", fox(), stdin=f"{QUESTION}\n").out == f"{ANSWER}\n"
    both = fox(prompt=f"<|start|>user: A text.\n\n{QUESTION}\n<|start|>assistant: ")
    assert edgesdk("run", both, QUESTION, stdin="A text.\n").out == f"{ANSWER}\n"
    assert edgesdk("run", fox(), QUESTION, stdin="\n").out == f"{ANSWER}\n"


def test_without_any_prompt_usage_is_shown(edgesdk, fox, monkeypatch):
    result = edgesdk("run", fox())
    assert (result.code, result.out) == (2, "")
    assert "Missing argument 'PROMPT', and what is piped in is empty." in result.err
    monkeypatch.setattr("io.TextIOWrapper", Terminal)
    assert "Missing argument 'PROMPT', and nothing is piped in." in edgesdk("run", fox()).err


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


def test_a_model_is_run_by_its_name_and_a_folder_here_wins(edgesdk, fox, shelf, tmp_path, monkeypatch):
    bundle, here = fox(), tmp_path / "here"
    shelf.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.copytree(bundle, shelf / "fox")
    named = edgesdk("run", "fox", QUESTION)
    assert (named.out, len(named.err.splitlines())) == (f"{ANSWER}\n", 2)
    bundle.rename(here / "fox")
    both = edgesdk("run", "fox", QUESTION)
    assert both.out == f"{ANSWER}\n"
    assert both.err.startswith("note: the folder fox is used, not the model of that name in ")
    with load("fox") as model:
        assert model.receipt.notes[0].startswith("the folder fox is used")
    assert edgesdk("run", "dog", QUESTION).error.endswith(
        "has fox; get one with: edgesdk pull SOURCE --name dog"
    )


def test_raw_prompts_skip_the_template(edgesdk, fox):
    bundle = fox(prompt=QUESTION)
    assert edgesdk("run", bundle, QUESTION, "--raw").out == f"{ANSWER}\n"
    assert edgesdk("run", bundle, QUESTION, "--max-tokens", 8).out != f"{ANSWER}\n"


def test_json_is_one_document(edgesdk, fox):
    result = edgesdk("run", fox(), QUESTION, "--json")
    assert result.code == 0
    assert result.json["completion"]["text"] == ANSWER
    assert result.json["completion"]["finish_reason"] == "stop"
    assert result.json["receipt"]["backend"] == "fake"


def test_answers_are_limited_and_stopped(edgesdk, fox):
    bundle = fox()
    cut = edgesdk("run", bundle, QUESTION, "--max-tokens", 2)
    assert ANSWER.startswith(cut.out.strip())
    assert "; 2 new tokens" in cut.err
    assert cut.err.endswith("; cut at its length\n")
    assert edgesdk("run", bundle, QUESTION, "--stop", "zzz", "--stop", "fox").out == "The quick brown \n"


def test_sampling_options_arrive(edgesdk, fox):
    bundle = fox()
    hot = ("--temperature", 100, "--max-tokens", 12, "--json")
    one, same, other = (edgesdk("run", bundle, QUESTION, *hot, "--seed", n).json for n in (1, 1, 2))
    assert one["completion"]["tokens"] == same["completion"]["tokens"] != other["completion"]["tokens"]
    greedy = edgesdk("run", bundle, QUESTION, "--temperature", 100, "--top-k", 1)
    assert greedy.out == f"{ANSWER}\n"


def test_a_fallback_is_shown_and_strict_refuses_it(edgesdk, fox):
    bundle = fox(prefer_refusing=True)
    result = edgesdk("run", bundle, QUESTION)
    assert result.out == f"{ANSWER}\n"
    assert result.err.startswith("refused: refusing on cpu (only): it never opens\n")
    strict = edgesdk("run", bundle, QUESTION, "--strict")
    assert (strict.code, strict.out) == (1, "")
    assert strict.error == "error: refused: refusing on cpu (only): it never opens"


def test_a_device_that_does_not_answer_is_named_last(edgesdk, fox):
    bundle = fox()
    said = "note: gpu was asked for, and cpu answers; --strict fails instead"
    for option in ("--device", "--goal"):
        result = edgesdk("run", bundle, QUESTION, option, "gpu")
        assert (result.code, result.out) == (0, f"{ANSWER}\n")
        assert said in result.err.splitlines()
    assert edgesdk("chat", bundle, "--device", "gpu", stdin=f"{QUESTION}\n").err.splitlines().count(said) == 1
    for options in ((), ("--device", "cpu"), ("--goal", "cpu")):
        assert "was asked for" not in edgesdk("run", bundle, QUESTION, *options).err


def test_options_are_refused_before_a_model_is_sought(edgesdk, tmp_path):
    result = edgesdk("run", tmp_path / "nothing", QUESTION, "--serve-meanwhile")
    assert result.code == 1
    assert result.error.startswith("error: serve_meanwhile needs something to wait for")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["word " * 200], "the context holds 128; shorten the prompt"),
        ([""], "the prompt has no tokens"),
        ([QUESTION, "--backend", "magic"], "backend 'magic' is unknown; expected auto, fake, refusing"),
        ([QUESTION, "--variant", "other"], "has no variant 'other'; it has: only"),
        ([QUESTION, "--temperature", "inf"], "temperature"),
        ([QUESTION, "--device", "npu", "--strict"], "npu"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_done_is_one_line(arguments, line, edgesdk, fox):
    bundle = fox()
    if arguments == [""]:
        arguments = ["", "--raw"]
    result = edgesdk("run", bundle, *arguments)
    assert (result.code, result.out) == (1, "")
    assert line in result.error


def test_endless_input_is_refused(edgesdk, fox, monkeypatch):
    monkeypatch.setattr("edgesdk.cli.run._LONGEST_PROMPT_BYTES", 100)
    result = edgesdk("run", fox(), "-", stdin="x" * 101)
    assert result.code == 1
    assert "standard input has more than" in result.error


def test_answers_follow_a_schema_an_expression_or_a_grammar(edgesdk, fox, tmp_path):
    pytest.importorskip("llguidance")
    bundle = fox()
    schema, grammar = tmp_path / "schema.json", tmp_path / "rule.lark"
    schema.write_text('{"enum": ["The quick fox", 1]}')
    grammar.write_text('start: "<" /[a-z]{2}/ ">"')
    assert edgesdk("run", bundle, QUESTION, "--json-schema", schema).out in ('"The quick fox"\n', "1\n")
    assert edgesdk("run", bundle, QUESTION, "--regex", "(yes|no), sir").out in ("yes, sir\n", "no, sir\n")
    assert edgesdk("run", bundle, QUESTION, "--grammar", grammar).out.startswith("<")
    as_json = edgesdk("run", bundle, QUESTION, "--regex", "a{3}", "--json").json
    assert as_json["completion"]["text"] == "aaa"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no JSON schema"),
        ('{"not": {}}', "the JSON schema keyword 'not' at # is not supported"),
        ("[" * 100_000, "is not JSON"),
        (" " * (1 << 21), "schema.json has more than 1 MiB; give a smaller file"),
        (None, "schema.json cannot be read: No such file or directory; give a UTF-8 text file"),
        ("\udcff", "schema.json is not UTF-8 text (byte 0); convert it first"),
    ],
)
def test_schemas_that_cannot_be_used_are_one_line(edgesdk, fox, tmp_path, text, message):
    pytest.importorskip("llguidance")
    path = tmp_path / "schema.json"
    if text is not None:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    result = edgesdk("run", fox(), QUESTION, "--json-schema", path)
    assert result.code == 1
    assert message in result.error
    assert result.err.count("\n") == 1  # nothing was loaded for it


def test_a_grammar_that_is_none_is_refused_before_the_load(edgesdk, fox):
    pytest.importorskip("llguidance")
    result = edgesdk("run", fox(), QUESTION, "--regex", "(")
    assert (result.code, result.err) == (1, "error: the regex cannot be used: unclosed group\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--temperature", "-1"], "-1.0 is not in the range x>=0"),
        (["--top-k", "-1"], "-1 is not in the range x>=0"),
        (["--top-p", "2"], "2.0 is not in the range 0<x<=1"),
        (["--min-p", "2"], "2.0 is not in the range 0<=x<=1"),
        (["--repetition-penalty", "0"], "0.0 is not in the range x>0"),
        (["--seed", "-1"], "-1 is not in the range x>=0"),
        (["--stop", ""], "a text is empty"),
        (["--regex", "a", "--json-schema", "nofile"], "nofile cannot be read"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_options_without_meaning_are_refused_before_the_load(arguments, line, edgesdk, fox):
    result = edgesdk("run", fox(), QUESTION, *arguments)
    assert (result.code, result.out) == (1 if "nofile" in line else 2, "")
    assert line in result.err.splitlines()[-1]


def test_an_answer_follows_one_grammar(edgesdk, fox, tmp_path):
    (tmp_path / "rule.lark").write_text("start: /a/")
    result = edgesdk("run", fox(), QUESTION, "--regex", "a", "--grammar", tmp_path / "rule.lark")
    assert result.code == 2
    assert "an answer follows one of --json-schema, --regex and --grammar" in result.err


@pytest.fixture
def rules(tmp_path):
    def write(text):
        path = tmp_path / "rules.json"
        path.write_text(text)
        return path

    return write


def test_a_governor_limits_and_its_change_is_shown(edgesdk, fox, rules, monkeypatch):
    monkeypatch.setattr("edgesdk.devices.power_readings._system_battery", lambda folder: (15.0, True))
    file = rules('{"rules": [{"battery_below_percent": 30, "context_tokens": 100}], "clear_s": 5}')
    result = edgesdk("run", fox(), QUESTION, "--governor", file)
    assert (result.code, result.out) == (0, f"{ANSWER}\n")
    change = "governed: only with fake on cpu (hashes): battery at 15%, discharging (battery below 30%): "
    assert f"\n{change}requests of up to 100 tokens from now on" in result.err
    longer = edgesdk("run", fox(), "word " * 40, "--governor", file)
    assert "100" in longer.error
    incidents = edgesdk("run", fox(), QUESTION, "--governor", file, "--json").json["receipt"]["incidents"]
    assert [incident["kind"] for incident in incidents] == ["governed"]


def test_a_governor_without_sensors_says_so(edgesdk, fox, monkeypatch):
    monkeypatch.setattr("edgesdk.devices.power_readings._system_battery", lambda folder: (None, None))
    monkeypatch.setattr("edgesdk.devices.power_readings._psutil_battery", lambda: (None, None))
    monkeypatch.setattr("edgesdk.devices.power_readings._hottest", lambda zones: None)
    result = edgesdk("run", fox(), QUESTION, "--governor", "default")
    assert "note: the governor finds neither a battery nor a temperature here" in result.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"rules": [{"hotter": 3}]}', "rules[0] has unknown key 'hotter'"),
        ('{"rulez": []}', "has unknown key 'rulez', expected rules, every_s, clear_s, "),
        ('{"rules": [{"hotter_than_c": 80}]}', "lowers nothing"),
        ('{"clear_s": -1}', "rules.json: clear_s is -1.0, expected 0 or more; docs/devices.md shows"),
        ('{"rules": [{"hotter_than_c": 80, "threads_share": 0}]}', "rules.json: threads_share is 0.0"),
        ("[1]", "is list, expected an object"),
    ],
)
def test_rules_without_meaning_are_one_line(text, message, edgesdk, fox, rules):
    result = edgesdk("run", fox(), QUESTION, "--governor", rules(text))
    assert (result.code, result.out) == (1, "")
    assert message in result.error
    missing = edgesdk("run", fox(), QUESTION, "--governor", "/nowhere/rules.json")
    reason = "No such file or directory; give a UTF-8 text file"
    assert missing.error == f"error: /nowhere/rules.json cannot be read: {reason}"


def test_serving_meanwhile_needs_something_to_wait_for(edgesdk, fox):
    bundle = fox()
    assert "needs something to wait for" in edgesdk("run", bundle, QUESTION, "--serve-meanwhile").error
    result = edgesdk("run", bundle, QUESTION, "--serve-meanwhile", "--device", "npu")
    assert result.out == f"{ANSWER}\n"
    assert result.err.startswith("refused: - on npu (-): no backend runs on npu in this version\n")


THINKING = (
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}<|start|>assistant: "
    "{% if enable_thinking is false %}<no thought>{% endif %}{{ date_string }}"
)


def test_variables_of_the_template_are_set_as_json_or_text(edgesdk, fox):
    start = f"<|start|>user: {QUESTION}\n<|start|>assistant: "
    bundle = fox(prompt=f"{start}<no thought>1 May", template=THINKING)
    asked = ("--template-var", "enable_thinking=false", "--template-var", "date_string=1 May")
    assert edgesdk("run", bundle, QUESTION, *asked).out == f"{ANSWER}\n"
    assert edgesdk("run", bundle, QUESTION).out != f"{ANSWER}\n"
    refused = edgesdk("run", bundle, QUESTION, "--template-var", "thinking=false")
    assert refused.code == 1
    assert refused.error.endswith("reads no variable 'thinking'; it reads: date_string, enable_thinking")
    assert "go with a chat template" in edgesdk("run", bundle, QUESTION, "--raw", *asked).error


@pytest.mark.parametrize("given", [("x",), ("=1",), ("x=1", "x=2")])
def test_a_variable_is_a_name_and_a_value(edgesdk, fox, given):
    options = [part for text in given for part in ("--template-var", text)]
    assert edgesdk("run", fox(), QUESTION, *options).code == 2


def test_drafts_change_nothing_but_the_steps(edgesdk, fox, tmp_path):
    text = tmp_path / "known.txt"
    text.write_text(f"It says: {ANSWER} That is all.", encoding="utf-8")
    plain = edgesdk("run", fox(), QUESTION, "--json").json["completion"]
    drafted = edgesdk("run", fox(), QUESTION, "--json", "--draft", "lookup", "--draft-text", text).json
    assert drafted["completion"]["text"] == plain["text"] == ANSWER
    assert drafted["receipt"]["draft"] == "lookup+grammar"
    assert "drafts by lookup" in edgesdk("run", fox(), QUESTION, "--draft", "lookup").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--draft", "shallow"), "has no shallow stack"),
        (("--draft", "no-such-model"), "no-such-model"),
        (("--draft", ""), "draft is ''"),
        (("--draft-text", "pyproject.toml"), "draft is off"),
        (("--draft", "lookup", "--draft-text", "no/such/file"), "cannot be read"),
    ],
)
def test_drafters_that_cannot_be_are_one_line(edgesdk, fox, arguments, message):
    result = edgesdk("run", fox(), QUESTION, *arguments)
    assert (result.code, result.out) == (1, "")
    assert message in result.error
