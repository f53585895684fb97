"""Extraction of the choice (A–D) that an answer states."""

import re

from personagap.tasks._letter_statements import (
    ANOTHER,
    BEFORE,
    BRACKETED,
    CAUSE,
    ENDS,
    REASON,
    STATEMENT,
    UNLIKE,
    called_correct,
    letter_of,
    revised,
    stated,
)
from personagap.tasks._wording import COUNTERFACTUAL, actual, denied, keys, plain

#: Bullets and check marks at the start of a line.
_MARK = r"(?:(?:[-•>#+=→➡✅✔✓☑👉|]|\d\.|\[x\]) ?){0,6}"
_NAMED = rf"{_MARK}(?:{keys('answer', 'choice')}[ :]{{0,2}})?"
#: A line that consists of a choice: "C", "(c)", "Option C."
_ALONE = rf"[(\[]?(?:{BRACKETED}|([A-Ha-d]))[)\]]?[.:!| 。✅✔✓☑]{{0,3}}"
_CHOICE_ONLY = re.compile(rf"{_NAMED}{_ALONE}")
#: A last line with any label that does not reject: "Verdict: C"
_LABELLED = re.compile(rf"(?!.*{UNLIKE})[^\W\d][\w; ]{{2,29}}: ?{_ALONE}")
#: The label of an answer in a dialogue of questions (Q) and answers (A)
_A_LABEL = re.compile(r"(?m)^A: ?(?=[(\[][A-D][)\]]|[A-D](?:[.:)]|$))")
#: A line that starts with one: "C) Lima", "(c) Lima", "D, since …", "B because …", "B (Lima)".
_CHOICE_FIRST = re.compile(
    rf"(?:{_MARK}{BRACKETED}|{_NAMED}{BRACKETED} ?[.:]"
    rf"|{_NAMED}([A-Ha-d])(?:(?: ?\|(?! ?[A-H]\b)|\)|[.:!](?! ?[A-Z]\.))(?= |$)|[。、](?![A-H]))"
    rf"|{_NAMED}([A-H])(?: ?[–—-] (?![A-H]\b)| (?=\()| (?={REASON})|[,;])) ?(.*)"
)
#: An announcement of a list of all choices, of which a truncated answer may hold only the first.
_LIST_AHEAD = re.compile(r"(?i)\b(?:options|choices|each|one by one)\b[^\n]{0,60}:\n[^\n]{0,30}$")
_LABEL = re.compile(r"[(\[]([A-H])[)\]]|(?<!\w)([A-H])[).:](?= )")
#: A verdict on one choice in a list: "B) Quito – Yes, correct", "B | ✅", "- [x] B. Quito",
#: "(B) Quito: yes", "B. It is in Ecuador, so this is correct."
_MARKED_CORRECT = re.compile(
    r"(?:[^\n]{0,80}?[–—:(|-] ?)??(?i:(?:yes, )?(?:(?:this|that) is )?(?:the )?correct\b)"
    r"|[^\n]{0,80}?[✅✓✔☑]|[^\n]{3,80}?[–—:(|-] ?(?i:yes|true)(?= ?(?:[.,;!)|]|$))"
    r"|(?:[^\n]{0,80}?[–—:(|-]|[^\n]{1,300} (?i:(?:this|that|it)(?: (?:one|option|choice|answer))?"
    r" is(?: the)?)) ?(?i:(?:correct|right)(?: one| option| choice| answer)?)"
    r"(?= ?(?:[.,;!)|]|$|because|since|as\b))"
)
_VERB = re.compile(r"(?:is|was|are|would|could|can|cannot|may|might|does|has|seems|looks|fits)\b")
#: Cyrillic and Greek letters that look like A, B or C.
_LOOKALIKES = dict(zip("АВСΑΒ", "ABCAB", strict=True))
#: A last line that concludes, or ends with a choice: "It is Quito, (B)."
_CONCLUDES = re.compile(
    r"(?i:\b(?:answer|correct|therefore)\b)"
    r"|(?:[,.:;–—(] ?|i\.e\. )(?:\(|(?i:option|choice) \(?)[A-D]\)?[.!)]*$"
)
#: A short answer that ends with a choice: "Quito (C)", "I think (A)."; but not "without (A)".
_SHORT = re.compile(
    r"(?!(?i:let['’]?s|let us|first)\b|[^\n]{0,60}\b"
    r"(?:as|about|at|besides|but|except|for|from|in|of|on|than|to|with|without)"
    r" (?:(?i:option|choice) )?[(\[])[^\n?]{0,60}[(\[][A-D][)\]][.!]{0,2}"
)
_IN_LINE = re.compile(
    r"[(\[]([A-D])[)\]]|\b(?i:option|choice) \(?([A-D])\b|(?<![A-H]), ([A-D])(?=[.!]?$)"
)
_DENIES = re.compile(
    r"\b(?:not|cannot|wrong|incorrect|if|might|rules? out|ruled|eliminated?|exclude|unlike"
    r"|different)\b|n['’]t\b",
    re.IGNORECASE,
)
_ANY_LETTER = re.compile(rf"(?<![\w'’])[A-H]{ENDS}")


