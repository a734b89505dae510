import io
import json
import sys

from edgesdk.cli import chat

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant: {% endif %}"
)
FIRST, SECOND = "The fox?", "The dog?"
ANSWERS = ("The fox jumps.", "The dog sleeps.")


def conversation_script(byte_level, system=""):
    """Token ids that answer both questions, the second only if the first turn is still there."""
    eos = byte_level.record.eos_ids[0]
    one = f"{system}<|start|>user: {FIRST}\n<|start|>assistant: "
    two = f"{one}{ANSWERS[0]}\n<|start|>user: {SECOND}\n<|start|>assistant: "
    script = [*byte_level.encode(one), *byte_level.encode(ANSWERS[0]), eos]
    script += [eos] * (len(byte_level.encode(two)) - len(script))
    return [*script, *byte_level.encode(ANSWERS[1]), eos]


def test_it_remembers_the_conversation(edgesdk, fake_runtime, byte_level):
    bundle = fake_runtime(conversation_script(byte_level))
    result = edgesdk("chat", bundle, stdin=f"{FIRST}\n\n{SECOND}\n")
    assert (result.code, result.out) == (0, f"{ANSWERS[0]}\n{ANSWERS[1]}\n")
    assert "fake on cpu" in result.err.splitlines()[0]
    forgetful = edgesdk("chat", bundle, "--max-tokens", 9, stdin=f"{SECOND}\n")
    assert ANSWERS[1] not in forgetful.out


def test_a_system_message_comes_first(edgesdk, fake_runtime, byte_level):
    bundle = fake_runtime(conversation_script(byte_level, system="<|start|>system: Be brief.\n"))
    result = edgesdk("chat", bundle, "--system", "Be brief.", stdin=f"{FIRST}\n")
    assert result.out == f"{ANSWERS[0]}\n"


def test_exit_leaves(edgesdk, fake_runtime, byte_level):
    bundle = fake_runtime(conversation_script(byte_level))
    assert edgesdk("chat", bundle, stdin=f"{FIRST}\n/exit\n{SECOND}\n").out == f"{ANSWERS[0]}\n"
    assert edgesdk("chat", bundle, stdin="").code == 0


def test_reset_begins_a_new_conversation(edgesdk, fake_runtime, byte_level):
    bundle = fake_runtime(conversation_script(byte_level))
    result = edgesdk("chat", bundle, stdin=f"{FIRST}\n/reset\n{FIRST}\n")
    assert result.out == f"{ANSWERS[0]}\n{ANSWERS[0]}\n"
    assert "a new conversation" in result.err


def test_reset_keeps_the_system_message(edgesdk, fake_runtime, byte_level):
    bundle = fake_runtime(conversation_script(byte_level, system="<|start|>system: Be brief.\n"))
    result = edgesdk("chat", bundle, "--system", "Be brief.", stdin=f"/reset\n{FIRST}\n")
    assert result.out == f"{ANSWERS[0]}\n"


def test_save_writes_new_files_only(edgesdk, fake_runtime, byte_level, tmp_path):
    bundle, file = fake_runtime(conversation_script(byte_level)), tmp_path / "my talk.json"
    lines = f"{FIRST}\n/save {file}\n/save {file}\n/save\n/save {tmp_path}/no/where\n{SECOND}\n"
    result = edgesdk("chat", bundle, stdin=lines)
    assert result.out == f"{ANSWERS[0]}\n{ANSWERS[1]}\n"  # none of it reached the model
    assert json.loads(file.read_text()) == [
        {"role": "user", "content": FIRST},
        {"role": "assistant", "content": ANSWERS[0]},
    ]
    assert f"2 messages in {file}" in result.err
    assert "is there already; choose another file" in result.err
    assert "/save needs a file: /save talk.json" in result.err
    assert "cannot be written: its folder does not exist" in result.err


def test_unknown_commands_are_said_and_not_sent(edgesdk, fake_runtime, byte_level):
    bundle = fake_runtime(conversation_script(byte_level))
    result = edgesdk("chat", bundle, stdin=f"/rest\n/help\n{FIRST}\n")
    assert result.out == f"{ANSWERS[0]}\n"
    assert "there is no command /rest; /help lists them, //TEXT asks /TEXT" in result.err
    assert "/save FILE  writes the conversation" in result.err


def test_two_slashes_ask_one(edgesdk, fake_runtime, byte_level):
    prompt = "<|start|>user: /etc?\n<|start|>assistant: "
    script = [*byte_level.encode(prompt), *byte_level.encode("Yes."), byte_level.record.eos_ids[0]]
    assert edgesdk("chat", fake_runtime(script), stdin="//etc?\n").out == "Yes.\n"


def test_a_model_without_template_cannot_chat(edgesdk, fake_runtime):
    result = edgesdk("chat", fake_runtime(template=None), stdin="x\n")
    assert result.code == 1
    assert result.error == "error: tiny has no chat template; use `edgesdk run`"


def test_a_full_context_ends_a_piped_conversation(edgesdk, fake_runtime):
    result = edgesdk("chat", fake_runtime(), stdin="word " * 200)
    assert result.code == 1
    assert "the context holds 128" in result.error


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_an_interrupt_stops_the_answer_only(fake_runtime, byte_level, monkeypatch, capsys):
    bundle = fake_runtime(conversation_script(byte_level))
    lines = iter([KeyboardInterrupt(), "word " * 200, FIRST, SECOND, EOFError()])
    shown = []

    def read(prompt):
        line = next(lines)
        if isinstance(line, BaseException):
            raise line
        return line

    echo = chat.click.echo

    def interrupt_once(text="", **options):
        echo(text, **options)
        if text and options.get("nl") is False:
            shown.append(text)
            if len(shown) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(chat.click, "echo", interrupt_once)
    monkeypatch.setattr(sys, "stdin", Terminal())
    chat.command.main([str(bundle)], standalone_mode=False)
    captured = capsys.readouterr()
    assert "/exit or Ctrl-D leaves" in captured.err
    assert "the context holds 128" in captured.err
    assert captured.out.startswith("".join(shown[:2]) + "\n")
    # The interrupted answer has no figures; the one to the second question has.
    assert captured.err.count("first token after") == 1


def test_variables_of_the_template_hold_for_every_turn(edgesdk, fake_runtime, byte_level):
    bundle = fake_runtime(conversation_script(byte_level), template=f"{{{{ before }}}}{TEMPLATE}")
    result = edgesdk("chat", bundle, "--template-var", "before=", stdin=f"{FIRST}\n{SECOND}\n")
    assert result.out == f"{ANSWERS[0]}\n{ANSWERS[1]}\n"
    changed = edgesdk("chat", bundle, "--template-var", "before=!", stdin=f"{FIRST}\n")
    assert (changed.code, changed.out != f"{ANSWERS[0]}\n") == (0, True)
