"""Whether a drawn draft is kept as often as theory says: 1 less the total variation distance, by place.

    python benchmarks/draft_acceptance.py BUNDLE [--recipe f32] [--depth 3] [--tokens 96] [--prompts 32]
        [--threads 1] [--json FILE]

BUNDLE has a trained draft (`convert --draft`). Here it draws what it proposes: a chain, each token from the
draft's distribution p after the request's own penalties, temperature and filters. The model judges it as it
judges every draft, in steps of several rows, and the answers are real ones, to the prompts of
`draft_training_tasks.json`.

*Counted* is how often the token at a place of a chain is the answer's (a token that is refused is never drawn
in its own stead, so the finished answer tells). *Expected* is sum min(p, q) at the very places that were
judged: q of the model's logits over the finished answer, run once more by itself (`Model.score`), after the
same rules. So nothing that judged a draft has a part in what is expected of it.

The first place is judged in every step: all that steps come to. A later place is judged where those before it
were kept; both figures are of these places, which are easier ones than all would be. Given what came before,
each judgement is a toss with a chance of its own, so counted less expected has mean 0 and the variance sum
a (1 - a), a being the chances: the interval is 1.96 deviations of that.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import click
import numpy as np

import edgesdk
from edgesdk.backends.protocol import Float, Int
from edgesdk.bundle.write_file import write_file
from edgesdk.decoding.draft import Chances, Draft, Drafter, DraftRequest, JudgedStep
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.sampling import Sampler
from edgesdk.drafts.recurrent_drafts import RecurrentDrafts
from edgesdk.drafts.trained_draft import open_trained_draft
from edgesdk.kv.step_model import steps_of
from edgesdk.model import Model

TASKS = Path(__file__).parent / "draft_training_tasks.json"
SETTINGS: dict[str, dict[str, float]] = {
    "temperature 1": {"temperature": 1.0, "repetition_penalty": 1.0},
    "temperature 0.7, top-p 0.95, penalty 1.1": {
        "temperature": 0.7,
        "top_p": 0.95,
        "repetition_penalty": 1.1,
    },
    "temperature 0.8, top-k 40": {"temperature": 0.8, "top_k": 40, "repetition_penalty": 1.0},
}
_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A chain that was drawn.

    Attributes:
        start: tokens of prompt and answer before it.
        tokens: of the chain.
        chances: what each was drawn from.
    """

    start: int
    tokens: tuple[int, ...]
    chances: tuple[Chances, ...]


class DrawnChains:
    """A `Drafter` that draws chains from a trained draft, and notes them."""

    name = "drawn"
    nbytes = 0

    def __init__(self, draft: RecurrentDrafts, vocab_size: int, depth: int) -> None:
        self._draft, self._vocab_size, self._depth = draft, vocab_size, depth
        self.proposals: list[Proposal] = []

    def propose(self, asked: Sequence[DraftRequest]) -> list[Draft | None]:
        return [self._chain(request) for request in asked]

    def learn(self, step: JudgedStep) -> None:
        """Learns nothing."""

    def forget(self, key: int) -> None:
        """Keeps nothing of an answer but its proposals."""

    def close(self) -> None:
        """The draft is its model's."""

    def _chain(self, request: DraftRequest) -> Draft | None:
        if request.state is None or request.sampling is None:
            return None
        tokens: list[int] = []
        chances: list[Chances] = []
        state, taken = request.state, request.tokens[-request.pending :].tolist()
        for _ in range(min(self._depth, request.deepest)):
            for token in taken:
                logits, (state,) = self._draft.take_in([token], [state])
            shaped = request.sampling.shape(self._over_all(logits[0]), tokens)
            held = shaped.shares > 0
            chances.append(self.claim(Chances(shaped.ids[held], shaped.shares[held])))
            taken = [request.sampling.draw(shaped)]
            tokens += taken
        self.proposals.append(Proposal(len(request.tokens), tuple(tokens), tuple(chances)))
        return Draft.chain(tokens, tuple(chances))

    def claim(self, chances: Chances) -> Chances:
        """What it says that a token was drawn from: the truth."""
        return chances

    def _over_all(self, logits: Float) -> Float:
        """The draft's logits among all V tokens: (V,) float32."""
        whole = np.full(self._vocab_size, -np.inf, np.float32)
        whole[self._draft.ids] = logits
        return whole


@dataclasses.dataclass
class Place:
    """What became of the drafted tokens at one place of a chain.

    Attributes:
        judged: how many a step judged.
        kept: of these, those that the answer has.
        expected: sum of the chances to be kept, a.
        variance: sum of a (1 - a).
    """

    judged: int = 0
    kept: int = 0
    expected: float = 0.0
    variance: float = 0.0

    def add(self, kept: bool, chance: float) -> None:
        """Counts a judgement."""
        self.judged += 1
        self.kept += kept
        self.expected += chance
        self.variance += chance * (1 - chance)

    @property
    def deviations(self) -> float:
        """Counted less expected, in standard deviations."""
        off = self.kept - self.expected
        return off / math.sqrt(self.variance) if self.variance else math.copysign(math.inf, off) * bool(off)

    def figures(self) -> dict[str, float]:
        """Shares, and half the width of the interval of their difference."""
        half = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2) * math.sqrt(self.variance)
        judged = max(1, self.judged)
        return {
            "judged": self.judged,
            "counted": self.kept / judged,
            "expected": self.expected / judged,
            "interval": half / judged,
            "deviations": self.deviations,
        }


