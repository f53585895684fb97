"""Tests taken apart: what needs the candidate's code, and the comparison that is made here.

See ``personagap.sandbox``, which says why.
"""

import ast
import collections
import datetime
import functools
import json
import math
import re
from collections.abc import Set
from decimal import Decimal
from fractions import Fraction
from types import CodeType
from typing import Any

from personagap.errors import UserError
from personagap.sandbox import confining
from personagap.sandbox.confining import LINE

_OUTSIDE: dict[str, Any] = {
    kind.__name__: kind for kind in (bool, int, float, str, list, tuple, set, frozenset, dict)
}
_OUTSIDE |= {"abs": abs, "math": math, "__builtins__": {}}
#: Evaluated here as well, since a candidate can patch them, unless the program is asked for a
#: function of that name.
_BUILTINS = {function.__name__: function for function in (len, max, min, round, sorted, sum)}


def _range(start: int, stop: int, step: int) -> range:
    if len(made := range(start, stop, step)) > LINE:
        raise ValueError("a range so long that to look for a word in it takes for ever")
    return made


def _fraction(numerator: int, denominator: int) -> Fraction:
    if (type(numerator), type(denominator)) != (int, int):
        raise TypeError("a text, decimal or float may stand for a power of ten that is never done")
    return Fraction(numerator, denominator)


#: How a value is rebuilt from its parts.
_CONTAINERS = {
    **{kind.__name__: kind for kind in (list, tuple, set, frozenset, dict, bytearray)},
    **{kind.__name__: kind for kind in (collections.deque, collections.OrderedDict)},
    "Counter": lambda pairs: collections.Counter(dict(pairs)),
    "dict_keys": lambda keys: dict.fromkeys(keys).keys(),
    "dict_values": lambda values: dict(enumerate(values)).values(),
    "dict_items": lambda pairs: dict(pairs).items(),
}
_SCALARS = {
    **{kind.__name__: kind for kind in (Decimal, datetime.timedelta)},
    **{
        kind.__name__: kind.fromisoformat
        for kind in (datetime.datetime, datetime.date, datetime.time)
    },
    "Fraction": _fraction,
    "range": _range,
}
#: Seconds for what a test itself computes, such as 2**64.
CONSTANT = 1.0
_COSTLY = ast.Mult | ast.Pow | ast.LShift | ast.Mod | ast.JoinedStr


class _Split(ast.NodeTransformer):
    """Replace what needs the candidate's code by names; keep comparisons, logic and constants."""

    def __init__(self, known: Set[str]):
        self.known, self.inside = known, list[str]()

    def visit(self, node: ast.AST) -> Any:
        # What compares values is made here, so that no object of the candidate's decides it.
        compares = isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.keyword)
        # abs(f(2) - 1.5) < 1e-6 compares too.
        difference = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        tolerance = isinstance(node, ast.Call) and ast.unparse(node.func) in ("abs", "math.isclose")
        if compares or difference or tolerance:
            return self.generic_visit(node)
        if not isinstance(node, ast.expr):
            return node
        if all(_is_constant(part, self.known) for part in ast.walk(node)):
            return _computed(node)
        self.inside.append(ast.unparse(node))
        return ast.Name(f"_{len(self.inside) - 1}", ast.Load())


def _is_constant(part: ast.AST, known: Set[str]) -> bool:
    """Can this part of an expression be evaluated here: literals, ``known`` names, ``math``?"""
    if isinstance(part, ast.Attribute):
        return re.fullmatch(r"math\.[a-z]\w*", ast.unparse(part)) is not None
    return not isinstance(part, ast.Name) or part.id in known


def _computed(constant: ast.expr) -> ast.expr:
    """The value of a constant expression, if it takes a computation: that is done once, and under a
    limit.
    """
    parts = [*ast.walk(constant)]
    called = [part.func for part in parts if isinstance(part, ast.Call)]
    if not any(isinstance(part, _COSTLY) for part in parts) and all(
        isinstance(func, ast.Name) for func in called
    ):
        return constant
    expression = ast.unparse(constant)
    lines, _ = confining.run("", [[expression]], "import math", CONSTANT, None)
    if not lines or lines[0] == "null":
        most = f"takes more than {CONSTANT:g} s or {LINE:,} characters"
        raise UserError(f"{expression[:80]!r} in a test {most}: correct it in the data")
    value = ast.parse(repr(_plain(*json.loads(lines[0]))), mode="eval").body
    named = any(isinstance(part, ast.Name) and part.id not in _OUTSIDE for part in ast.walk(value))
    # "inf" and "nan" are names, no literals: they stay as they were written.
    return constant if named else value


def singles(test: str) -> list[str]:
    """The assert statements of a test; itself, if it holds else, for `take_apart` to refuse."""
    try:
        statements = ast.parse(test.strip()).body
    except (SyntaxError, ValueError):
        return [test]
    apart = len(statements) > 1 and all(isinstance(one, ast.Assert) for one in statements)
    return list(map(ast.unparse, statements)) if apart else [test]


@functools.lru_cache(maxsize=4096)
def take_apart(test: str) -> tuple[CodeType, list[str]]:
    """The comparison to make here (code with names _0, _1 …), and the expressions behind these."""
    try:
        (statement,) = ast.parse(test.strip()).body
        expression = statement.test if isinstance(statement, ast.Assert) else None
    except (SyntaxError, ValueError):
        expression = None
    if expression is None:
        remedy = "correct it in the data"
        raise UserError(f"the test {test[:80]!r} is not one assert statement: {remedy}")
    # A test that names nothing else asks for the program's own `len` or `sum`.
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    both = _OUTSIDE.keys() | _BUILTINS.keys()
    split = _Split(both if names - both else _OUTSIDE.keys())
    outside = ast.fix_missing_locations(ast.Expression(split.visit(expression)))
    # Its truth is told where it is made: an object of the candidate's own does not travel.
    # The candidate's value itself is the truth: any object may be true.
    if isinstance(outside.body, ast.Name):
        split.inside = [f"not not ({split.inside[0]})"]
    return compile(outside, "test", "eval"), split.inside


def _plain(packed: Any) -> Any:
    """What ``sandboxed.pack`` packed; fails on whatever is malformed."""
    if not isinstance(packed, list):
        return packed
    kind, parts = packed
    if kind == "literal":
        return ast.literal_eval(parts)
    values = map(_plain, parts)
    return _CONTAINERS[kind](values) if kind in _CONTAINERS else _SCALARS[kind](*values)


def holds(outside: CodeType, line: str) -> bool:
    """Does the test hold for the values sent back? Whatever is malformed does not."""
    try:
        values = {f"_{number}": _plain(packed) for number, packed in enumerate(json.loads(line))}
        return bool(eval(outside, _OUTSIDE | _BUILTINS, values))
    except Exception:
        # The values are the candidate's: a comparison that fails is a failed test.
        return False
