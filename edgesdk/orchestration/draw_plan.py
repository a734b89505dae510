"""Draws what a plan did: a tree with times for terminals, a graph over time as SVG for people to look at."""

from __future__ import annotations

from html import escape

from edgesdk.bundle.printable import printable
from edgesdk.plans.skeleton_answer import NodeAnswer, SkeletonAnswer

_COLUMNS = 40
_WIDTH, _ROW, _LEFT, _TOP = 920, 46, 40, 40
_COLOURS = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#084594")
"""Of difficulties 1 to 5."""

_FAILED = "#d62728"


def plan_tree(answer: SkeletonAnswer) -> str:
    """A line a node: its bar over time, what it needs, how hard it is, and what it is about.

    In a bar `.` is waiting for a first token, `=` is writing.

    Args:
        answer: with a plan, or one that says why there is none.
    """
    if not answer.nodes:
        return f"no plan: {printable(answer.fallback or 'nothing was planned')}"
    scale = _COLUMNS / max(answer.wall_s, 1e-9)
    lines = []
    if answer.plan_s:
        bar = "~" * max(1, round(answer.plan_s * scale))
        lines.append(f"plan |{bar:<{_COLUMNS}}| {answer.plan_s:6.2f} s  {answer.plan_tokens} tokens")
    for node in answer.nodes:
        ready, first, ended = _times(node)
        waits, ends = round(ready * scale), min(_COLUMNS, max(round(ended * scale), round(ready * scale) + 1))
        writes = min(max(round(first * scale), waits), ends)
        bar = " " * waits + "." * (writes - waits) + "=" * (ends - writes)
        needs = f" after {', '.join(map(str, node.node.parents))}" if node.node.parents else ""
        problem = f"  ! {printable(node.error)}" if node.error else ""
        lines.append(
            f"{node.node.number:4} |{bar:<{_COLUMNS}}| {ended - ready:6.2f} s  "
            f"[{node.node.difficulty}]{needs}  {printable(node.node.task)}{problem}"
        )
    return "\n".join(lines)


def plan_svg(answer: SkeletonAnswer) -> str:
    """The graph over time: a bar for each node, an arrow from each parent; darker is harder.

    Args:
        answer: with a plan.
    """
    scale = (_WIDTH - 2 * _LEFT) / max(answer.wall_s, 1e-9)
    rows = len(answer.nodes) + (1 if answer.plan_s else 0)
    height = _TOP + rows * _ROW + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>',
        *_axis(answer.wall_s, scale, height),
    ]
    top = _TOP
    if answer.plan_s:
        parts += _bar(0.0, 0.0, answer.plan_s, top, scale, "#bbbbbb", f"plan, {answer.plan_tokens} tokens")
        top += _ROW
    place = {node.node.number: top + index * _ROW for index, node in enumerate(answer.nodes)}
    for node in answer.nodes:
        number, y = node.node.number, place[node.node.number]
        ready, first, ended = _times(node)
        for parent in node.node.parents:
            before = next(each for each in answer.nodes if each.node.number == parent)
            parts.append(
                f'<line x1="{_x(before.ended_s, scale):.1f}" y1="{place[parent] + 14}" '
                f'x2="{_x(ready, scale):.1f}" y2="{y + 6}" stroke="#555" marker-end="url(#tip)"/>'
            )
        colour = _FAILED if node.error else _COLOURS[node.node.difficulty - 1]
        words = printable(f"{number}. {node.node.task}" + (f" ({node.error})" if node.error else ""))
        parts += _bar(ready, first, ended, y, scale, colour, words)
    return "\n".join([*parts, "</svg>", ""])


def _times(node: NodeAnswer) -> tuple[float, float, float]:
    first = node.ended_s if node.first_s is None else node.first_s
    return node.ready_s, first, max(node.ended_s, node.ready_s)


def _x(seconds: float, scale: float) -> float:
    return _LEFT + seconds * scale


def _bar(
    ready: float, first: float, ended: float, y: int, scale: float, colour: str, words: str
) -> list[str]:
    """A bar, pale until the first token, with words below it."""
    start, writes, end = _x(ready, scale), _x(first, scale), _x(ended, scale)
    side = f'x="{start:.1f}" text-anchor="start"'
    if start > _WIDTH * 0.6:
        side = f'x="{_WIDTH - 8}" text-anchor="end"'
    return [
        f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="14" fill="{colour}" '
        'fill-opacity="0.35"/>',
        f'<rect x="{writes:.1f}" y="{y}" width="{max(end - writes, 1):.1f}" height="14" fill="{colour}"/>',
        f'<text {side} y="{y + 28}">{escape(_short(words))}</text>',
    ]


def _axis(wall_s: float, scale: float, height: int) -> list[str]:
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 300, 3600, 1e9) if wall_s / s <= 10)
    marks = []
    at = 0.0
    while at <= wall_s:
        x = _x(at, scale)
        marks.append(f'<line x1="{x:.1f}" y1="24" x2="{x:.1f}" y2="{height - 8}" stroke="#e5e5e5"/>')
        marks.append(f'<text x="{x:.1f}" y="18" text-anchor="middle" fill="#555">{at:g} s</text>')
        at = round(at + step, 6)
    return marks


def _short(words: str, most: int = 110) -> str:
    return words if len(words) <= most else f"{words[: most - 3]}..."
