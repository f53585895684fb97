"""The program that an answer gives: fenced or bare, with what it needs of its other blocks."""

import ast
import builtins
import json
import re
import textwrap
import warnings
from typing import NamedTuple

from personagap.models import answers

#: Characters of an answer's code that are parsed: no program of MBPP comes near.
LENGTH = 50_000
_BLANKS = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"), "")
_BLANKS |= dict.fromkeys(map(ord, "\u00a0\u202f\u3000"), " ")
# Of quotes too, where they are labelled as a fence is.
_FENCE = re.compile(r"`{3,}|~{3,}|(?:\'\'\'|\"\"\")(?= ?python\b)")
_LABEL = re.compile(r"[\w+#.-]*|copy code|\{.*\}|(?:python|py)[\d.]*[\s,:{=].*", re.IGNORECASE)
_PYTHON = re.compile(r"[{.\s]*(?:i?python|py|(?:copy )?code\b|$)", re.IGNORECASE)
#: A label on the line of the program's first words.
_BEGUN = re.compile(r" ?(?:python|py)[\d.]* +(?=(?:async|def|class|import|from) |@)", re.IGNORECASE)
#: What may stand behind a closing fence.
_AFTER = re.compile(r"(?:</?\w{1,20}>|[”.*]|\s)+$")
#: What may stand around a bare program, of HTML and of prompts such as MBPP's own.
_AROUND = re.compile(
    r"</?(?:code|pre|answer|solution|python)\b[^<>\n]{0,80}>|\[/?(?:BEGIN|DONE|PYTHON|CODE)\]|^`|`$",
    re.IGNORECASE | re.MULTILINE,
)
_FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)
_QUOTES = re.compile(r'"""|\'\'\'')
_NAMES = re.compile(r"\b[A-Za-z_]\w*")
_BINDS = re.compile(
    r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)|^(\w+)[ \t]*=(?!=)", re.MULTILINE
)
_GOES_ON = re.compile(r"[)\]}]|(?:else|elif|except|finally)\b|$")
_BETTER = re.compile(
    r"\b(?:better|corrected|correct|fix|fixed|improved|final|faster|(?<!less )efficient|instead"
    r"|optimi[sz]ed|updated|cleaner|simpler|shorter)\b",
    re.IGNORECASE,
)
_WORSE = re.compile(
    r"\b(?:slower|worse|na[iï]ve|inefficient|less|brute[- ]force|alternative(?:ly)?|another|or you"
    r"|compar(?:e|ison)|incorrect|wrong|buggy|broken|bad|avoid|do(?:n't| not)|mistake|original)\b",
    re.IGNORECASE,
)


class Block(NamedTuple):
    """A block of code, the prose before it, whether its label lets it be Python, and whether it
    was closed.
    """

    code: str
    prose: str
    python: bool
    closed: bool = True


def code(text: str, tests: list[str]) -> str | None:
    r"""The program of a response: the last fenced block that defines what the tests call.

    A block that is called worse than the one before does not replace it. Imports and helpers are
    taken from the other blocks; of a JSON document the programs in it are read. Without such a
    block, the statements that the tests need are picked out of the prose; failing that it is the
    first block. A last fence may be unclosed (a truncated answer). Where examples, tests of its own
    or ``input()`` fail, the program goes on: what counts is what is tested.

    Examples
    --------
    >>> code("```python\nimport math\n```\n```python\ndef f(n): return math.pi * n\n```", ["f(1)"])
    'import math\ndef f(n): return math.pi * n'
    """
    program = _program(text, tests)
    return program and _guarded(program)


def _program(text: str, tests: list[str]) -> str | None:
    text = answers.visible(text)[: 4 * LENGTH].translate(_BLANKS)
    text = _out_of_json(re.sub("\r\n?", "\n", text))
    wanted = set(_NAMES.findall("\n".join(tests)))
    called = set(re.findall(r"[A-Za-z_]\w*(?=\s*\()", "\n".join(tests)))
    # What a test calls besides, as in `assert set(f(2)) == …`; but a task may be to write `sum`.
    called = called - set(dir(builtins)) or called
    blocks = [inner for block in _blocks(text) for inner in _within(block)]
    defining = [place for place, block in enumerate(blocks) if called & _bound(block.code)]
    # A label may be wrong: it rules a block out only where one that may be Python defines it too.
    defining = [place for place in defining if blocks[place].python] or defining
    if defining:
        # The last, since answers improve on themselves; but not where the prose calls it worse.
        kept = [place for place in defining[1:] if not _called_worse(blocks[place].prose)]
        chosen = [defining[0], *kept][-1]
        others = [*blocks[chosen + 1 :], *blocks[:chosen]]
        program, sources = blocks[chosen].code, [each.code for each in others if each.python]
        if not blocks[chosen].closed and not _parsed(program):
            # It was cut: what stands whole counts.
            program, sources = "", [*sources, *_chunks(program[:LENGTH])]
        return _complete(program, sources, wanted)
    text = _AROUND.sub("\n", text)
    if called & _bound(text):
        whole = _parsed(text)
        if whole and not any(map(_is_prose, whole)):
            return text
        return _complete("", _chunks(text[:LENGTH]), wanted)
    return blocks[0].code if blocks else None


def _guarded(program: str) -> str:
    """A program that goes on where a call or an assertion outside its definitions fails."""
    statements = _parsed(program)
    handler = ast.ExceptHandler(ast.Name("BaseException"), None, [ast.Pass()])
    guarded = [ast.Try([each], [handler], [], []) if _acts(each) else each for each in statements]
    return program if guarded == statements else _written(ast.Module(guarded, [])) or program


