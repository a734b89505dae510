"""A dictated note becomes a written one while it is dictated: title, text, to-dos.

    python examples/voice_notes.py BUNDLE [TRANSCRIPT]

Text stands in for speech here: TRANSCRIPT, or standard input, is what a recogniser would hand over, a line
for each thing that was said, with "um" and repetitions. edgesdk has no recogniser. What an app needs of the
rest is here: lines are run into the model's cells as they come (`Session.append`), while somebody speaks, so
that the note begins at once when the last one is there; the same cells serve all parts (`Session.fork`).
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import edgesdk
from edgesdk.errors import EdgeError

SYSTEM = "You turn dictated notes into written ones. You add nothing that was not said."
PARTS = {
    "Title": ("a title of at most six words", 16),
    "Note": ("the note in clean sentences", 120),
    "To do": ("what has to be done, one thing a line", 60),
}
MARK = "\x02"


class VoiceNote:
    """A note that is being dictated."""

    def __init__(self, engine: edgesdk.Engine) -> None:
        """Begins one; close it."""
        self._model = engine.model
        if self._model.chat_template is None:
            raise edgesdk.UnsupportedOption(
                "the model has no chat template; choose one that answers questions"
            )
        # The template's text around what is said: a mark stands in for that, which nothing else contains.
        asked = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": MARK}]
        before, _, self._after = self._model.chat_template.render(asked).partition(MARK)
        self._session = engine.session()
        self._session.append(self._tokens(f"{before}Dictated:\n"))

    def hear(self, said: str) -> None:
        """Runs a line, so that nothing of it is left to do when the note is asked for."""
        self._session.append(self._tokens(said.strip() + "\n"))

    def write(self) -> Iterable[tuple[str, edgesdk.Generation]]:
        """The parts, each as a stream that is read while it is written; all are written at once."""
        for name, (what, most) in PARTS.items():
            part = self._session.fork()  # the same cells, and an end of its own; kept by its answer
            ending = self._tokens(f"\nWrite {what}.{self._after}")
            yield name, part.submit(ending, max_tokens=most, temperature=0.0)

    def close(self) -> None:
        """Gives its cells back."""
        self._session.close()

    def _tokens(self, text: str) -> list[int]:
        return self._model.tokenizer.encode(text, add_bos=False)


def main(bundle: str, lines: Iterable[str]) -> None:
    """Hears all lines, then shows the note."""
    with edgesdk.Engine(bundle) as engine:
        note = VoiceNote(engine)
        for line in lines:
            if line.strip():
                note.hear(line)
        for name, answer in list(note.write()):
            print(f"{name}:", end=" ")
            for piece in answer:
                print(piece.text, end="", flush=True)
            print(f"  ({answer.metrics.ttft_ms:.0f} ms)", flush=True)
        note.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    try:
        heard = sys.stdin if len(sys.argv) == 2 else Path(sys.argv[2]).read_text("utf-8").splitlines()
        main(sys.argv[1], heard)
    except (EdgeError, OSError, UnicodeDecodeError) as error:
        sys.exit(str(error))
