"""Extraction of the program in an answer, fenced or bare, with helpers from its other blocks."""

import builtins
import json
import re
import textwrap
from typing import NamedTuple

from personagap.models import answers
from personagap.tasks._statements import LENGTH, guard_effects, is_prose, parse, with_helpers

#: Zero-width characters are removed, and special spaces become plain ones.
_SPACES = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"), "")
_SPACES |= dict.fromkeys(map(ord, "\u00a0\u202f\u3000"), " ")
# Triple quotes too, if they are labelled like a fence
_FENCE = re.compile(r"`{3,}|~{3,}|(?:\'\'\'|\"\"\")(?= ?python\b)")
_LABEL = re.compile(r"[\w+#.-]*|copy code|\{.*\}|(?:python|py)[\d.]*[\s,:{=].*", re.IGNORECASE)
_PYTHON = re.compile(r"[{.\s]*(?:i?python|py|(?:copy )?code\b|$)", re.IGNORECASE)
#: A label on the same line as the start of the program
_INLINE_LABEL = re.compile(r"(?i) ?(?:python|py)[\d.]* +(?=(?:async|def|class|import|from) |@)")
#: What may follow a closing fence on its line
_AFTER_FENCE = re.compile(r"(?:</?\w{1,20}>|[”.*]|\s)+$")
#: What may surround a bare program: HTML tags, and markers of prompts such as MBPP's own
_WRAPPERS = re.compile(
    r"</?(?:code|pre|answer|solution|python)\b[^<>\n]{0,80}>|\[/?(?:BEGIN|DONE|PYTHON|CODE)\]"
    r"|<!\[CDATA\[|\]\]>"
    # Quotes that serve as a fence without a label
    r"|^`{1,2}|`{1,2}$|^(?:'''|\"\"\")$(?=\n(?:async |def |class |import |from |@))"
    # A label before a program on the same line: "Solution: def total(xs):"
    r"|^[A-Z][A-Za-z ]{0,30}: ?(?=(?:async )?def \w+\(|import \w|from \w+ import|@\w)",
    re.IGNORECASE | re.MULTILINE,
)
#: Lines that a notebook, a shell or a web page adds to a program
_COMMANDS = re.compile(r"^(?:(?:!|%%?)\w.*|copy code)$", re.IGNORECASE | re.MULTILINE)
#: What precedes each line of a session of an interpreter (">>> ", "In [1]: ", "   ...: "), and of a
#: listing with numbers or with changes
_PROMPT = re.compile(r"(?:>>>|\.\.\.|In \[\d+\]:|   +\.\.\.:)(?: |$)")
_LINE_NUMBER = re.compile(r" *\d+(?:[.:|)]| [|:])?(?: |$)")
_CHANGE = re.compile(r"[+-]|@@.*")
_INLINE = re.compile(r"`([^`\n]+)`")
_QUOTES = re.compile(r'"""|\'\'\'')
_NAME = re.compile(r"\b[A-Za-z_]\w*")
_BINDING = re.compile(
    r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)|^(\w+)[ \t]*=(?!=)", re.MULTILINE
)
#: The start of a line that continues the statement before it
_CONTINUATION = re.compile(r"[)\]}#]|(?:else|elif|except|finally)\b|$")
_BETTER = re.compile(
    r"\b(?:better|corrected|correct|fix|fixed|improved|final|faster|(?<!less )efficient|instead"
    r"|optimi[sz]ed|updated|cleaner|properly|simpler|shorter|again|attempt|sorry|oops)\b",
    re.IGNORECASE,
)
_WORSE = re.compile(
    r"\b(?:slower|worse|na[iï]ve|inefficient|less|brute[- ]force|alternative(?:ly)?|another|or you"
    r"|(?:can|could) also|(?:not|n't) (?:to|work)|pitfall|compar(?:e|ison)|avoid"
    r"|do(?:n't| not)|original)\b"
    # In a sentence before the last one, these words refer to the block above.
    r"|(?<!above is )\b(?:incorrect|wrong|buggy|broken|bad|mistake)\b(?![\s\S]*[.!?]\s+\S)",
    re.IGNORECASE,
)


class Block(NamedTuple):
    """A block of code and the prose before it.

    ``python`` says whether the label is compatible with Python, ``closed`` whether the fence was
    closed.
    """

    code: str
    prose: str
    python: bool
    closed: bool = True


