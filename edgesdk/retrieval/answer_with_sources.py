"""Answers a question from the user's texts where the model does not know it by itself, and names its sources.

    coarse answer -> gate -> rewrite -> claims -> search -> prompt -> answer

A proxy, the small model, answers first and is judged; if it knows, its answer stands, or the larger model's
own where there is one. Otherwise texts are searched for the question, for queries that the proxy writes, and
for those of its claims that it is not sure of.

Paper: SlimPLM, "Small Models, Big Insights: Leveraging Slim Proxy Models To Decide When and What to Retrieve
for LLMs". What is not as there: result lists are not cut to the shortest, and what the proxy writes is kept
to its form by a grammar.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Unpack

from edgesdk.decoding.completion import Completion
from edgesdk.decoding.option_types import whole_text
from edgesdk.errors import CapacityError, UnsupportedOption, quoted
from edgesdk.model import Model
from edgesdk.orchestration.hosted_engine import engine_on
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.allowance import Allowance
from edgesdk.plans.model_or_engine import ModelOrEngine
from edgesdk.retrieval.attribute import named, shared
from edgesdk.retrieval.gate_desk import COARSE, GateDesk
from edgesdk.retrieval.gate_options import GateKeywords, GateOptions
from edgesdk.retrieval.gather import fit, gather
from edgesdk.retrieval.head_judge import HeadJudge, check_judge
from edgesdk.retrieval.judge_file import read_judge
from edgesdk.retrieval.judges import Judge, Judgement, judge_of
from edgesdk.retrieval.passage import Passage
from edgesdk.retrieval.rewrite import Rewritten, rewrite
from edgesdk.retrieval.sourced_answer import SourcedAnswer
from edgesdk.retrieval.text_index import TextIndex

_MOST_PROMPT_TOKENS = 3000  # of the paper
_NONE = "No note was found."
_SLACK_TOKENS = 16
"""What the tokens of texts may gain where they are joined."""


def answer_with_sources(
    on: ModelOrEngine,
    index: TextIndex,
    question: str,
    *,
    larger: ModelOrEngine | None = None,
    **options: Unpack[GateKeywords],
) -> SourcedAnswer:
    """Answers a question, from the index where the model does not know the answer by itself.

    Args:
        on: the model that judges, writes queries and, unless there is a larger one, answers.
        index: the user's texts.
        question: at most a quarter of the context.
        larger: the model that answers; the other one is its proxy.
        **options: fields of `GateOptions`.

    Raises:
        UnsupportedOption: an option has no meaning, or a backend keeps its cache to itself.
        CapacityError: the question does not fit.
        RetrievalError: the index is in use or damaged, or the judge is another model's.
        DeviceError: a model is closed.
    """
    asking = GateOptions.of(options)
    asked = whole_text("question", question).strip()
    if not asked:
        raise UnsupportedOption("the question is empty")
    if not isinstance(index, TextIndex):
        raise UnsupportedOption(f"found {quoted(index)}, expected an index; open one with edgesdk.open_index")
    allowance = Allowance(asking.deadline_s, asking.cancelled)
    with engine_on(on) as engine:
        desk = GateDesk(engine, PromptWriter(engine.model, asking.template_variables), asking, allowance)
        _check_length(desk, asked)
        judge = _judge(asking, engine.model)
        coarse = _coarse(desk, asked) if judge.needs_answer or asking.gate == "never" else None
        known = _gate(desk, judge, asked, coarse)
        if known:
            return _unsearched(desk, asked, coarse, larger)
        queries = _distinct([asked, *_further_queries(desk, judge, asked, coarse)])
        found = _search(desk, index, asked, queries)
        if larger is None:
            return _answer(desk, asked, queries, found, coarse)
        with engine_on(larger) as second:
            writer = PromptWriter(second.model, asking.template_variables)
            other = GateDesk(second, writer, asking, allowance, desk.stages)
            return _answer(other, asked, queries, found, coarse)


def _judge(asking: GateOptions, model: Model) -> Judge:
    if asking.judge is None:
        return judge_of(asking.gate, asking.threshold)
    head = read_judge(Path(asking.judge))
    check_judge(head, model)
    return HeadJudge(head, head.threshold if asking.threshold is None else asking.threshold)


def _check_length(desk: GateDesk, question: str) -> None:
    length, context = len(desk.writer.write(question).ids), desk.engine.model.context
    if length > context // 4:
        raise CapacityError(
            f"the question has {length} tokens, expected at most {context // 4}, a quarter of the context"
        )


def _coarse(desk: GateDesk, question: str) -> Completion:
    """The model's own answer, without any text."""
    with desk.stage("coarse answer") as note:
        completion = desk.write(COARSE, f"Question: {question}", max_tokens=desk.options.coarse_tokens)
        note.decided = " ".join(completion.text.split()) or "nothing"
    return completion


