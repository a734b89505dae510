"""Takes the facts of a schema out of texts, as JSON lines.

    python examples/extract_to_json.py BUNDLE SCHEMA FILE [FILE ...]

SCHEMA is a file with a JSON schema; each FILE gives a line with its name and an object that follows the
schema, whatever the model: a grammar leaves it no other words. Whether what is in it is true is the model's
affair, so check what matters. Several files are answered at once, and what cannot be read is a line with why.
Needs the extra `structured`.
"""

import json
import sys
from pathlib import Path

import edgesdk
from edgesdk.errors import CapacityError, EdgeError

INSTRUCTION = "Extract the data from the text as JSON. Use what stands there, nothing else."
MOST_TOKENS = 300


def ask(engine: edgesdk.Engine, schema: dict, text: str) -> edgesdk.Generation:
    """Hands a text in."""
    messages = [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"{text}\n\nSchema: {json.dumps(schema)}"},
    ]
    return engine.submit(
        messages=messages, json_schema=schema, max_tokens=MOST_TOKENS, temperature=0.0, block=True
    )


def read(answer: edgesdk.Generation) -> dict[str, object]:
    """What was found, or why nothing was."""
    done = answer.result()
    if done.finish_reason != "stop":
        return {"error": f"the answer was cut after {done.new_tokens} tokens"}
    return {"found": json.loads(done.text)}


def main(bundle: str, schema_file: str, files: list[str]) -> int:
    """Prints a line for each file; returns how many could not be read."""
    schema = json.loads(Path(schema_file).read_text(encoding="utf-8"))
    failed = 0
    with edgesdk.Engine(bundle) as engine:
        asked: list[tuple[str, edgesdk.Generation | str]] = []
        for file in files:
            try:
                asked.append((file, ask(engine, schema, Path(file).read_text(encoding="utf-8"))))
            except (CapacityError, OSError, UnicodeDecodeError) as error:
                asked.append((file, str(error)))
        for file, answer in asked:
            try:
                found = {"error": answer} if isinstance(answer, str) else read(answer)
            except EdgeError as error:
                found = {"error": str(error)}
            failed += "error" in found
            print(json.dumps({"file": file, **found}, ensure_ascii=False), flush=True)
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        sys.exit(1 if main(sys.argv[1], sys.argv[2], sys.argv[3:]) else 0)
    except (EdgeError, OSError, ValueError) as error:
        sys.exit(str(error))