def code(text: str, tests: list[str]) -> str | None:
    r"""Return the program in a response: the last fenced block that defines what the tests call.

    A block that the prose calls worse does not replace an earlier one. Imports and helpers are
    taken from the other blocks. If the response is a JSON document, its program strings are used.
    Without a defining block, the statements that the tests need are collected from the prose, and
    failing that the first block is returned. The last fence may be unclosed (a truncated answer).
    Statements outside definitions, such as examples, the answer's own tests or ``input()``, may
    fail without ending the program, because only the task's tests count.

    Examples
    --------
    >>> code("```python\nimport math\n```\n```python\ndef f(n): return math.pi * n\n```", ["f(1)"])
    'import math\ndef f(n): return math.pi * n'
    """
    program = _extract(text, tests)
    return program and guard_effects(program)


def _extract(text: str, tests: list[str]) -> str | None:
    text = _COMMANDS.sub("", answers.visible(text)[: 4 * LENGTH].translate(_SPACES))
    text = _programs_in_json(re.sub("\r\n?", "\n", text))
    names = set(_NAME.findall("\n".join(tests)))
    called = set(re.findall(r"[A-Za-z_]\w*(?=\s*\()", "\n".join(tests)))
    # Builtins only help a test, as in `assert set(f(2)) == …`, unless the task is to write `sum`.
    called = called - set(dir(builtins)) or called
    blocks = [inner for block in _blocks(text) for inner in _unnested(block)]
    defining = [index for index, block in enumerate(blocks) if called & _bound_names(block.code)]
    # Labels may be wrong, so they rule out a block only if one labelled as Python defines the
    # function as well.
    defining = [index for index in defining if blocks[index].python] or defining
    if defining:
        # The last block, since answers improve on themselves, unless the prose calls it worse
        improved = [index for index in defining[1:] if not _called_worse(blocks[index].prose)]
        chosen = [defining[0], *improved][-1]
        others = [*blocks[chosen + 1 :], *blocks[:chosen]]
        program, sources = blocks[chosen].code, [block.code for block in others if block.python]
        if not parse(program):
            # Only the complete statements count, as of an answer that was truncated, or that holds
            # a shell command.
            whole = with_helpers("", [*sources, *_chunks(program[:LENGTH])], names)
            return whole if called & _bound_names(whole) else program
        return with_helpers(program, sources, names)
    text = _unprefixed(textwrap.dedent(_WRAPPERS.sub("\n", text)))
    if not called & _bound_names(text):
        # A program inside a sentence, or inside a call of a tool
        inline = [part for part in _INLINE.findall(text) if called & _bound_names(part)]
        text = inline[-1] if inline else _programs_in_json(text[text.find("{") :])
    elif "\n" not in text.strip() and not parse(text):
        text = text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
    if called & _bound_names(text):
        statements = parse(text)
        if statements and not any(map(is_prose, statements)):
            return text
        return with_helpers("", _chunks(text[:LENGTH]), names)
    return blocks[0].code if blocks else None


def _called_worse(prose: str) -> bool:
    # The last sentence speaks of the block that follows, the ones before perhaps of another.
    last = re.split(r"[.!?]\s+", prose.strip())[-1]
    worse = [text for text in (last, prose) if _WORSE.search(text)]
    return bool(worse) and not _BETTER.search(worse[0])


def _bound_names(program: str) -> set[str]:
    """Return the names that a program binds, whether or not it compiles."""
    return {name for names in _BINDING.findall(program) for name in names}


