"""Indexes a folder of notes, then answers questions from it and says where each answer stands.

    python examples/ask_my_notes.py BUNDLE FOLDER ["A question" ...]

The index is a file beside the folder, brought up to date whenever this is started. Without questions, it
reads them from the keyboard. Nothing leaves the machine.
"""

import sys
from pathlib import Path

import edgesdk
from edgesdk.errors import EdgeError


def answer(model: edgesdk.Model, index: edgesdk.TextIndex, question: str) -> None:
    """Prints an answer, its sources, and why they were or were not looked for."""
    found = edgesdk.answer_with_sources(model, index, question)
    print(found.text)
    for passage in found.sources or found.passages[:3]:
        print(f"  {passage.path}: {' '.join(passage.text.split())[:100]}")
    gate = next(stage for stage in found.stages if stage.name == "gate")
    print(f"  ({gate.decided})\n")


def main(bundle: str, folder: str, *questions: str) -> None:
    """Brings the index up to date, loads the model and answers."""
    try:
        with edgesdk.make_index(f"{Path(folder).resolve()}.index") as index:
            report = index.add([folder])
            for unread in report.unread:
                print(f"not read: {unread.path}: {unread.why}", file=sys.stderr)
            with edgesdk.load(bundle) as model:
                for question in questions or iter(lambda: input("? ").strip(), ""):
                    answer(model, index, question)
    except EdgeError as error:
        sys.exit(str(error))
    except (EOFError, KeyboardInterrupt):
        print()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
