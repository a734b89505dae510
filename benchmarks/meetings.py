"""Meetings with planted facts, made by a seed: transcripts, questions, and what an answer must hold.

Each meeting has eight facts, one of each kind, each said once by somebody, in random order among talk that
says nothing. An answer recalls a fact when it holds the fact's words, whatever the case.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karl", "Lena")
PLACES = ("Lisbon", "Oslo", "Vienna", "Dublin", "Prague", "Turin", "Ghent", "Malmo", "Basel", "Krakow")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
MONTHS = ("March", "April", "May", "June", "July", "September", "October", "November")
THINGS = ("website", "brochure", "newsletter", "contract", "survey", "handbook", "poster", "invoice")
FIRMS = ("Northwind", "Bluebird", "Redstone", "Silverline", "Greenleaf", "Goldcrest", "Ironbridge", "Seaview")
FOODS = ("pizza", "soup", "sandwiches", "curry", "salad", "dumplings", "pasta", "burritos")
COLOURS = ("green", "purple", "orange", "yellow", "silver", "turquoise", "brown", "crimson")

TALK = (
    "Thanks, that makes sense to me.",
    "Let us take that one step at a time.",
    "I agree with what was said before.",
    "Could you say a little more about that?",
    "We talked about this at length last week.",
    "I would rather not rush this.",
    "That is a fair point, and I have nothing to add.",
    "Let me write that down so that we do not forget it.",
    "I am sorry, my microphone was off for a moment.",
    "It is good to see everybody again.",
    "We should keep an eye on the time.",
    "I will send a summary to everyone after the call.",
    "There were some questions about it, but they have been answered.",
    "Let us move on to the next point.",
    "I think we are all on the same page here.",
    "As always, tell me if anything is unclear.",
)


@dataclass(frozen=True)
class Fact:
    """One thing that was said.

    Attributes:
        said: the sentence.
        question: that asks for it.
        key: words that an answer must hold.
    """

    said: str
    question: str
    key: str


@dataclass(frozen=True)
class Meeting:
    """A transcript and what it says."""

    text: str
    facts: tuple[Fact, ...]


def make_meeting(seed: int, lines: int) -> Meeting:
    """A meeting of about so many lines, eleven tokens each in the median.

    Args:
        seed: decides everything.
        lines: of the transcript, at least 8.
    """
    rng = random.Random(seed)
    people = rng.sample(NAMES, 5)
    facts = _facts(rng, people)
    places = sorted(rng.sample(range(lines), len(facts)))
    spoken = dict(zip(places, rng.sample(facts, len(facts)), strict=True))
    text = []
    for line in range(lines):
        words = spoken[line].said if line in spoken else rng.choice(TALK)
        text.append(f"{rng.choice(people)}: {words}")
    return Meeting("\n".join(text), tuple(facts))


def _facts(rng: random.Random, people: list[str]) -> list[Fact]:
    thing, task = rng.sample(THINGS, 2)
    owner, guest = rng.sample(people, 2)
    budget, seats = rng.randrange(12, 98) * 100, rng.randrange(21, 99)
    day, date, place = rng.choice(DAYS), f"{rng.choice(MONTHS)} {rng.randrange(2, 29)}", rng.choice(PLACES)
    firm, food, colour = rng.choice(FIRMS), rng.choice(FOODS), rng.choice(COLOURS)
    return [
        Fact(
            f"The budget for the {thing} is {budget} euros.",
            f"What is the budget for the {thing}?",
            f"{budget}",
        ),
        Fact(f"{owner} will write the {task}.", f"Who will write the {task}?", owner),
        Fact(f"The conference takes place in {place}.", "Where does the conference take place?", place),
        Fact(f"The deadline for the report is {date}.", "What is the deadline for the report?", date),
        Fact(f"We decided to work with the company {firm}.", "Which company do we work with?", firm),
        Fact(f"We have our lunch on {day}, and there will be {food}.", "What will there be for lunch?", food),
        Fact(f"The new office has {seats} seats.", "How many seats does the new office have?", f"{seats}"),
        Fact(f"The logo will be {colour}, as {guest} suggested.", "Which colour will the logo be?", colour),
    ]
