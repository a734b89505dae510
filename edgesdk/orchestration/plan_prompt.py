"""How a model is asked for a plan: examples, and a grammar that keeps it to the form.

In the grammar a node's parents are numbers below its own, so every plan that it lets through has an order.
"""

from __future__ import annotations

EXAMPLES = """\
Question: Compare trains and planes for a trip from Paris to Rome.
1 | How long does the trip take by train, and what does it cost? | - | 2
2 | How long does the trip take by plane, and what does it cost? | - | 2
3 | Which of the two is better, and for whom? | 1, 2 | 4

Question: How do I plant a small apple tree?
1 | Which place and soil does an apple tree need? | - | 2
2 | How is the hole dug and the soil prepared? | - | 1
3 | How is the tree put in, tied and watered? | 2 | 2
4 | What has to be done in the first year? | - | 3"""

_TASK = r"[^|\x00-\x20][^|\x00-\x1f]{4,140}"


def plan_instruction(most_nodes: int) -> str:
    """What the planner is told.

    Args:
        most_nodes: most lines of the plan.
    """
    return (
        f"Split the question into 2 to {most_nodes} sub-questions that together answer it. Write one line "
        "for each: number | sub-question | numbers of the earlier sub-questions whose answers it needs, or - "
        "| difficulty from 1 (easy) to 5 (hard)"
    )


def plan_question(question: str) -> str:
    """The last part of the planner's prompt."""
    return f"Question: {question}"


def plan_regex(most_nodes: int) -> str:
    """A regular expression of plans with 1 to `most_nodes` lines.

    Args:
        most_nodes: most lines.
    """
    expression = ""
    for number in range(most_nodes, 0, -1):
        parents = "-"
        if number > 1:
            earlier = "|".join(map(str, range(1, number)))
            parents = rf"(-|({earlier})(, ({earlier})){{0,2}})"
        line = rf"{number} \| {_TASK} \| {parents} \| [1-5]\n"
        expression = f"{line}({expression})?" if expression else line
    return expression
