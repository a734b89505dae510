"""Texts to learn from: answers that the target writes itself, many at once through the engine.

A draft learns best on what its target says (PAPERS: Direct Alignment of Draft Models, arXiv 2403.00858:
answers to seed instructions at several temperatures, top-p 0.95). Each answer is one line of a file that
only grows, with what was asked and how it was drawn; a run that was ended goes on where the file ends, and
what was half written is cut off. It does not know what learns.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from edgesdk.engine.engine import Engine
from edgesdk.engine.generation import Generation
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.training.seed_instructions import Instruction

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
TOP_P = 0.95
_LEAST_ANSWER = 32  # tokens that must be left of the context
_MOST_REFUSED = 1000  # instructions one after the other
_WAITING = 3  # times as many requests are handed in as the engine runs at once


@dataclass(frozen=True)
class TaughtText:
    """One conversation that the target wrote.

    Attributes:
        number: of the instruction in its list.
        kind: of the task.
        prompt: tokens before the answer.
        answer: tokens of the answer, with the one that ended it.
        temperature: that it was drawn with; 0 is greedy.
        seed: of the draw.
    """

    number: int
    kind: str
    prompt: list[int]
    answer: list[int]
    temperature: float
    seed: int


def read_texts(path: Path) -> list[TaughtText]:
    """All whole lines of a file of answers.

    Raises:
        CheckpointError: a line is none of ours.
    """
    texts = []
    for number, line in enumerate(_whole_lines(path), 1):
        try:
            texts.append(TaughtText(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"line {number} of {path} is no answer that `edgesdk train` wrote ({error}); remove the file"
            ) from None
    return texts


def teach_texts(
    engine: Engine,
    asked: Iterator[Instruction],
    path: Path,
    tokens: int,
    most_tokens: int = 224,
    say: Callable[[int], None] = lambda _: None,
) -> list[TaughtText]:
    """Has the target answer until there are so many tokens of answers.

    Args:
        engine: of the target.
        asked: instructions without end, the same ones each time.
        path: of the file that grows.
        tokens: of all answers together.
        most_tokens: of one answer.
        say: told how many tokens there are, after every answer.

    Returns:
        All answers in the file.

    Raises:
        CheckpointError: the file holds something else.
    """
    texts = read_texts(path) if path.exists() else []
    whole = sum(len(line.encode()) + 1 for line in _whole_lines(path)) if texts else 0
    have = sum(len(text.answer) for text in texts)
    done = texts[-1].number + 1 if texts else 0
    rest = _askable(engine, islice(enumerate(asked), done, None))
    open_requests: deque[tuple[Asked, Generation]] = deque()
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(whole)
        file.seek(whole)
        while have < tokens:
            while len(open_requests) < _WAITING * engine.policy.seats:
                question = next(rest)
                open_requests.append((question, _ask(engine, question, most_tokens)))
            text = _heard(*open_requests.popleft())
            file.write(json.dumps(asdict(text), separators=(",", ":")).encode() + b"\n")
            file.flush()
            texts.append(text)
            have += len(text.answer)
            say(have)
    for _, generation in open_requests:
        generation.cancel()
    return texts


@dataclass(frozen=True)
class Asked:
    """An instruction with its number and the tokens of the prompt."""

    number: int
    instruction: Instruction
    prompt: list[int]

    @property
    def temperature(self) -> float:
        """Each instruction is asked at another one when it comes again."""
        return TEMPERATURES[(self.number + self.instruction.turn) % len(TEMPERATURES)]


def _askable(engine: Engine, numbered: Iterator[tuple[int, Instruction]]) -> Iterator[Asked]:
    """Instructions that leave room for an answer."""
    most = engine.model.context - _LEAST_ANSWER
    refused = 0
    for number, instruction in numbered:
        prompt = list(engine.model.render_prompt(instruction.text))
        if len(prompt) <= most:
            refused = 0
            yield Asked(number, instruction, prompt)
        elif (refused := refused + 1) == _MOST_REFUSED:
            raise UnsupportedOption(
                f"instructions of {len(prompt)} tokens do not fit into the teacher's context of "
                f"{engine.model.context}; give a teacher with a larger one, or other data than answers"
            )


def _ask(engine: Engine, asked: Asked, most_tokens: int) -> Generation:
    heat = asked.temperature
    return engine.submit(
        asked.prompt,
        block=True,
        max_tokens=min(most_tokens, engine.model.context - len(asked.prompt)),
        temperature=heat,
        top_p=TOP_P if heat else 1.0,
        top_k=0,
        repetition_penalty=1.0,
        seed=asked.number,
    )


def _heard(asked: Asked, generation: Generation) -> TaughtText:
    answer = list(generation.result().tokens)
    kind = asked.instruction.kind
    return TaughtText(asked.number, kind, asked.prompt, answer, asked.temperature, asked.number)


def _whole_lines(path: Path) -> Sequence[str]:
    content = path.read_bytes()
    try:
        return content[: content.rfind(b"\n") + 1].decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} has no answers that `edgesdk train` wrote ({error}); remove the file"
        ) from None
