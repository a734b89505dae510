"""How close a variant is to the float32 evaluator: measured at conversion, kept in the manifest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GreedyAgreement:
    """Greedy texts against the reference's choice at every position.

    Attributes:
        prompts: how many were generated.
        tokens: tokens per prompt, at most.
        identical: texts in which every token is the reference's first choice.
        near_ties: texts whose first other token lies within `near_tie` of the reference's best logit.
        diverged: the rest.
    """

    prompts: int
    tokens: int
    identical: int
    near_ties: int
    diverged: int


@dataclass(frozen=True)
class ChatAgreement:
    """Questions whose greedy answer is the reference's, token by token.

    Attributes:
        questions: how many were put.
        tokens: of an answer that were compared, at most; an end token counts.
        equal: questions all of whose tokens were the reference's.
    """

    questions: int
    tokens: int
    equal: int


@dataclass(frozen=True)
class ParityReport:
    """How close an emitted variant, as executed, is to the float32 evaluator.

    Attributes:
        backend: which backend ran it.
        positions: scored positions.
        perplexity: of the variant.
        reference_perplexity: of the evaluator on the source weights.
        perplexity_ratio: the first over the second.
        kl_nats: mean KL(reference || variant) per position.
        top1_agreement: share of positions with the same most likely token.
        gate_perplexity_ratio: the recipe's limit; `convert` fails above it.
        gate_top1_agreement: the recipe's limit; `convert` fails below it.
        greedy: agreement of generated text, when it was measured.
        against: what the reference is: the source, and what was left out of it before.
        chats: agreement on short questions, when it was measured.
    """

    backend: str
    positions: int
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float
    kl_nats: float
    top1_agreement: float
    gate_perplexity_ratio: float
    gate_top1_agreement: float
    greedy: GreedyAgreement | None = None
    against: str = "the source"
    chats: ChatAgreement | None = None