def overlap(p: Chances, q: Chances) -> float:
    """sum min(p, q): 1 less the total variation distance."""
    _, at_p, at_q = np.intersect1d(p.ids, q.ids, assume_unique=True, return_indices=True)
    return float(np.minimum(p.shares[at_p], q.shares[at_q]).sum())


def count_places(
    places: list[Place],
    proposals: Sequence[Proposal],
    text: Int,
    rows: Float,
    sampler: Sampler,
    prompt: int,
) -> None:
    """Compares what was proposed for an answer with the answer.

    Args:
        places: are counted on, one for each place of a chain.
        proposals: for this answer.
        text: (n,) prompt and answer.
        rows: (n, V) the model's logits after each token.
        sampler: of the request; has seen the prompt and no more.
        prompt: tokens of it.
    """
    for proposal in proposals:
        for depth, (token, p) in enumerate(zip(proposal.tokens, proposal.chances, strict=True)):
            at = proposal.start + depth
            if at >= len(text):
                break
            q = sampler.shape(rows[at - 1], None, text[prompt:at].tolist())
            kept = int(text[at]) == token
            places[depth].add(kept, overlap(p, q))
            if not kept:
                break


def measure(
    model: Model, drafter: DrawnChains, prompts: Sequence[list[int]], options: dict[str, float], tokens: int
) -> tuple[list[Place], float]:
    """Answers prompts with drawn drafts: what became of each place, and tokens a step.

    Args:
        model: without drafts.
        drafter: proposes, from the draft of the same model.
        prompts: token ids.
        options: how to sample.
        tokens: of each answer, end or no end.

    Raises:
        click.ClickException: the drafter was switched off.
    """
    V = model.decoder.vocab_size

    def one() -> Drafter:
        return drafter

    source = DraftSource(drafter, one, V)
    drafted = Model(model.bundle, model.backend, model.receipt, drafts=source)
    places: list[Place] = []
    steps = said = 0
    for seed, prompt in enumerate(prompts):
        drafter.proposals.clear()
        wanted = GenerationOptions(max_tokens=tokens, seed=seed, ignore_eos=True, **options)  # type: ignore[arg-type]
        answer = drafted.generate(
            prompt,
            max_tokens=tokens,
            seed=seed,
            ignore_eos=True,
            **options,  # type: ignore[arg-type]
        )
        steps, said = steps + answer.steps, said + len(answer.tokens)
        text = np.array([*prompt, *answer.tokens], np.int32)
        sampler = Sampler(wanted.sampling(model.bundle.manifest.generation), V)
        sampler.observe(prompt)
        longest = max((len(each.tokens) for each in drafter.proposals), default=0)
        places += [Place() for _ in range(longest - len(places))]
        count_places(places, drafter.proposals, text, model.score(text), sampler, len(prompt))
    if source.notes:
        raise click.ClickException("; ".join(source.notes))
    return places, said / steps


def read_prompts(model: Model, count: int) -> list[list[int]]:
    """Prompts of all tasks in turn, rendered."""
    tasks: dict[str, list[str]] = json.loads(TASKS.read_text(encoding="utf-8"))
    longest = max(map(len, tasks.values()))
    lines = [kind[row] for row in range(longest) for kind in tasks.values() if row < len(kind)]
    return [model.render_prompt(line) for line in lines[:count]]


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", default="f32", show_default=True)
@click.option("--prompts", "count", default=32, show_default=True)
@click.option("--tokens", default=96, show_default=True, help="Of each answer.")
@click.option("--depth", default=3, show_default=True, help="Tokens drafted one after the other.")
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(
    bundle: Path, recipe: str, count: int, tokens: int, depth: int, threads: int, path: Path | None
) -> None:
    """Counts what the trained draft of BUNDLE keeps, beside what its distributions say."""
    found: dict[str, list[dict[str, float]]] = {}
    with edgesdk.load(bundle, recipe=recipe, threads=threads, strict=True) as model:
        click.echo(str(model.receipt))
        variant = model.bundle.variant(model.receipt.variant)
        draft = open_trained_draft(model.bundle, variant, steps_of(model.backend))
        prompts = read_prompts(model, count)
        for name, options in SETTINGS.items():
            drafter = DrawnChains(draft, model.decoder.vocab_size, depth)
            places, efficiency = measure(model, drafter, prompts, options, tokens)
            click.echo(f"{name}: {efficiency:.2f} tokens a step")
            found[name] = [place.figures() for place in places]
            for place, row in enumerate(found[name], start=1):
                click.echo(
                    f"  place {place}: {row['judged']:5.0f} judged, counted {row['counted']:.4f}, expected "
                    f"{row['expected']:.4f} +- {row['interval']:.4f}, {row['deviations']:+.2f} deviations"
                )
    if path is not None:
        write_file(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