def _blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a text."""
    blocks, lines, start, prose_start = [], text.split("\n"), 0, 0
    while start < len(lines):
        line = lines[start]
        if not (fence := _FENCE.search(line)):
            start += 1
            continue
        before, rest = line[: fence.start()], line[fence.end() :]
        prose = "\n".join([*lines[prose_start:start], before])[-300:]
        rest, closed = _INLINE_LABEL.sub("", rest), True
        # A block on a single line, "```code```"
        if fence[0][:3] in rest:
            label, body, start = "", [rest[: rest.index(fence[0][:3])]], start + 1
        else:
            label = rest.strip() if _LABEL.fullmatch(rest.strip()) else ""
            end, last = _find_closing_fence(lines, start + 1, fence[0])
            body = [*([] if label or not rest.strip() else [rest]), *lines[start + 1 : end], last]
            start, closed = end + 1, end < len(lines)
        code = _programs_in_json(_unprefixed(_dedented(body, before)))
        blocks.append(Block(code, prose, bool(_PYTHON.match(label)), closed))
        prose_start = start
    return blocks


def _unnested(block: Block) -> list[Block]:
    """Return the inner blocks of a block that starts with a fence; other blocks unchanged."""
    return _blocks(block.code) if _FENCE.match(block.code.lstrip()) else [block]


def _unprefixed(code: str) -> str:
    """Return the input lines of an interpreter session, and the program of a listing with line
    numbers or marks of changes; other code unchanged.
    """
    lines = code.split("\n")
    if _PROMPT.match(code):
        return "\n".join(_PROMPT.sub("", line, count=1) for line in lines if _PROMPT.match(line))
    filled = [line for line in lines if line.strip()]
    for prefix in (_LINE_NUMBER, _CHANGE):
        if filled and all(map(prefix.match, filled)) and not parse(code):
            kept = (line for line in lines if not line.startswith(("-", "@@")))
            return textwrap.dedent("\n".join(prefix.sub("", line, count=1) for line in kept))
    return code


def _programs_in_json(code: str) -> str:
    """Return the strings of a JSON document that hold programs; other code unchanged."""
    if not code.lstrip().startswith(("{", "[", '"')):
        return code
    try:
        # Not strict, because models leave the line breaks of programs unescaped.
        decoder = json.JSONDecoder(strict=False)
        pending, programs = [decoder.raw_decode(code.lstrip())[0]], []
    except (ValueError, RecursionError):
        return code
    while pending:
        value = pending.pop()
        pending += value.values() if isinstance(value, dict) else []
        pending += value if isinstance(value, list) else []
        programs += [value] if isinstance(value, str) and _bound_names(value) else []
    return "\n\n".join(reversed(programs)) or code


def _find_closing_fence(lines: list[str], start: int, fence: str) -> tuple[int, str]:
    """Return the index of the line that closes a block, and the code before the fence on it.

    A fence inside a docstring counts only if there is no other.
    """
    open_quotes, in_docstring = None, None
    for index in range(start, len(lines)):
        line = lines[index].rstrip()
        if fence in line[-60:]:
            line = line[:-60] + _AFTER_FENCE.sub("", line[-60:])
        if line.endswith(fence) and line.count(fence[:3]) * 3 < len(fence) + 3:
            closing = index, line.rstrip(fence[0])
            if not open_quotes:
                return closing
            in_docstring = in_docstring or closing
        open_quotes = _open_quotes(lines[index], open_quotes)
    return in_docstring or (len(lines), "")


def _open_quotes(line: str, opened: str | None) -> str | None:
    """Return the triple quotes that are open after a line; ``opened`` are those before it."""
    for quotes in _QUOTES.findall(line):
        if opened is None:
            opened = quotes
        elif quotes == opened:
            opened = None
    return opened


def _dedented(lines: list[str], before: str) -> str:
    """Return lines without the indentation, or the quotation marks ">", of their fence."""
    if ">" in before:
        lines = [re.sub(r"^[ \t]*> ?", "", line) for line in lines]
    elif not re.search(r"\w", before.lstrip("0123456789. \t)-*+")):
        lines = [line[min(len(before), len(line) - len(line.lstrip())) :] for line in lines]
    return textwrap.dedent("\n".join(lines)).strip("\n")


def _chunks(text: str) -> list[str]:
    """Split a text before each line that may start a statement.

    The indented part of each chunk comes as a chunk of its own, before all whole chunks.
    """
    chunks: list[list[str]] = [[]]
    open_quotes = None
    for line in text.split("\n"):
        decorated = chunks[-1] and chunks[-1][-1].startswith("@")
        if not (open_quotes or decorated or line[:1].isspace() or _CONTINUATION.match(line)):
            chunks.append([])
        chunks[-1].append(line)
        open_quotes = _open_quotes(line, open_quotes)
    joined = ["\n".join(chunk) for chunk in chunks]
    return [*(textwrap.dedent(chunk.partition("\n")[2]) for chunk in joined), *joined]
