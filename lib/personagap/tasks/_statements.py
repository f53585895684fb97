"""Analysis of a program's statements: which ones its tests need, and which may fail."""

import ast
import re
import sys
import warnings

#: Number of characters of code that are parsed at most; MBPP programs are far shorter.
LENGTH = 50_000
_FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)


def parse(program: str) -> list[ast.stmt]:
    """Return the statements of a program; an empty list if the text does not parse."""
    try:
        # Invalid escapes in the answer are not worth a warning to the user.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(program).body if len(program) <= LENGTH else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def is_prose(statement: ast.stmt) -> bool:
    """Return whether a statement has no effect, like words that happen to be valid Python."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    effective = ast.Call | ast.Constant
    return isinstance(statement, ast.Expr) and not isinstance(statement.value, effective)


def guard_effects(program: str) -> str:
    """Wrap statements outside definitions in ``try``, so that their failure ends no program."""
    statements = parse(program)
    handler = ast.ExceptHandler(ast.Name("BaseException"), None, [ast.Pass()])
    guarded = [ast.Try([s], [handler], [], []) if _may_fail(s) else s for s in statements]
    return program if guarded == statements else _unparse(ast.Module(guarded, [])) or program


def _may_fail(statement: ast.stmt) -> bool:
    """Return whether a statement, other than a definition, reads a name, asserts, or imports what
    may not be installed.
    """
    if isinstance(statement, ast.Import | ast.ImportFrom):
        modules = [getattr(statement, "module", None) or name.name for name in statement.names]
        return not {module.split(".")[0] for module in modules} <= sys.stdlib_module_names
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    evaluates = (isinstance(node, ast.Load | ast.Assert) for node in ast.walk(statement))
    return not isinstance(statement, definitions) and any(evaluates)


def with_helpers(program: str, sources: list[str], names: set[str]) -> str:
    """Return a program preceded by the statements from other sources that it, or ``names``, need.

    If several statements bind the same name, the last one is used.
    """
    own, budget = parse(program), LENGTH
    definitions: dict = {}
    # One budget for all sources, because an answer may hold many blocks of maximal length.
    for source in sources:
        budget -= len(source)
        for statement in filter(_compiles, parse(source) if budget >= 0 else []):
            definitions |= dict.fromkeys(_names_bound(statement), statement)
    # "*", because a star import may provide any of the names.
    needed, missing = [], [*names, *_names_read(own), "*"]
    # What a module that may be another block of the answer should provide is not bound.
    sure = [s for s in own if not (isinstance(s, ast.ImportFrom) and _may_fail(s))]
    bound = {name for statement in sure for name in _names_bound(statement)}
    while missing:
        name = missing.pop()
        if name not in bound and name in definitions:
            needed.append(definitions[name])
            bound |= _names_bound(definitions[name])
            missing += _names_read([definitions[name]])
    # In the order of the sources, as one helper may use another while it is defined.
    helpers = [helper for helper in dict.fromkeys(definitions.values()) if helper in needed]
    # Imports from __future__ must come first, or nothing compiles.
    future = _FUTURE.findall(program) if helpers else []
    program = _FUTURE.sub("", program) if helpers else program
    return "\n".join([*future, *map(_unparse, helpers), program])


def _compiles(statement: ast.stmt) -> bool:
    """Return whether a statement that parses can run, unlike a "return" outside a function."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(ast.Module([statement], []), "<statement>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _unparse(node: ast.AST) -> str:
    """Return a node as code; "" if it is nested too deeply, like a sum of a thousand terms."""
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
    # Including names bound inside an "if" or "try"
    inner = [node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.stmt)]
    inner += [node for handler in getattr(statement, "handlers", []) for node in handler.body]
    nodes = [node for target in _targets(statement) for node in ast.walk(target)]
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    return named.union(*map(_names_bound, inner))


def _targets(statement: ast.stmt) -> list[ast.expr]:
    """Return the targets of an assignment."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign) else []


def _names_read(statements: list[ast.stmt]) -> set[str]:
    nodes = (node for statement in statements for node in ast.walk(statement))
    return {node.id for node in nodes if isinstance(node, ast.Name)}