def _acts(statement: ast.stmt) -> bool:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    acting = (isinstance(node, ast.Call | ast.Assert) for node in ast.walk(statement))
    return not isinstance(statement, kinds) and any(acting)


def _called_worse(prose: str) -> bool:
    return bool(_WORSE.search(prose)) and not _BETTER.search(prose)


def _bound(program: str) -> set[str]:
    """Names that a program binds, whether or not it compiles."""
    return {name for names in _BINDS.findall(program) for name in names}


# --- fenced --------------------------------------------------------------------------------------


def _blocks(text: str) -> list[Block]:
    blocks, lines, start, prose = [], text.split("\n"), 0, 0
    while start < len(lines):
        line = lines[start]
        if not (fence := _FENCE.search(line)):
            start += 1
            continue
        before, rest = line[: fence.start()], line[fence.end() :]
        said = "\n".join([*lines[prose:start], before])[-300:]
        rest, closed = _BEGUN.sub("", rest), True
        # All in a line, "```code```", which nothing below closes.
        if fence[0][:3] in rest:
            label, body, start = "", [rest[: rest.index(fence[0][:3])]], start + 1
        else:
            label = rest.strip() if _LABEL.fullmatch(rest.strip()) else ""
            end, last = _closing(lines, start + 1, fence[0])
            body = [*([] if label or not rest.strip() else [rest]), *lines[start + 1 : end], last]
            start, closed = end + 1, end < len(lines)
        code = _out_of_json(_typed(_unindented(body, before)))
        blocks.append(Block(code, said, bool(_PYTHON.match(label)), closed))
        prose = start
    return blocks


def _within(block: Block) -> list[Block]:
    """The blocks of a block that holds others and nothing else; else itself."""
    return _blocks(block.code) if _FENCE.match(block.code.lstrip()) else [block]


def _typed(code: str) -> str:
    """What was typed in a session with an interpreter; other code as it is."""
    if not code.startswith(">>> "):
        return code
    lines = [line for line in code.split("\n") if line.startswith((">>>", "..."))]
    return "\n".join(line[4:] for line in lines)


def _out_of_json(code: str) -> str:
    """The strings of a JSON document that hold programs; other code as it is."""
    if not code.lstrip().startswith(("{", "[")):
        return code
    try:
        # Whoever writes programs into JSON may leave their line breaks as they are.
        rest, texts = [json.loads(code, strict=False)], []
    except (ValueError, RecursionError):
        return code
    while rest:
        value = rest.pop()
        rest += value.values() if isinstance(value, dict) else []
        rest += value if isinstance(value, list) else []
        texts += [value] if isinstance(value, str) and _bound(value) else []
    return "\n\n".join(reversed(texts)) or code


def _closing(lines: list[str], start: int, fence: str) -> tuple[int, str]:
    """The line that closes a block, and the code before the fence there.

    A fence in a docstring closes nothing, unless there is no other.
    """
    quoted, first = None, None
    for number in range(start, len(lines)):
        line = lines[number].rstrip()
        if fence in line[-60:]:
            line = line[:-60] + _AFTER.sub("", line[-60:])
        found = line.endswith(fence) and line.count(fence[:3]) * 3 < len(fence) + 3
        if found and not quoted:
            return number, line.rstrip(fence[0])
        first = first or ((number, line.rstrip(fence[0])) if found else None)
        quoted = _quoted(lines[number], quoted)
    return first or (len(lines), "")


def _quoted(line: str, quoted: str | None) -> str | None:
    """The triple quotes that are open after a line, if ``quoted`` were before it."""
    for quotes in _QUOTES.findall(line):
        quoted = quotes if quoted is None else None if quotes == quoted else quoted
    return quoted


def _unindented(lines: list[str], before: str) -> str:
    """Lines without the indentation, or the marks of a quotation, that their fence has."""
    if ">" in before:
        lines = [re.sub(r"^[ \t]*> ?", "", line) for line in lines]
    elif not re.search(r"\w", before.lstrip("0123456789. \t)-*+")):
        lines = [line[min(len(before), len(line) - len(line.lstrip())) :] for line in lines]
    return textwrap.dedent("\n".join(lines)).strip("\n")


# --- bare, and helpers ---------------------------------------------------------------------------


def _parsed(program: str) -> list[ast.stmt]:
    """Its statements; none if it is no program."""
    try:
        # The text's own odd escapes are no fault of ours to warn of.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(program).body if len(program) <= LENGTH else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _is_prose(statement: ast.stmt) -> bool:
    """Whether a statement does nothing, as words and marks do that happen to be Python."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    acts = ast.Call | ast.Constant
    return isinstance(statement, ast.Expr) and not isinstance(statement.value, acts)


def _chunks(text: str) -> list[str]:
    """A text cut before each line that may begin a statement; what is indented, as a part too."""
    chunks: list[list[str]] = [[]]
    quoted = None
    for line in text.split("\n"):
        decorated = chunks[-1] and chunks[-1][-1].startswith("@")
        if not (quoted or decorated or line[:1].isspace() or _GOES_ON.match(line)):
            chunks.append([])
        chunks[-1].append(line)
        quoted = _quoted(line, quoted)
    whole = ["\n".join(chunk) for chunk in chunks]
    return [*(textwrap.dedent(chunk.partition("\n")[2]) for chunk in whole), *whole]


def _complete(program: str, sources: list[str], wanted: set[str]) -> str:
    """A program after those statements of other sources that it, or a test, needs.

    A name that several bind is taken from the last of them.
    """
    own, room = _parsed(program), LENGTH
    pool: dict = {}
    # Room for all sources together: an answer may hold many blocks as long as one may be.
    for source in sources:
        room -= len(source)
        for statement in _parsed(source) if room >= 0 else []:
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
