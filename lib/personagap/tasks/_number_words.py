"""Normalization of numbers: LaTeX and English number words as plain digits."""

import re
from typing import Any

from personagap.formatting import word_table

_WORDS, _PARTS, SCALES = (
    {row["word"]: float(row["value"]) for row in word_table("number_words") if row["kind"] == kind}
    for kind in ("number", "part", "scale")
)
_WORD = rf"(?:{'|'.join(_WORDS)}|hundred|thousand|million|billion)\b"
# "one hundred and five" is one number, "seven and eight" are two.
NUMBER_WORDS = re.compile(
    rf"(?i)\b(?:minus |negative )?{_WORD}(?:[ -](?:(?<=red |and |ion )and )?{_WORD})*"
    rf"(?:(?P<and> and (?:a|one))?[ -](?P<part>{'|'.join(_PARTS)})\b)?"
)
#: What may follow a number that is the whole answer: "Seven pens."
THINGS = re.compile(
    r"(?i)(?! (?:of|or|and|to|is|are|was|has|had|can|could|may|might|would|should|more|less|fewer"
    r"|times|by|in|at|per|out|thing|way|who|that|possible|moment|second|first|last|another)\b)"
    r"(?: [a-z'-]{2,20}){0,2}\n?[.!]?"
)


def to_digits(match: re.Match) -> str:
    """Return the digits for a match of `NUMBER_WORDS`."""
    total, current = 0.0, 0.0
    for word in re.findall("[a-z]+", match[0].lower()):
        if word in _WORDS:
            current += _WORDS[word]
        elif word == "hundred":
            current = 100 * (current or 1)
        elif word in SCALES:
            total, current = total + SCALES[word] * (current or 1), 0.0
    total += current
    if part := match["part"] and _PARTS[match["part"].lower()]:
        total = total + 1 / part if match["and"] else total / part
    sign = "-" if match[0].lower().startswith(("min", "neg")) else ""
    return f"{sign}{total:.15g}"


#: Pattern and replacement of each rule that turns LaTeX and typography into plain numbers; applied
#: in this order.
_REWRITE_RULES: list[tuple[re.Pattern, Any]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\{ ?([-,.])\\? ?\}", r"\1"),
        # References: "18 [1]"
        (r"(?<=[\d%]) ?\[\d{1,2}\]", ""),
        (r"(?<=\d),\\!(?=\d{3})", ","),
        (r"(?<=\d)\{?(?:\\[,!;: ]|\\thinspace ?|~)\}?(?=\d{3})", ""),
        (r"(?<=\d) ?\\(?:[dtcs]|nice)?frac(?![a-z])", r" \\frac"),
        (r"(?<=\d) ?\\over ?(?=\d)", "/"),
        (
            r"\\(?:[dtcs]|nice)?frac ?"
            r"(?:\{ ?(-?[\d,.]+) ?\}|(\d)) ?(?:\{ ?([\d,]+) ?\}|(\d))",
            lambda match: f"{match[1] or match[2]}/{(match[3] or match[4]).replace(',', '')}",
        ),
        (r"\\(?:times|cdot|ast)(?![a-z])|·", "×"),
        (r"\\approx\b|≈|≅", "="),
        (r"\^ ?\{ ?(-?\d+) ?\}", r"^\1"),
        (r"(?<=\d) ?[*×xX] ?(?=10 ?(?:\^|\*\*) ?-?\d)", "×"),
        (r"(?<=\d) ?(?:\*\*|\^) ?(?=-?\d)", "^"),
        (r"(?<=\d) ?\* ?(?=\d)", "×"),
        (r"(?<=\d),? ?(?:which )?(?:equals|is equal to) (?=[\d$])", "="),
        # "20% of $50, or $10" is an equation, with the second number as its result.
        (
            r"((?:% of|[+×÷]| [-/]) ?[$€£]?\d[\d.,]{0,20}?),? (?:or|which is|that is) (?=[$€£]?\d)",
            r"\1=",
        ),
        (r"\\sqrt ?\{? ?", "√"),
        (r"(?i)\bi\.e\.", "ie"),
        (r"\\pi(?![a-z])", "π"),
        (r"(?<=\d) and (?:(?:a|one) half|1/2)\b", " 1/2"),
        (r"(?:(?<==)|(?<=boxed:)) ?- (?=\d)", "-"),
        (r"(?<!\d)(0?\.\d{1,6}),? (?:or|which is|that is) (?=\d[\d.]{0,6} ?%)", r"\1="),
        (r"\\(?=[$%€£#])|[*`\"]|(?<!\w)'|'(?!\w)", ""),
        # Underscores for emphasis, but not the separator of "24_000"
        (r"(?<![^\W_])_{1,3}(?=[\d$€£-])|(?<=[\d%.])_{1,3}(?!\w)", ""),
        (r"(?<=\d) ?\{ ?(?=[a-z])|(?<=[a-z]) ?\} ?(?=\d)", " "),
        (r"(?<=\d),? (?:(?:which|and|or) )?round(?:s|ed)(?: up| down| off)? to (?=[\d$])", "="),
        # Groups of three digits with a space between, but not "5 100/3"
        (r"(?<![\d.,/^])\d{1,3}(?: \d{3})+(?![\d/])", lambda match: match[0].replace(" ", "")),
    ]
]


def normalize(text: str) -> str:
    """Return a text with plain numbers: `\\frac{3}{4}` becomes 3/4, and 24 000 becomes 24000."""
    for pattern, replacement in _REWRITE_RULES:
        text = pattern.sub(replacement, text)
    return text