def _gate(desk: GateDesk, judge: Judge, question: str, coarse: Completion | None) -> bool:
    with desk.stage("gate") as note:
        text, tokens = ("", ()) if coarse is None else (coarse.text.strip(), coarse.tokens)
        found = judge.judge(desk, question, text, tokens)
        note.score = found.score
        note.decided = f"{'known' if found.known else 'search'}: {found.why}"
    return bool(found.known)


def _further_queries(desk: GateDesk, judge: Judge, question: str, coarse: Completion | None) -> list[str]:
    """Queries that the model writes: of the question, and of claims that it is not sure of."""
    options = desk.options
    if not options.rewrite or desk.is_over():
        return []
    with desk.stage("rewrite") as note:
        written: Rewritten = rewrite(desk, question, "" if coarse is None else coarse.text.strip())
        shown = "; ".join(written.queries) or "-"
        note.decided = written.problem or (
            f"{len(written.queries)} queries: {shown}; {len(written.claims)} claims"
        )
    queries = list(written.queries)
    for claim in written.claims:
        if desk.is_over():
            break
        with desk.stage("claim") as note:
            ids = desk.engine.model.tokenizer.encode(claim.text, add_bos=False)
            # The claim against its own query, as the paper has it.
            found = (
                judge.judge(desk, claim.query, claim.text, ids)
                if options.filter_claims
                else Judgement(None, None, "claims are not filtered")
            )
            note.score = found.score
            note.decided = f"{'known' if found.known else 'search'}: {claim.text} ({found.why})"
            if not found.known:
                queries.append(claim.query)
    return queries


def _distinct(queries: list[str]) -> list[str]:
    """The first of each: a model likes to write the question again, and a search knows words alone."""
    found: dict[str, str] = {}
    for query in queries:
        found.setdefault(" ".join(re.findall(r"\w+", query.casefold())), query)
    return list(found.values())


def _search(desk: GateDesk, index: TextIndex, question: str, queries: list[str]) -> list[Passage]:
    with desk.stage("search") as note:
        found = gather(index, question, queries, desk.options.files, desk.options.passages)
        files = len({passage.path for passage in found})
        note.decided = f"{len(found)} passages of {files} files, by {len(queries)} queries"
    return found


def _unsearched(
    desk: GateDesk, question: str, coarse: Completion | None, larger: ModelOrEngine | None
) -> SourcedAnswer:
    """The answer of a model that knows: the proxy's own, or the larger one's."""
    if larger is None and coarse is not None:
        return _told(desk, question, coarse, (), (), coarse)
    with engine_on(larger or desk.engine) as engine:
        writer = PromptWriter(engine.model, desk.options.template_variables)
        other = GateDesk(engine, writer, desk.options, desk.allowance, desk.stages)
        with other.stage("answer") as note:
            said = other.write(COARSE, f"Question: {question}", max_tokens=desk.options.max_tokens)
            note.decided = f"{said.new_tokens} tokens"
        return _told(other, question, said, (), (), coarse)


def _answer(
    desk: GateDesk, question: str, queries: list[str], found: list[Passage], coarse: Completion | None
) -> SourcedAnswer:
    """Has the model answer from passages."""
    options, model = desk.options, desk.engine.model
    with desk.stage("prompt") as note:
        bare = len(desk.writer.write(_NONE, options.told, f"Question: {question}").ids)
        room = model.context - bare - min(options.max_tokens, model.context // 4) - _SLACK_TOKENS
        most = options.prompt_tokens or min(_MOST_PROMPT_TOKENS, model.context // 2)
        kept, text = fit(found, model.tokenizer, max(0, min(most, room)), numbered=options.cite)
        note.decided = f"{len(kept)} of {len(found)} passages fit"
    with desk.stage("answer") as note:
        parts = (text or _NONE, options.told, f"Question: {question}")
        # An answer from notes repeats their words: no penalty for that.
        said = desk.write(*parts, max_tokens=options.max_tokens, repetition_penalty=1.0)
        note.decided = f"{said.new_tokens} tokens"
    return _told(desk, question, said, tuple(kept), tuple(queries), coarse)


def _told(
    desk: GateDesk,
    question: str,
    said: Completion,
    passages: tuple[Passage, ...],
    queries: tuple[str, ...],
    coarse: Completion | None,
) -> SourcedAnswer:
    cited = named(said.text, len(passages))
    return SourcedAnswer(
        question,
        said.text.strip(),
        bool(queries),
        passages,
        cited or shared(said.text, question, passages),
        bool(cited),
        queries,
        "" if coarse is None else coarse.text.strip(),
        said.finish_reason,
        tuple(desk.stages),
    )
