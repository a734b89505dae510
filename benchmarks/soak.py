"""Everything that can happen to an engine, for a long time: nothing may leak, hang or grow.

    python benchmarks/soak.py BUNDLE [--seconds 600] [--seed 0] [--recipe w8] [--draft unruly] [--json FILE]

Random arrivals with common beginnings, several samples, priorities, cancels while queued, in the prompt and
in the answer, deadlines that are missed, prompts that do not fit, a full queue, sessions that are appended
to, forked, rewound, forgotten and closed under a request; and bad requests among them: options of wrong types
and values, grammars and prompts that are none, event loops that end under their answers. The accounts of the
cells are checked after every step. With `--draft` tokens are drafted: by any drafter that `edgesdk run`
takes, or by an `unruly` one, which proposes random trees beside what it looks up, whether it pays or not, and
now and then takes its time. It ends with status 1 if a cell was lost, a request is stuck, a good request
failed, a bad one raised anything but an EdgeError, a drafter was switched off, or memory grew.
"""

import asyncio
import contextlib
import dataclasses
import gc
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
from unruly_drafter import UnrulyDrafter

import edgesdk
from edgesdk.decoding.draft import Drafter
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.engine.generation import Generation
from edgesdk.engine.session import Session
from edgesdk.errors import CapacityError, EdgeError, QueueFull, UnsupportedOption
from edgesdk.model import Model

MOST_REQUESTS = 24
MOST_SESSIONS = 3
STUCK_S = 60
"""A request is stuck when the engine makes no step for so long, or STUCK_STEPS without ending it."""

STUCK_STEPS = 20_000
SAMPLES = 12
GROWTH_MB = 32


