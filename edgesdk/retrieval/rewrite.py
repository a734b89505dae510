"""Queries for a search, written by the model: of the question, and of what its first answer claims.

What a model writes may be anything. A document that is not as asked for is no error: the question itself is
then the only query, and the record says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgesdk.errors import EdgeError, MissingExtra, first_line
from edgesdk.retrieval.gate_desk import GateDesk

_MOST = 3
_LONGEST = 160
_TOKENS = 256

_INSTRUCTION = (
    "Write search queries as JSON. questions: what must be looked up to answer the question. claims: each "
    "statement of the draft answer, with a query that would check it."
)
_EXAMPLE = """Question: When was the bridge over the Elbe built, and by whom?
Draft answer: It was built in 1893 by Claus Koepcke.
{"questions": [{"query": "year the Elbe bridge was built"}, {"query": "builder of the Elbe bridge"}], \
"claims": [{"claim": "The bridge was built in 1893.", "query": "Elbe bridge built 1893"}, \
{"claim": "Claus Koepcke built the bridge.", "query": "Claus Koepcke bridge"}]}"""

_TEXT = {"type": "string", "maxLength": _LONGEST}
_SCHEMA = {
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "maxItems": _MOST,
            "items": {
                "type": "object",
                "properties": {"query": _TEXT},
                "required": ["query"],
                "additionalProperties": False,
            },
        },
        "claims": {
            "type": "array",
            "maxItems": _MOST,
            "items": {
                "type": "object",
                "properties": {"claim": _TEXT, "query": _TEXT},
                "required": ["claim", "query"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["questions", "claims"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Claim:
    """A statement of the model's first answer, and the query that would check it."""

    text: str
    query: str


@dataclass(frozen=True)
class Rewritten:
    """What the model wrote.

    Attributes:
        queries: of the question, none empty.
        claims: of the answer, none with an empty query.
        problem: why there is nothing; None if there is.
    """

    queries: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    problem: str | None = None


def rewrite(desk: GateDesk, question: str, coarse: str) -> Rewritten:
    """Has the model write queries; a grammar keeps it to the form where `structured` is installed.

    Args:
        desk: of the model.
        question: as it was asked.
        coarse: the model's own first answer, possibly empty.
    """
    asked = f"Question: {question}\nDraft answer: {coarse or '-'}"
    for rules in ({"json_schema": _SCHEMA}, {}):
        try:
            completion = desk.write(_INSTRUCTION, _EXAMPLE, asked, max_tokens=_TOKENS, **rules)
        except MissingExtra:
            continue
        except EdgeError as error:
            return Rewritten(problem=first_line(error))
        return read_rewritten(completion.text)
    return Rewritten(problem="no grammar is at hand")


def read_rewritten(text: str) -> Rewritten:
    """Reads what a model wrote; whatever it is, this never raises."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        document = json.loads(text[begin : end + 1])
        queries = [_line(item["query"]) for item in document["questions"][:_MOST]]
        claims = [Claim(_line(item["claim"]), _line(item["query"])) for item in document["claims"][:_MOST]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Rewritten(problem="the queries are not in the form that was asked for")
    return Rewritten(
        tuple(dict.fromkeys(filter(None, queries))),
        tuple(dict.fromkeys(claim for claim in claims if claim.text and claim.query)),
    )


def _line(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return " ".join(value.split())[:_LONGEST]
