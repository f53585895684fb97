"""Splitting of tests into expressions for the candidate's process and a comparison made here.

``personagap.sandbox`` explains why.
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
from personagap.sandbox.confining import MAX_LINE

#: Names that the comparison may use
_TRUSTED: dict[str, Any] = {
    kind.__name__: kind for kind in (bool, int, float, str, list, tuple, set, frozenset, dict)
}
_TRUSTED |= {"abs": abs, "math": math, "__builtins__": {}}
#: Builtins that are evaluated here too, because a candidate could patch them; except where a task
#: is to write a function of that name
_BUILTINS = {function.__name__: function for function in (len, max, min, round, sorted, sum)}


def _range(start: int, stop: int, step: int) -> range:
    if len(values := range(start, stop, step)) > MAX_LINE:
        raise ValueError("a range so long that to look for a word in it takes for ever")
    return values


def _fraction(numerator: int, denominator: int) -> Fraction:
    if (type(numerator), type(denominator)) != (int, int):
        raise TypeError("a text, decimal or float may stand for a power of ten that is never done")
    return Fraction(numerator, denominator)


#: Functions that rebuild a container from the list of its elements, and a scalar from its parts
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
#: Time limit in seconds for a constant expression in a test, such as 2**64
CONSTANT_TIMEOUT = 1.0
_COSTLY = ast.Mult | ast.Pow | ast.LShift | ast.Mod | ast.JoinedStr


class _Split(ast.NodeTransformer):
    """Replace calls of the candidate's code by names; keep comparisons, logic and constants."""

    def __init__(self, trusted: Set[str]):
        self.trusted, self.inside = trusted, list[str]()

    def visit(self, node: ast.AST) -> Any:
        # Comparisons are evaluated here, so that no object of the candidate's can decide them.
        compares = isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.keyword)
        # abs(f(2) - 1.5) < 1e-6 is a comparison as a whole.
        difference = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        tolerance = isinstance(node, ast.Call) and ast.unparse(node.func) in ("abs", "math.isclose")
        if compares or difference or tolerance:
            return self.generic_visit(node)
        if not isinstance(node, ast.expr):
            return node
        if all(_is_constant(part, self.trusted) for part in ast.walk(node)):
            return _evaluated(node)
        self.inside.append(ast.unparse(node))
        return ast.Name(f"_{len(self.inside) - 1}", ast.Load())


def _is_constant(part: ast.AST, trusted: Set[str]) -> bool:
    """Return whether a part of an expression is a literal, a ``trusted`` name, or of ``math``."""
    if isinstance(part, ast.Attribute):
        return re.fullmatch(r"math\.[a-z]\w*", ast.unparse(part)) is not None
    return not isinstance(part, ast.Name) or part.id in trusted


def _evaluated(constant: ast.expr) -> ast.expr:
    """Return the value of a constant expression, computed once and under a time limit.

    Expressions that are cheap to compute stay as they are.
    """
    parts = [*ast.walk(constant)]
    functions = [part.func for part in parts if isinstance(part, ast.Call)]
    costly = any(isinstance(part, _COSTLY) for part in parts)
    if not costly and all(isinstance(function, ast.Name) for function in functions):
        return constant
    expression = ast.unparse(constant)
    lines, _ = confining.run("", [[expression]], "import math", CONSTANT_TIMEOUT, None)
    if not lines or lines[0] == "null":
        most = f"takes more than {CONSTANT_TIMEOUT:g} s or {MAX_LINE:,} characters"
        raise UserError(f"{expression[:80]!r} in a test {most}: correct it in the data")
    value = ast.parse(repr(_unpack(*json.loads(lines[0]))), mode="eval").body
    named = any(isinstance(part, ast.Name) and part.id not in _TRUSTED for part in ast.walk(value))
    # The representations "inf" and "nan" are names instead of literals, so these stay as written.
    return constant if named else value


def single_asserts(test: str) -> list[str]:
    """Return the assert statements of a test; other texts as they are (`split_assert` refuses)."""
    try:
        statements = ast.parse(test.strip()).body
    except (SyntaxError, ValueError):
        return [test]
    several = len(statements) > 1 and all(isinstance(node, ast.Assert) for node in statements)
    return list(map(ast.unparse, statements)) if several else [test]


@functools.lru_cache(maxsize=4096)
def split_assert(test: str) -> tuple[CodeType, list[str]]:
    """Split an assert statement.

    Returns the comparison to evaluate here, as code with names ``_0``, ``_1`` …, and the
    expressions that these names stand for. `UserError` if ``test`` is not one assert statement.
    """
    try:
        (statement,) = ast.parse(test.strip()).body
        expression = statement.test if isinstance(statement, ast.Assert) else None
    except (SyntaxError, ValueError):
        expression = None
    if expression is None:
        remedy = "correct it in the data"
        raise UserError(f"the test {test[:80]!r} is not one assert statement: {remedy}")
    # A test that uses no other names tests the program's own `len` or `sum`.
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    trusted = _TRUSTED.keys() | _BUILTINS.keys()
    split = _Split(trusted if names - trusted else _TRUSTED.keys())
    comparison = ast.fix_missing_locations(ast.Expression(split.visit(expression)))
    # Without a comparison (`assert f(2)`), the truth of the value is taken in the candidate's
    # process, because any object may be true but not every object can be sent here.
    if isinstance(comparison.body, ast.Name):
        split.inside = [f"not not ({split.inside[0]})"]
    return compile(comparison, "test", "eval"), split.inside


def _unpack(packed: Any) -> Any:
    """Return the value that ``sandboxed.pack`` packed; raises an error for malformed input."""
    if not isinstance(packed, list):
        return packed
    kind, parts = packed
    if kind == "literal":
        return ast.literal_eval(parts)
    values = map(_unpack, parts)
    return _CONTAINERS[kind](values) if kind in _CONTAINERS else _SCALARS[kind](*values)


def holds(comparison: CodeType, line: str) -> bool:
    """Return whether a test holds for the values on a line of output; False if it is malformed."""
    try:
        values = {f"_{index}": _unpack(packed) for index, packed in enumerate(json.loads(line))}
        return bool(eval(comparison, _TRUSTED | _BUILTINS, values))
    except Exception:
        # The values come from the candidate, so a comparison with an error is a failed test.
        return False
