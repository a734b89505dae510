"""A summary of every text in a folder, and one of them all.

    python examples/summarise_folder.py BUNDLE FOLDER

A text that does not fit the context is read by parts, whose summaries are joined (`ask_many` does so); in the
end the summaries are summarised. Summaries are kept beside the texts in summaries.json with the size and the
time of each file: only what has changed is read again, so a folder may be summarised every night.
"""

import json
import os
import sys
from pathlib import Path

import edgesdk
from edgesdk.errors import EdgeError

KEPT = "summaries.json"
KINDS = {".txt", ".md"}
QUESTION = "What is this text about? Answer in one or two sentences."
ALL = "These are notes about several texts. What are they about together? Answer in two sentences."
MOST_TOKENS = 80


def summarise(model: edgesdk.Model, text: str, question: str = QUESTION) -> str:
    """A few sentences about a text of any length.

    Raises:
        edgesdk.EdgeError: there is no answer; the message says why.
    """
    (answer,) = model.ask_many(text, [question], max_tokens=MOST_TOKENS, temperature=0.0).answers
    # An answer that was cut is shown up to where it was: it is a summary all the same.
    if not answer.text.strip():
        raise edgesdk.EdgeError(answer.error or "the model said nothing")
    return " ".join(answer.text.split())


def load_kept(folder: Path) -> dict[str, dict[str, object]]:
    """What was found the last time; nothing where that cannot be read."""
    try:
        kept = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) and all(isinstance(each, dict) for each in kept.values()) else {}


def keep(folder: Path, found: dict[str, dict[str, object]]) -> None:
    """Written beside and renamed: whoever ends the script in the middle loses nothing."""
    draft = folder / f"{KEPT}.part"
    draft.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, folder / KEPT)


def bring_up_to_date(model: edgesdk.Model, folder: Path) -> dict[str, dict[str, object]]:
    """Summaries of all texts of a folder, those that are new or have changed made now."""
    before, found = load_kept(folder), {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in KINDS or not path.is_file():
            continue
        name, stat = path.relative_to(folder).as_posix(), path.stat()
        state = [stat.st_size, stat.st_mtime_ns]
        if before.get(name, {}).get("state") == state and before[name].get("summary"):
            found[name] = before[name]
            continue
        print(f"reading {name}", file=sys.stderr)
        try:
            found[name] = {"state": state, "summary": summarise(model, path.read_text(encoding="utf-8"))}
        except (EdgeError, OSError, UnicodeDecodeError) as error:
            found[name] = {"error": str(error)}
        keep(folder, {**before, **found})
    keep(folder, found)
    return found


def main(bundle: str, folder: str) -> None:
    """Prints all summaries, and that of the folder."""
    try:
        with edgesdk.load(bundle) as model:
            found = bring_up_to_date(model, Path(folder))
            for name, entry in found.items():
                print(f"{name}: {entry.get('summary') or 'not read: ' + str(entry['error'])}")
            said = [f"{name}: {entry['summary']}" for name, entry in found.items() if "summary" in entry]
            if len(said) > 1:
                print(f"\n{summarise(model, chr(10).join(said), ALL)}")
    except (EdgeError, OSError) as error:
        sys.exit(f"{folder}: {error}")
    if not found:
        sys.exit(f"{folder} has no text: expected files that end with {', '.join(sorted(KINDS))}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
