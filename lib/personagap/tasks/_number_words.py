"""Numbers in words: how many thousands a word stands for, and English number words as digits."""

import re

from personagap.spelling import entries

_WORDS, _PARTS, SCALES = (
    {row["word"]: float(row["value"]) for row in entries("number_words") if row["kind"] == kind}
    for kind in ("number", "part", "scale")
)
_WORD = rf"(?:{'|'.join(_WORDS)}|hundred|thousand|million|billion)\b"
# "one hundred and five" is one number, "seven and eight" are two.
IN_WORDS = re.compile(
    rf"(?i)\b(?:minus |negative )?{_WORD}(?:[ -](?:(?<=red |and |ion )and )?{_WORD})*"
    rf"(?:(?P<and> and (?:a|one))?[ -](?P<part>{'|'.join(_PARTS)})\b)?"
)
#: What may stand behind a number that is all of the answer: "Seven pens."
THINGS = re.compile(
    r"(?i)(?! (?:of|or|and|to|is|are|was|has|had|can|could|may|might|would|should|more|less|fewer"
    r"|times|by|in|at|per|out|thing|way|who|that|possible|moment|second|first|last|another)\b)"
    r"(?: [a-z'-]{2,20}){0,2}\n?[.!]?"
)


def in_digits(found: re.Match) -> str:
    """English number words as digits."""
    total, current = 0.0, 0.0
    for word in re.findall("[a-z]+", found[0].lower()):
        if word in _WORDS:
            current += _WORDS[word]
        elif word == "hundred":
            current = 100 * (current or 1)
        elif word in SCALES:
            total, current = total + SCALES[word] * (current or 1), 0.0
    total += current
    if part := found["part"] and _PARTS[found["part"].lower()]:
        total = total + 1 / part if found["and"] else total / part
    sign = "-" if found[0].lower().startswith(("min", "neg")) else ""
    return f"{sign}{total:.15g}"
