"""KL of split phases beside that of one backend: prompts on one, then single tokens on another.

    python benchmarks/split_agreement.py BUNDLE REFERENCE [--prompt 512] [--tokens 32] [--texts 6]

Pieces of the prose of `texts.py`: the first tokens are a prompt, and each of those after it runs alone,
over the cells that the prompt left. What a backend says of these is compared with what REFERENCE says of the
whole piece (an `f32` bundle of the same checkpoint). With OpenVINO installed BUNDLE has variants `litert` and
`openvino` of one recipe (`convert --target litert,openvino`).
"""

from __future__ import annotations

import click
import numpy as np
from texts import prose_text

import edgesdk
from edgesdk.backends import registry
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.join_candidates import join_candidates
from edgesdk.evaluation.agreement import Agreement


def single_rows(model: edgesdk.Model, tokens: list[int], prompt: int) -> np.ndarray:
    """(n, V) logits behind each token after the prompt, run one by one."""
    sequence = model.new_sequence()
    try:
        rows = [sequence.extend(np.array(tokens[:prompt], np.int32)).copy()]
        rows += [sequence.extend(np.array([token], np.int32)).copy() for token in tokens[prompt:-1]]
        return np.array(rows)
    finally:
        sequence.close()


@click.command()
@click.argument("bundle")
@click.argument("reference")
@click.option("--prefill", default="openvino", show_default=True, help="Backend of prompts.")
@click.option("--decode", default="litert", show_default=True, help="Backend of single tokens.")
@click.option("--prompt", default=512, show_default=True, help="Tokens of a prompt.")
@click.option("--tokens", default=32, show_default=True, help="Tokens after it.")
@click.option("--texts", default=6, show_default=True, help="Pieces.")
@click.option("--threads", default=2, show_default=True)
def main(
    bundle: str, reference: str, prefill: str, decode: str, prompt: int, tokens: int, texts: int, threads: int
) -> None:
    """Prints KL and the share of equal first choices of DECODE alone, PREFILL alone, and both in a split."""
    length = prompt + tokens
    with edgesdk.load(reference, threads=threads) as model:
        pieces = [
            window.tolist() for window in prose_text().windows(model.tokenize, texts * length - texts, length)
        ]
        wanted = [np.asarray(model.score(piece))[prompt - 1 : -1] for piece in pieces]
    with edgesdk.load(bundle, backend=decode, threads=threads) as model:
        backends = dict.fromkeys((*registry.find_backends(decode), *registry.find_backends(prefill)))
        able = [c for c in list_candidates(model.bundle, tuple(backends)) if c.refusal is None]
        found = {c.backend.name: c for c in reversed(able)}  # the first of each
        for pair in ((decode, decode), (prefill, prefill), (prefill, decode)):
            joined = join_candidates(model.bundle, found[pair[0]], found[pair[1]], threads)
            try:
                running = edgesdk.Model(model.bundle, joined.model, model.receipt)
                rows = [single_rows(running, piece, prompt) for piece in pieces]
            finally:
                joined.model.close()
            agreement = Agreement()
            for piece, said, expected in zip(pieces, rows, wanted, strict=True):
                agreement.add_rows(np.array(piece[prompt:], np.int32), said, expected)
            report = agreement.report()
            name = pair[0] if pair[0] == pair[1] else f"prompts {pair[0]}, tokens {pair[1]}"
            click.echo(f"{name:36} KL {report.kl_nats:.6f}  first choice {report.top1_agreement:.3f}")


if __name__ == "__main__":
    main()
