"""One checkout's part of compare_checkouts.py: converts, and asks every backend that opens what came out.

    PYTHONPATH=CHECKOUT:CHECKOUT/converters python checkout_worker.py JOB.json OUT

The job names a source and, by label, the arguments of `edgesdk convert`. OUT gets `found.json` and the logits
as `logits.npz`. Only the command line and the public API are used, in the spelling of either side of a
change, so that the checkouts may differ in everything inside.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import runpy
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from written_arrays import written_arrays

import edgesdk

TEXT_TOKENS, PROMPT_TOKENS, NEW_TOKENS = 140, 20, 24
PIECES = (5, 1, 1, 8, 3, 16, 1, 2, 17, 9)
QUESTIONS = ("What is the capital of South Korea?", "Write a sentence about the sea.")
SEEDED = {"temperature": 0.9, "top_k": 60, "top_p": 0.95, "repetition_penalty": 1.1, "seed": 7}
ASKED = {
    "greedy": {"temperature": 0.0, "repetition_penalty": 1.0},
    "seeded": SEEDED,
    "penalties": {**SEEDED, "presence_penalty": 0.3, "frequency_penalty": 0.2, "logit_bias": {5: 1.0}},
    "grammar": {"temperature": 0.0, "regex": "[a-z ]{8,40}"},
}
Row = dict[str, object]


def command_line(*arguments: str) -> str:
    """Runs `edgesdk` with arguments in this process; what it printed.

    Raises:
        RuntimeError: it failed; with its last line.
    """
    out, errors = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["edgesdk", *arguments]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            runpy.run_module("edgesdk", run_name="__main__")
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
    if code:
        raise RuntimeError((errors.getvalue().strip().splitlines() or [f"exit code {code}"])[-1])
    return out.getvalue()


def load(folder: Path, backend: str) -> edgesdk.Model:
    """Opens a bundle on one backend, with one thread, whose sums have one order."""
    options = {"backend": backend, "strict": True, "threads": 1}
    parameters = inspect.signature(edgesdk.load).parameters
    if "backend" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return edgesdk.load(folder, **options)
    return edgesdk.load(folder, edgesdk.LoadOptions(**options))


def logits_of(model: edgesdk.Model, text: NDArray[np.int32]) -> dict[str, NDArray[np.float32]]:
    """Logits of a text whole, in pieces, and after going back half way."""
    found = {"whole": np.array(model.score(text))}
    sequence = model.new_sequence()
    rows, at, turn = [], 0, 0
    while at < len(text):
        count = min(PIECES[turn % len(PIECES)], len(text) - at)
        rows.append(np.array(sequence.extend(text[at : at + count])))
        at, turn = at + count, turn + 1
    found["pieces"] = np.stack(rows)
    sequence.truncate(len(text) // 2)
    found["rewound"] = np.array(sequence.score(text[len(text) // 2 :]))
    sequence.close()
    return found


def said(completion: edgesdk.Completion) -> list[object]:
    """What must be the same of an answer."""
    return [[int(token) for token in completion.tokens], completion.text, completion.finish_reason]


def model_answers(model: edgesdk.Model, prompt: list[int]) -> Iterator[tuple[str, Callable[[], object]]]:
    """What `Model` is asked, by name."""
    for name, options in ASKED.items():
        limit = {"max_tokens": NEW_TOKENS, "ignore_eos": name != "grammar"}
        yield f"model {name}", lambda more={**options, **limit}: said(model.generate(prompt, **more))
    beams = {"width": 3, "max_tokens": 8}
    yield (
        "model beams",
        lambda: [[int(t) for t in beam.tokens] for beam in model.beam_search(prompt, **beams)],
    )
    if model.chat_template is not None:
        for question in QUESTIONS:
            asked = [{"role": "user", "content": question}]
            yield f"model {question}", lambda asked=asked: said(model.chat(asked, max_tokens=NEW_TOKENS))


def engine_answers(model: edgesdk.Model, prompt: list[int]) -> dict[str, object]:
    """Answers of an engine: many that begin in one step, samples, prefixes, a session."""
    found: dict[str, object] = {}
    common = {"max_tokens": NEW_TOKENS, "ignore_eos": True}
    with edgesdk.Engine(model, token_budget=16, prefix_cache_mb=8, check_steps=True) as engine:
        held, go = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            go.wait()

        holder = threading.Thread(target=lambda: engine.call(hold))
        holder.start()
        held.wait()  # the engine plans nothing until all are there, so its steps are the same each time
        asked = [
            engine.submit(prompt[: 4 + 3 * i], **{**common, **ASKED[name], "max_tokens": 6 + 3 * i})
            for i, name in enumerate(("greedy", "seeded", "penalties", "greedy", "seeded"))
        ]
        go.set()
        holder.join()
        found["engine together"] = [said(generation.result()) for generation in asked]
        samples = engine.submit(prompt, n=3, **common, **SEEDED).results()
        found["engine samples"] = [said(completion) for completion in samples]
        found["engine prefix"] = said(engine.generate([*prompt, 7, 8], **common, **ASKED["greedy"]))
        with engine.session() as session:
            first = said(session.generate(prompt, **{**common, **ASKED["greedy"], "max_tokens": 8}))
            session.rewind(len(prompt) - 3)
            second = said(session.generate([9, 10, 11], **{**common, **SEEDED, "max_tokens": 8}))
        found["engine session"] = [first, second]
    return found


def ask(folder: Path, backend: str) -> tuple[Row, dict[str, NDArray[np.float32]]]:
    """Everything that one backend says."""
    try:
        model = load(folder, backend)
    except edgesdk.EdgeError as error:
        return {"refused": str(error)}, {}
    answers: dict[str, object] = {}
    with model:
        vocabulary = model.score([1, 2]).shape[1]
        random = np.random.default_rng(3)
        text = random.integers(3, vocabulary, min(TEXT_TOKENS, model.context - 8)).astype(np.int32)
        prompt = [int(token) for token in text[:PROMPT_TOKENS]]
        logits = logits_of(model, text)
        for name, run in model_answers(model, prompt):
            answers[name] = attempt(run)
        together = attempt(lambda: engine_answers(model, prompt))
        answers.update(together if isinstance(together, dict) else {"engine": together})
    return {"answers": answers}, logits


def attempt(run: Callable[[], object]) -> object:
    """What it gives, or the kind of its refusal: its words may change."""
    try:
        return run()
    except edgesdk.EdgeError as error:
        return type(error).__name__


def main(job_path: Path, out: Path) -> None:
    """Does a job."""
    job = json.loads(job_path.read_text(encoding="utf-8"))
    backends = [row["backend"] for row in json.loads(command_line("devices", "--json"))["backends"]]
    found: dict[str, Row] = {"edgesdk": {"from": str(Path(edgesdk.__file__).parents[1])}}
    arrays: dict[str, NDArray[np.float32]] = {}
    for label, arguments in job["conversions"].items():
        folder = out / "bundles" / label
        try:
            command_line("convert", job["source"], str(folder), *arguments)
        except RuntimeError as error:
            found[label] = {"failed": str(error).replace(str(out), "OUT")}
            continue
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        row: Row = {
            "weights": written_arrays(folder),
            "files": {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
            },
            "backends": {},
        }
        for backend in backends:
            row["backends"][backend], logits = ask(folder, backend)
            arrays.update({f"{label}|{backend}|{name}": values for name, values in logits.items()})
        shutil.rmtree(folder)
        found[label] = row
    np.savez(out / "logits.npz", **arrays)
    (out / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