def letter(text: str) -> str | None:
    """Return the choice that a response states last, None if it states none or several at once.

    Without a statement ("the answer is …"), the function falls back to a line that consists of a
    choice, if no other line names another; then to a choice that is called correct; then to the
    only choice in brackets on a concluding last line. Statements are recognised in the languages of
    ``data/answer_words.toml``. Reasoning between tags is ignored.

    Examples
    --------
    >>> letter("The answer is a bit unclear, but **Answer: C**")
    'C'
    >>> letter("The answer is (A) or (B).") is None
    True
    """
    text = actual(_normalized(plain(text)), STATEMENT)
    if not re.search(r"(?m)^B:", text):
        text = _A_LABEL.sub("answer: ", text)
    # From the most to the least explicit. The first reader with a result decides, even if that
    # result is "" (several choices at once), which is no valid answer.
    for version in dict.fromkeys([COUNTERFACTUAL.sub("", text), text]):
        for read in (stated, _bare, called_correct, _concluded):
            if (choice := read(version)) is not None:
                return choice if choice in ("A", "B", "C", "D") else None
    return None


def _normalized(text: str) -> str:
    """Return the text without quotes, emphasis and labels of lists, in Latin letters."""
    # Writers of Russian or Greek may use a letter of their alphabet that looks like a Latin one. It
    # is left alone before a word, since "В этом" ("in this") is prose.
    text = re.sub(r"(?<!\w)[АВСΑΒ](?!\w)(?! [а-яё])", lambda match: _LOOKALIKES[match[0]], text)
    for bracket in "[]<>":
        text = text.replace(2 * bracket, bracket)
    text = re.sub(r"(?<!\w)_([A-Ha-h])_(?!\w)", r"\1", text)
    # Field names such as "correct_option"
    text = re.sub("(?<=[a-z])_(?=[a-z])", " ", text)
    text = re.sub(r"[*`$\"\\]|__|(?<![^\W_])'|'(?!\w)|\{", "", text).replace("}", " ")
    text = re.sub(r"  +", " ", re.sub(r" ?\n ?", "\n", text)).strip()
    return "\n".join(map(_without_list_labels, text.split("\n")))


def _without_list_labels(line: str) -> str:
    """Remove the labels of an inline list from a line: "(A) 2 (B) 3 (C) 4 (D) 12"."""
    labels, listed = [*_LABEL.finditer(line)], set()
    for index in range(len(labels) - 2):
        run = labels[index : index + 4]
        letters = "".join(map(letter_of, run))
        entry = line[run[0].end() : run[1].start()].lstrip(" ,;")
        if letters.startswith("ABC") and not (_VERB.match(entry) or CAUSE.match(entry)):
            listed |= {label.start() for label in run[: 4 if letters == "ABCD" else 3]}
    return _LABEL.sub(lambda label: "" if label.start() in listed else label[0], line)


def _bare(text: str) -> str | None:
    """Return the letter of the only line that consists of a choice, or starts with one."""
    # The position of each letter, by the kind of line that it stands on
    line_start, alone, leading, marked_correct = 0, {}, {}, {}
    lines, starts = text.split("\n"), []
    for line in lines:
        starts.append("")
        if match := _CHOICE_ONLY.fullmatch(line):
            alone[letter_of(match)] = line_start + match.end(match.lastindex or 0)
        elif match := _CHOICE_FIRST.fullmatch(line):
            start = match.start(match.lastindex or 0)
            if _MARKED_CORRECT.match(line, start) or "[x]" in match[0][:start]:
                marked_correct[letter_of(match)] = line_start + start
            starts[-1] = letter_of(match)
            if not _is_remark(match):
                leading[letter_of(match)] = line_start + start
        line_start += len(line) + 1
    label = lines[-1].partition(":")[0]
    if (match := _LABELLED.fullmatch(lines[-1])) and not denied(label, len(label)):
        alone.setdefault(letter_of(match), len(text))
    # One line for each choice is a list of them, not an answer, unless one is marked as correct.
    candidates = alone or (leading if len(leading) == 1 else marked_correct)
    # A choice, a heading, and a list that begins anew: "C) Quito", "Explanation:", "A) …", "B) …"
    order = "".join(starts)
    if not candidates and "" < order[1:2] <= order[0] and starts[:2] == [order[0], ""]:
        candidates = {order[0]: len(lines[0])}
    if len(candidates) != 1:
        return None
    ((choice, end),) = candidates.items()
    if candidates is leading and choice == "A" and _LIST_AHEAD.search(text[:end]):
        return None
    return revised(text, end, choice)


def _is_remark(match: re.Match) -> bool:
    """Return whether a line that starts with a choice goes on to another one, or rejects it."""
    *_, prose, rest = match.groups()
    if ANOTHER.match(match.string, match.start(match.lastindex or 0)) or _VERB.match(rest):
        return True
    if CAUSE.match(rest) or re.match(r"(?i)\(?(?:both|all|neither|none)\b", rest):
        return False
    return prose is not None and bool(_ANY_LETTER.search(rest) or _DENIES.search(rest))


def _concluded(text: str) -> str | None:
    """Return the only letter on a concluding last line."""
    # Lines above the last one discuss the choices, each of which may stand in brackets there.
    last_line = re.split(r"\n|(?<=[.!?]) (?=[A-Z])", text)[-1]
    if not (_CONCLUDES.search(last_line) or _SHORT.fullmatch(text)) or _DENIES.search(last_line):
        return None
    matches = [*_IN_LINE.finditer(last_line)]
    if any(BEFORE.search(last_line[: match.start(match.lastindex or 0)]) for match in matches):
        return None
    letters = {letter_of(match) for match in matches if not denied(last_line, match.start())}
    return letters.pop() if len(letters) == 1 else None
