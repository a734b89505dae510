"""Rewrites a parsed template so that it pays for what it does.

jinja2 lets a sandbox see calls, attributes and arithmetic, but not turns of a loop, text put together
with `~`, comparisons, slices, and lists written out. Those get a filter of the sandbox around them, whose
name starts with @ so that no template can be in its way. Constant text is written as any other value,
since jinja2 would show it to nobody.
"""

# ruff: noqa: N802 - jinja2 finds a method by the name of the node

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import TemplateSyntaxError, nodes
from jinja2.visitor import NodeTransformer

STEP = "@step"
"""Pays for a turn of a loop; its value is true."""

BUILT = "@built"
"""Pays for a list, tuple, dictionary or slice that was built."""

READ = "@read"
"""Pays for a value that is read from end to end."""

CONCAT = "@concat"
"""Puts texts together."""

_DEEPEST = 90
"""Levels of a template's tree; Python compiles about a hundred brackets inside each other."""

_MOST_NODES = 100_000


def count_steps(template: nodes.Template) -> nodes.Template:
    """The same template, which pays for its steps.

    Raises:
        TemplateSyntaxError: it is nested too deeply, or has too many parts.
    """
    _check_size(template)
    changed = _Counting().visit(template)
    assert isinstance(changed, nodes.Template)
    return changed


def _check_size(template: nodes.Template) -> None:
    """Without recursion: `a + b + c ...` is a deep tree that the parser makes in a loop."""
    level: Sequence[nodes.Node] = [template]
    depth = seen = 0
    while level:
        seen += len(level)
        if seen > _MOST_NODES:
            raise TemplateSyntaxError(f"it has more than {_MOST_NODES} parts", level[0].lineno)
        if depth > _DEEPEST:
            raise TemplateSyntaxError(f"it is nested more than {_DEEPEST} deep", level[0].lineno)
        level = [child for node in level for child in node.iter_child_nodes()]
        depth += 1


class _Counting(NodeTransformer):
    """One method a kind of node, as jinja2 calls them."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body = [nodes.ExprStmt(_step(node.lineno), lineno=node.lineno), *node.body]
        if node.test is not None:
            node.test = nodes.And(_step(node.lineno), node.test, lineno=node.lineno)
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        constant = nodes.Const(node.data, lineno=node.lineno)
        return nodes.MarkSafeIfAutoescape(constant, lineno=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), CONCAT)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._built(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._built(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._built(node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        return self._built(node) if isinstance(node.arg, nodes.Slice) else self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _read(node.expr)
        for operand in node.ops:
            operand.expr = _read(operand.expr)
        return node

    def _built(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, BUILT)


def _step(line: int) -> nodes.Filter:
    return _filter(nodes.Const(True, lineno=line), STEP)


def _read(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filter(node, READ)


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
