"""Minutes of a meeting: decisions, owners and open questions out of a transcript, on the device.

    python examples/meeting_minutes.py BUNDLE TRANSCRIPT [--json]

What a phone app would run: the transcript is read once, all questions go on from it, a JSON schema holds
each answer to its form, a long transcript is read by parts whose findings are joined, and whatever could
not be answered is said instead of left out. Needs the extra `structured`, and a larger model than
SmolLM2-135M, which names people and sums but takes what was said for what was decided.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import edgesdk
from edgesdk.errors import EdgeError

LINE = {"type": "string", "minLength": 3, "maxLength": 160}
TASK = {
    "type": "object",
    "properties": {"owner": {"type": "string", "minLength": 2, "maxLength": 40}, "task": LINE},
    "required": ["owner", "task"],
    "additionalProperties": False,
}
SECTIONS = {
    "Decisions": ("What was decided?", LINE),
    "Tasks": ("Who will do what?", TASK),
    "Open questions": ("What is still unknown?", LINE),
}
MOST_ITEMS = 8
NOTHING = "none"
INSTRUCTION = f'Answer from the transcript alone, as a JSON list. If there is nothing, answer ["{NOTHING}"].'


def join_lists(place: int, texts: Sequence[str]) -> str:
    """The findings of all parts of a long transcript, in order, each once."""
    found = {json.dumps(item, sort_keys=True): item for text in texts for item in json.loads(text)}
    return json.dumps(list(found.values()), ensure_ascii=False)


def minutes(model: edgesdk.Model, transcript: str) -> edgesdk.ManyAnswers:
    """One answer for each section: a list."""
    schemas = [
        {"type": "array", "items": item, "minItems": 1, "maxItems": MOST_ITEMS}
        for _, item in SECTIONS.values()
    ]
    return model.ask_many(
        transcript,
        [question for question, _ in SECTIONS.values()],
        json_schemas=schemas,
        instruction=INSTRUCTION,
        merge=join_lists,
        max_tokens=400,
        temperature=0.0,
    )


def items(answer: edgesdk.ItemAnswer) -> list[edgesdk.JsonValue]:
    """What was found, without what says that there is nothing."""
    found = answer.value if isinstance(answer.value, list) else []
    return [
        item for item in found if NOTHING not in (item, *(item.values() if isinstance(item, dict) else ()))
    ]


def show(found: edgesdk.ManyAnswers) -> None:
    """Prints the sections."""
    for name, answer in zip(SECTIONS, found.answers, strict=True):
        print(f"\n{name}")
        for item in items(answer):
            print(f"- {item['owner']}: {item['task']}" if isinstance(item, dict) else f"- {item}")
        if answer.error is not None:
            print(f"({answer.error})")
    parts = "" if found.parts == 1 else f" in {found.parts} parts"
    print(f"\n{found.prompt_tokens} tokens read{parts}, {found.wall_s:.1f} s", file=sys.stderr)


def main(bundle: str, file: str, *, as_json: bool) -> None:
    """Loads the model and writes the minutes."""
    try:
        transcript = Path(file).read_text(encoding="utf-8")
        with edgesdk.load(bundle) as model:
            found = minutes(model, transcript)
    except (EdgeError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"{file}: {error}")
    if as_json:
        sections = {name: items(answer) for name, answer in zip(SECTIONS, found.answers, strict=True)}
        print(json.dumps(sections, indent=2, ensure_ascii=False))
    else:
        show(found)
    sys.exit(0 if found.complete else 1)


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--json"]
    if len(given) != 2:
        sys.exit(__doc__)
    main(*given, as_json="--json" in sys.argv)
