"""A chat window: the answer is written while you watch, and a button stops it.

    python examples/chat_window.py [smollm2]

Shows what a desktop app needs: the model works in a thread of its own, pieces of the answer reach the window
through a queue, and nothing of Tk is touched outside its thread. `edgesdk demo` makes the model.
"""

import queue
import sys
import threading

import edgesdk
from edgesdk.errors import EdgeError

TICK_MS = 30


class Talk:
    """A conversation whose answers are written in a thread of its own; any other asks and polls."""

    def __init__(self, bundle: str, max_tokens: int = 400) -> None:
        self._max_tokens = max_tokens
        self._questions: queue.Queue[str | None] = queue.Queue()
        self._events: queue.Queue[tuple[str, str]] = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(bundle,), daemon=True)
        self._thread.start()

    def ask(self, question: str) -> None:
        """Has a question answered, after those before it."""
        self._stopping.clear()
        self._questions.put(question)

    def stop(self) -> None:
        """Ends the answer that is being written, also while the prompt is read."""
        self._stopping.set()

    def close(self) -> None:
        """Stops, and waits until the model is closed."""
        self.stop()
        self._questions.put(None)
        self._thread.join()

    def poll(self) -> list[tuple[str, str]]:
        """What happened since: (`ready`, receipt), (`text`, piece), (`done`, why) or (`error`, line)."""
        found = []
        while True:
            try:
                found.append(self._events.get_nowait())
            except queue.Empty:
                return found

    def _work(self, bundle: str) -> None:
        messages = []
        try:
            with edgesdk.load(bundle) as model:
                self._events.put(("ready", str(model.receipt)))
                while (question := self._questions.get()) is not None:
                    asked = {"role": "user", "content": question}
                    answer = self._answer(model, [*messages, asked])
                    if answer:  # without one the question is forgotten: it may have been too long
                        messages += [asked, {"role": "assistant", "content": answer}]
        except EdgeError as error:
            self._events.put(("error", str(error)))

    def _answer(self, model: edgesdk.Model, messages: list[dict[str, str]]) -> str:
        written, why = "", "stopped"
        try:
            for piece in model.chat_stream(
                messages, max_tokens=self._max_tokens, cancelled=self._stopping.is_set
            ):
                written += piece.text
                self._events.put(("text", piece.text))
                if piece.completion is not None:
                    why = piece.completion.finish_reason
        except EdgeError as error:  # a conversation that has become too long, say
            why = str(error)
        self._events.put(("done", why))
        return written


class Window:
    """What is seen of a talk."""

    def __init__(self, bundle: str) -> None:
        import tkinter as tk
        from tkinter import scrolledtext

        self._root = tk.Tk()  # first: without a display no model is to be loaded
        self._talk = Talk(bundle)
        self._root.title(f"edgesdk: {bundle}")
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        self._text = scrolledtext.ScrolledText(self._root, wrap="word", state="disabled", height=18, width=72)
        self._text.pack(fill="both", expand=True, padx=8, pady=8)
        row = tk.Frame(self._root)
        row.pack(fill="x", padx=8)
        self._entry = tk.Entry(row)
        self._entry.pack(side="left", fill="x", expand=True)
        self._entry.bind("<Return>", lambda _: self.ask())
        self._ask = tk.Button(row, text="Ask", command=self.ask, state="disabled")
        self._ask.pack(side="left", padx=4)
        self._stop = tk.Button(row, text="Stop", command=self._talk.stop, state="disabled")
        self._stop.pack(side="left")
        self._status = tk.Label(self._root, text="loading", anchor="w", wraplength=560, justify="left")
        self._status.pack(fill="x", padx=8, pady=4)
        self._root.after(TICK_MS, self._tick)

    def run(self) -> None:
        """Shows the window until it is closed."""
        self._root.mainloop()

    def ask(self, question: str = "") -> None:
        """Asks a question, by default what stands in the entry."""
        question = question or self._entry.get().strip()
        if not question or str(self._ask["state"]) == "disabled":
            return
        self._entry.delete(0, "end")
        self._write(f"You: {question}\n\n")
        self._busy(True)
        self._talk.ask(question)

    def close(self) -> None:
        """Ends the talk and the window."""
        self._talk.close()
        self._root.destroy()

    def _tick(self) -> None:
        for kind, what in self._talk.poll():
            if kind == "text":
                self._write(what)
                continue
            if kind == "done":
                self._write("\n\n" if what == "stop" else f" [{what}]\n\n")
            else:
                self._status.config(text=what)
            if kind != "error":
                self._busy(False)
        self._root.after(TICK_MS, self._tick)

    def _busy(self, busy: bool) -> None:
        self._ask.config(state="disabled" if busy else "normal")
        self._stop.config(state="normal" if busy else "disabled")

    def _write(self, text: str) -> None:
        self._text.config(state="normal")
        self._text.insert("end", text)
        self._text.config(state="disabled")
        self._text.see("end")


def main(bundle: str) -> None:
    """Shows the window until it is closed."""
    try:
        import tkinter as tk
    except ImportError as error:
        sys.exit(f"Python's Tk is missing ({error}); install it, on Debian with: apt install python3-tk")
    try:
        window = Window(bundle)
    except tk.TclError as error:
        sys.exit(f"the window cannot be opened: {error}")
    window.run()


if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2")
