"""Answers a question about a text file, and shows the answer while it is written.

    python examples/ask_about_file.py BUNDLE FILE "What is the deadline?"

Shows what an app needs: load once, stream, stop when the reader has had enough (Ctrl-C), and say
plainly when a text is too long for the context.
"""

import sys
from pathlib import Path

import edgesdk
from edgesdk.errors import CapacityError, EdgeError


def ask(model: edgesdk.Model, text: str, question: str) -> None:
    """Prints the answer piece by piece, then its speed."""
    messages = [
        {"role": "system", "content": "Answer in one sentence, from the text alone."},
        {"role": "user", "content": f"{text}\n\n{question}"},
    ]
    answer = model.chat_stream(messages, max_tokens=120, temperature=0.0)
    try:
        for piece in answer:
            print(piece.text, end="", flush=True)
            done = piece.completion
    except KeyboardInterrupt:
        print(" (stopped)")
        return
    print(f"\n\n{done.prompt_tokens} tokens read, first word after {done.ttft_ms:.0f} ms")


def main(bundle: str, file: str, question: str) -> None:
    """Loads the model and asks."""
    try:
        with edgesdk.load(bundle) as model:
            for refusal in model.receipt.refusals:
                print(f"not used: {refusal.backend}, {refusal.reason}", file=sys.stderr)
            ask(model, Path(file).read_text(encoding="utf-8"), question)
    except CapacityError as error:
        sys.exit(f"{file} is too long: {error}")
    except EdgeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
