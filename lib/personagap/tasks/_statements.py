"""Statements of a program: which of them the tests of it need, and what they act on."""

import ast
import re
import warnings

#: Characters of an answer's code that are parsed: no program of MBPP comes near.
LENGTH = 50_000
_FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)


def parsed(program: str) -> list[ast.stmt]:
    """Its statements; none if it is no program."""
    try:
        # The text's own odd escapes are no fault of ours to warn of.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(program).body if len(program) <= LENGTH else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def is_prose(statement: ast.stmt) -> bool:
    """Whether a statement does nothing, as words and marks do that happen to be Python."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    acts = ast.Call | ast.Constant
    return isinstance(statement, ast.Expr) and not isinstance(statement.value, acts)


def guarded(program: str) -> str:
    """A program that goes on where what it does outside its definitions fails."""
    statements = parsed(program)
    handler = ast.ExceptHandler(ast.Name("BaseException"), None, [ast.Pass()])
    tried = [ast.Try([each], [handler], [], []) if _acts(each) else each for each in statements]
    return program if tried == statements else _written(ast.Module(tried, [])) or program


def _acts(statement: ast.stmt) -> bool:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    acting = (isinstance(node, ast.Load | ast.Assert) for node in ast.walk(statement))
    return not isinstance(statement, kinds) and any(acting)


def complete(program: str, sources: list[str], wanted: set[str]) -> str:
    """A program after those statements of other sources that it, or a test, needs.

    A name that several bind is taken from the last of them.
    """
    own, room = parsed(program), LENGTH
    pool: dict = {}
    # Room for all sources together: an answer may hold many blocks as long as one may be.
    for source in sources:
        room -= len(source)
        for statement in parsed(source) if room >= 0 else []:
            pool |= dict.fromkeys(_names_bound(statement), statement)
    # "*", since a star import may bring any of the names.
    needed, missing = [], [*wanted, *_names_read(own), "*"]
    known = {name for statement in own for name in _names_bound(statement)}
    while missing:
        name = missing.pop()
        if name not in known and name in pool:
            needed.append(pool[name])
            known |= _names_bound(pool[name])
            missing += _names_read([pool[name]])
    # In the order of the sources, as one may use another when it is run.
    helpers = [each for each in dict.fromkeys(pool.values()) if each in needed]
    # These come first, or nothing compiles.
    future = _FUTURE.findall(program) if helpers else []
    program = _FUTURE.sub("", program) if helpers else program
    return "\n".join([*future, *map(_written, helpers), program])


def _written(node: ast.AST) -> str:
    """A node as code; none for what is nested too deep, as a sum of a thousand terms is."""
    try:
        return ast.unparse(node)
    except RecursionError:
        return ""


def _names_bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(name.asname or name.name).split(".")[0] for name in statement.names}
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return set()
    # Of what is bound in an "if" or "try" too.
    inner = [part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.stmt)]
    inner += [part for each in getattr(statement, "handlers", []) for part in each.body]
    nodes = [node for target in _targets(statement) for node in ast.walk(target)]
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    return named.union(*map(_names_bound, inner))


def _targets(statement: ast.stmt) -> list[ast.expr]:
    """What an assignment assigns to."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign) else []


def _names_read(statements: list[ast.stmt]) -> set[str]:
    nodes = (node for statement in statements for node in ast.walk(statement))
    return {node.id for node in nodes if isinstance(node, ast.Name)}
