"""Notes in; minutes, tags and a reply out: the pipeline of a phone, in three stages.

    python examples/phone_notes.py BUNDLE NOTES

The stages stand in phone_notes.json, which the same pipeline in Java (android_demo, `edgemodel.notes`) and in
Swift (ios_notes, `Notes/`) reads too:

1. *Extract by schema*: each field is written behind the JSON so far, `{"who": "`, and ends with the quote, so
   the form is kept without a grammar, which Java and Swift lack (extract_to_json.py has one).
2. *Ask many*: several questions about the notes, whose cells they share.
3. *Rewrite*: a reply from what was found.

Every choice is the likeliest token, so the three give the same texts on the same bundle in float32.
"""

import json
import sys
from pathlib import Path

import edgesdk
from edgesdk.errors import EdgeError

PLAN = Path(__file__).with_suffix(".json")
VERSION = 1
LEFT_OUT = {ord(character) for character in '"\\'} | set(range(32))
"""Never in a field: it stands in JSON as it is, in any language."""

ONE_CONVERSATION = 128
"""Tokens of a step: nobody else waits for one."""


class Notes:
    """A pipeline over one text."""

    def __init__(self, engine: edgesdk.Engine, plan: dict, text: str) -> None:
        self._engine = engine
        self._plan = plan
        self._text = text
        self.found: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """All stages: what was found, by name, and the `reply`."""
        self.extract()
        self.ask()
        self.rewrite()
        return self.found

    def extract(self) -> None:
        """Fields, each behind those before it."""
        stage = self._plan["extract"]
        written = "{"
        for place, field in enumerate(stage["fields"]):
            written += (", " if place else "") + f'"{field["name"]}": "'
            said = self._submit(stage["instruction"], field["max_tokens"], written, ['"', "\n"]).result().text
            value = "".join(c for c in said if ord(c) not in LEFT_OUT).strip()
            written += value + '"'
            self.found[field["name"]] = value

    def ask(self) -> None:
        """Questions, all at once."""
        asked = {
            each["name"]: self._submit(each["question"], each["max_tokens"])
            for each in self._plan["ask"]["questions"]
        }
        self.found |= {name: answer.result().text.strip() for name, answer in asked.items()}

    def rewrite(self) -> None:
        """The reply."""
        stage = self._plan["rewrite"]
        instruction = stage["instruction"]
        for name, value in self.found.items():
            instruction = instruction.replace("{" + name + "}", value)
        self.found["reply"] = self._submit(instruction, stage["max_tokens"]).result().text.strip()

    def _submit(
        self, instruction: str, max_tokens: int, begun: str = "", stop: list[str] | None = None
    ) -> edgesdk.Generation:
        """Asks for something behind the notes; `begun` is how the answer begins."""
        messages = [
            {"role": "system", "content": self._plan["system"]},
            {"role": "user", "content": f"{self._text}\n\n{instruction}"},
        ]
        model = self._engine.model
        if model.chat_template is None:
            raise edgesdk.UnsupportedOption(
                "the model has no chat template; choose one that answers questions"
            )
        prompt = model.tokenizer.encode(model.chat_template.render(messages) + begun, add_bos=False)
        return self._engine.submit(
            prompt, max_tokens=max_tokens, stop=stop or (), temperature=0.0, repetition_penalty=1.0
        )


def read_plan(path: Path) -> dict:
    """The stages; what is read of them later is checked here, before a model is loaded.

    Raises:
        edgesdk.EdgeError: it is no plan of this version; the message says where.
        OSError: it cannot be read.
    """
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["schema_version"] != VERSION:
            raise ValueError(f"schema_version is {plan['schema_version']!r}, expected {VERSION}")
        fields, questions, last = plan["extract"]["fields"], plan["ask"]["questions"], plan["rewrite"]
        texts = [plan["system"], plan["extract"]["instruction"], last["instruction"]]
        texts += [each["name"] for each in (*fields, *questions)] + [each["question"] for each in questions]
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"{text!r} stands in place of a text")
        for each in (*fields, *questions, last):
            if type(each["max_tokens"]) is not int or each["max_tokens"] < 1:
                raise ValueError(f"max_tokens is {each['max_tokens']!r}, expected 1 or more")
    except KeyError as error:
        raise EdgeError(f"{path.name} is damaged: {error} is missing") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise EdgeError(f"{path.name} is damaged: {error}") from error
    return plan


def main(bundle: str, file: str) -> None:
    """Prints what was found, as JSON."""
    try:
        plan = read_plan(PLAN)
    except (EdgeError, OSError) as error:
        sys.exit(str(error))
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
        with edgesdk.Engine(bundle, token_budget=ONE_CONVERSATION) as engine:
            found = Notes(engine, plan, text).run()
    except (EdgeError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"{file}: {error}")
    print(json.dumps(found, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