@dataclasses.dataclass
class Report:
    """What a soak found."""

    seconds: float = 0.0
    outcomes: dict[str, int] = dataclasses.field(default_factory=dict)
    steps: int = 0
    preemptions: int = 0
    cache_hits: int = 0
    leaked_cells: int = 0
    stuck_requests: int = 0
    wrong_answers: int = 0
    bad_requests: int = 0
    other_errors: int = 0
    drafted_tokens: int = 0
    kept_tokens: int = 0
    draft_notes: tuple[str, ...] = ()
    rss_mb: list[int] = dataclasses.field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing leaked, hung, grew or went wrong."""
        # The first half lays out the cells and the arrays of every size as they are first used.
        later = self.rss_mb[len(self.rss_mb) // 2 :]
        grown = later[-1] - later[0] if later else 0
        lost = self.leaked_cells or self.stuck_requests or self.wrong_answers or self.other_errors
        return not lost and not self.draft_notes and grown <= GROWTH_MB


BAD_REQUESTS: tuple[dict[str, object], ...] = (
    {"stop": [5]},
    {"stop": "x" * 100_000},
    {"logprobs": "3"},
    {"priority": "high"},
    {"temperature": math.nan},
    {"max_tokens": True},
    {"seed": -1.5},
    {"n": object()},
    {"deadline_s": math.inf},
    {"logit_bias": {"a": 1}},
    {"top_p": [1]},
    {"json_schema": {"type": "integer", "maximum": 10**400}},
    {"json_schema": {"$ref": "#/$defs/missing"}},
    {"regex": "(" * 5},
    {"lark": "start: missing"},
    {"tools": [{"name": 1}]},
    {"template_variables": 3},
    {"prompt": "\ud800"},
    {"prompt": "a b " * 2_000_000},
    {"prompt": [-1, 10**9]},
    {"prompt": [0.5]},
    {"prompt": b"bytes"},
    {"prompt": None, "messages": [{"role": "nobody", "content": object()}]},
    {"prompt": None, "messages": "a text"},
    {"no_such_option": 1},
)
"""Each is refused, with an EdgeError; an option that does not exist is a TypeError, as anywhere in Python."""


class Soak:
    """One engine under random load."""

    def __init__(
        self,
        engine: edgesdk.Engine,
        seed: int,
        *,
        longest: int,
        expected: Callable[[list[int], int], tuple[int, ...]] | None = None,
    ) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.longest = longest
        self.expected = expected
        self.outcomes: Counter[str] = Counter()
        self.wrong = self.bad = self.other = 0
        self.running: list[tuple[Generation, list[int] | None]] = []
        self.sessions: list[Session] = []
        manifest = engine.model.bundle.manifest
        ends = set(manifest.tokenizer.eos_ids)
        self.ids = [i for i in range(min(manifest.decoder.vocab_size, 400)) if i not in ends]
        # Prompts that share beginnings, so that the prefix cache has something to do.
        self.stems = [self.random.choices(self.ids, k=longest // 2) for _ in range(6)]

    def run(self, seconds: float, least_acts: int = 0) -> Report:
        """Goes on for so long, and so often, and then brings everything to its end."""
        began = time.monotonic()
        memory: list[int] = []
        acts = 0
        while (now := time.monotonic() - began) < seconds or acts < least_acts:
            acts += 1
            if now * SAMPLES >= seconds * len(memory):
                memory.append(rss_bytes() >> 20)
            self.act()
        self.finish()
        figures = self.engine.metrics
        return Report(
            seconds=time.monotonic() - began,
            outcomes=dict(sorted(self.outcomes.items())),
            steps=figures.steps,
            preemptions=figures.preemptions,
            cache_hits=figures.cache_hits,
            leaked_cells=figures.cells_used - figures.cached_cells,
            stuck_requests=self.outcomes["stuck"],
            wrong_answers=self.wrong,
            bad_requests=self.bad,
            other_errors=self.other,
            drafted_tokens=figures.drafted_tokens,
            kept_tokens=figures.kept_tokens,
            draft_notes=() if self.engine.model.drafts is None else self.engine.model.drafts.notes,
            rss_mb=[*memory, rss_bytes() >> 20],
        )

    def act(self) -> None:
        """Does one random thing."""
        acts = [self.submit] * 8 + [self.cancel] * 2 + [self.use_session] * 4
        acts += [self.misbehave] * 3 + [self.abandon_loop, self.oversized, self.flood]
        try:
            self.random.choice(acts)()
        except (QueueFull, CapacityError, UnsupportedOption) as error:
            self.outcomes[type(error).__name__] += 1
        self.reap()
        while len(self.running) > MOST_REQUESTS:
            self.take(0)
        if self.random.random() < 0.3:
            time.sleep(self.random.random() * 0.02)

    def submit(self) -> None:
        """A request of its own, with random options."""
        chance = self.random.random
        stem = self.random.choice(self.stems)
        prompt = [*stem[: self.random.randint(0, len(stem))], *self.random.choices(self.ids, k=5)]
        count = self.random.randint(1, max(1, self.longest - len(prompt)))
        n = self.random.randint(2, self.engine.policy.seats) if chance() < 0.15 else 1
        greedy = chance() < 0.7
        generation = self.engine.submit(
            prompt,
            max_tokens=count,
            n=n,
            priority=self.random.randint(-1, 1),
            deadline_s=self.random.random() * 2 + 1e-3 if chance() < 0.15 else None,
            temperature=0.0 if greedy else 1.0,
            seed=self.random.randint(0, 9),
            repetition_penalty=1.0,
            ignore_eos=True,
            block=chance() < 0.5,
            timeout=1.0,
        )
        self.running.append((generation, prompt if greedy else None))

    def cancel(self) -> None:
        """Cancels whatever is there."""
        if self.running:
            self.random.choice(self.running)[0].cancel()

    def oversized(self) -> None:
        """A prompt that does not fit."""
        self.engine.submit(self.random.choices(self.ids, k=self.engine.model.context + 1))

    def flood(self) -> None:
        """More requests than the queue takes."""
        for _ in range(self.random.randint(1, 12)):
            self.submit()

    def misbehave(self) -> None:
        """A request that is none."""
        asked = {"prompt": self.stems[0][:4], "max_tokens": 4, **self.random.choice(BAD_REQUESTS)}
        self.bad += 1
        try:
            self.engine.submit(**asked, block=False).cancel()  # type: ignore[arg-type]
        except QueueFull:
            return  # before anything else was looked at
        except EdgeError:
            self.outcomes["bad request refused"] += 1
            return
        except TypeError:
            if "no_such_option" in asked:
                self.outcomes["bad request refused"] += 1
                return
            self.other += 1
            return
        except BaseException:
            self.other += 1
            raise
        self.outcomes["bad request taken"] += 1
        self.other += 1

    def abandon_loop(self) -> None:
        """An event loop that ends in the middle of an answer."""
        self.bad += 1
        loop = asyncio.new_event_loop()
        asked = self.engine.agenerate(self.random.choice(self.stems)[:8], max_tokens=40, ignore_eos=True)
        task = loop.create_task(asked)
        with contextlib.suppress(EdgeError, asyncio.TimeoutError):
            loop.run_until_complete(asyncio.wait_for(asyncio.shield(task), 0.02))
        if self.random.random() < 0.5:
            task.cancel()
            with contextlib.suppress(EdgeError, asyncio.CancelledError):
                loop.run_until_complete(task)
        else:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    def use_session(self) -> None:
        """Opens a session, or does something with one that may be busy."""
        if len(self.sessions) < MOST_SESSIONS and self.random.random() < 0.4:
            self.sessions.append(self.engine.session())
            return
        if not self.sessions:
            return
        session = self.random.choice(self.sessions)
        what = self.random.choice(("submit", "submit", "append", "fork", "rewind", "close", "forget"))
        room = self.longest // 3 - session.length
        if what == "submit" and room > 8:
            count = self.random.randint(1, room // 2)
            generation = session.submit(self.random.choices(self.ids, k=3), max_tokens=count, ignore_eos=True)
            self.running.append((generation, None))
        elif what == "append" and room > 8:
            session.append(self.random.choices(self.ids, k=self.random.randint(1, room // 2)))
        elif what == "fork" and len(self.sessions) < MOST_SESSIONS:
            self.sessions.append(session.fork())
        elif what == "rewind":
            session.rewind(self.random.randint(0, session.length))
        elif what == "close":
            self.sessions.remove(session)
            session.close()
        elif what == "forget":
            self.sessions.remove(session)

    def reap(self) -> None:
        """Takes what has ended."""
        for index in reversed(range(len(self.running))):
            if self.running[index][0].done:
                self.take(index)

    def take(self, index: int) -> None:
        """Waits for a request and judges its answer."""
        generation, prompt = self.running.pop(index)
        first = before = self.engine.metrics.steps
        try:
            while True:
                try:
                    answers = generation.results(STUCK_S)
                    break
                except TimeoutError:
                    steps = self.engine.metrics.steps
                    if steps == before or steps > first + STUCK_STEPS:
                        self.outcomes["stuck"] += 1
                        return
                    before = steps
        except CapacityError:  # sessions held the cells
            self.outcomes["refused"] += 1
            return
        for answer in answers:
            self.outcomes[answer.finish_reason] += 1
            if prompt is not None and self.expected is not None:
                self.wrong += answer.tokens != self.expected(prompt, len(answer.tokens))

    def finish(self) -> None:
        """Waits for the rest; what does not end is stuck."""
        while self.running:
            self.take(0)
        for session in self.sessions:
            session.close()
        self.sessions.clear()
        # A forgotten session that an exception's traceback still refers to keeps its cells until then.
        gc.collect()
        self.settle()
        self.settle()

    def settle(self) -> None:
        """Waits for requests that nobody waits for: one outlives its event loop a while."""
        since, before = time.monotonic(), -1
        while True:
            self.engine.check()  # whoever waits for it sees the figures of everything handed in before
            figures = self.engine.metrics
            if not figures.running and not figures.waiting:
                return
            if figures.steps != before:
                since, before = time.monotonic(), figures.steps
            if time.monotonic() > since + STUCK_S:
                self.outcomes["stuck"] += 1
                return
            time.sleep(0.001)


def with_drafts(model: Model, make: Callable[[], Drafter]) -> Model:
    """The same model with a drafter; closing it closes the backend of both."""
    drafts = DraftSource(make(), make, model.decoder.vocab_size)
    return Model(model.bundle, model.backend, model.receipt, drafts=drafts)


def rss_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * 4096


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seconds", default=600.0, show_default=True, help="How long, in seconds.")
@click.option("--seed", default=0, show_default=True, help="Of the random choices.")
@click.option("--recipe", default=None, help="Only variants of this recipe.")
@click.option("--longest", default=300, show_default=True, help="Most tokens of prompt and answer.")
@click.option("--draft", default="off", show_default=True, help="As for `edgesdk run`, or unruly.")
@click.option("--threads", default=None, type=click.IntRange(min=1), help="CPU threads.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the report to a file.")
def main(
    bundle: Path,
    seconds: float,
    seed: int,
    recipe: str | None,
    longest: int,
    draft: str,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Soaks an engine on BUNDLE."""
    unruly = draft == "unruly"
    with contextlib.ExitStack() as stack:
        drafter = "off" if unruly else draft
        model = stack.enter_context(edgesdk.load(bundle, recipe=recipe, draft=drafter, threads=threads))
        if unruly:
            vocabulary = model.decoder.vocab_size
            model = with_drafts(model, lambda: UnrulyDrafter(vocabulary, seed))
        engine = stack.enter_context(edgesdk.Engine(model, max_queue=16, check_steps=True))
        try:
            report = Soak(engine, seed, longest=min(longest, model.context)).run(seconds)
        except EdgeError as error:
            raise click.ClickException(str(error)) from error
    figures = dataclasses.asdict(report)
    for name, value in figures.items():
        click.echo(f"{name:>18}  {value}")
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if report.sound else 1)


if __name__ == "__main__":
    main()
