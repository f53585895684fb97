"""The program that an answer gives: fenced or bare, with what it needs of its other blocks."""

import builtins
import json
import re
import textwrap
from typing import NamedTuple

from personagap.models import answers
from personagap.tasks._statements import LENGTH, complete, guarded, is_prose, parsed

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
    r"</?(?:code|pre|answer|solution|python)\b[^<>\n]{0,80}>|\[/?(?:BEGIN|DONE|PYTHON|CODE)\]"
    # Quotes as a fence without a label.
    r"|^`{1,2}|`{1,2}$|^(?:'''|\"\"\")$(?=\n(?:async |def |class |import |from |@))",
    re.IGNORECASE | re.MULTILINE,
)
#: What a notebook, a shell or a page adds to a program.
_COMMANDS = re.compile(r"^(?:[!%]\w.*|copy code)$", re.IGNORECASE | re.MULTILINE)
_QUOTES = re.compile(r'"""|\'\'\'')
_NAMES = re.compile(r"\b[A-Za-z_]\w*")
_BINDS = re.compile(
    r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)|^(\w+)[ \t]*=(?!=)", re.MULTILINE
)
_GOES_ON = re.compile(r"[)\]}]|(?:else|elif|except|finally)\b|$")
_BETTER = re.compile(
    r"\b(?:better|corrected|correct|fix|fixed|improved|final|faster|(?<!less )efficient|instead"
    r"|optimi[sz]ed|updated|cleaner|simpler|shorter|again|attempt|sorry|oops)\b",
    re.IGNORECASE,
)
_WORSE = re.compile(
    r"\b(?:slower|worse|na[iï]ve|inefficient|less|brute[- ]force|alternative(?:ly)?|another|or you"
    r"|compar(?:e|ison)|avoid|do(?:n't| not)|original)\b"
    # In a sentence before the last this is said of the block above.
    r"|(?<!above is )\b(?:incorrect|wrong|buggy|broken|bad|mistake)\b(?![\s\S]*[.!?]\s+\S)",
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
    return program and guarded(program)


def _program(text: str, tests: list[str]) -> str | None:
    text = _COMMANDS.sub("", answers.visible(text)[: 4 * LENGTH].translate(_BLANKS))
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
        if not blocks[chosen].closed and not parsed(program):
            # It was cut: what stands whole counts.
            program, sources = "", [*sources, *_chunks(program[:LENGTH])]
        return complete(program, sources, wanted)
    text = textwrap.dedent(_AROUND.sub("\n", text))
    if called & _bound(text):
        whole = parsed(text)
        if whole and not any(map(is_prose, whole)):
            return text
        return complete("", _chunks(text[:LENGTH]), wanted)
    return blocks[0].code if blocks else None


def _called_worse(prose: str) -> bool:
    return bool(_WORSE.search(prose)) and not _BETTER.search(prose)


def _bound(program: str) -> set[str]:
    """Names that a program binds, whether or not it compiles."""
    return {name for names in _BINDS.findall(program) for name in names}


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
