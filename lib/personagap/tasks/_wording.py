"""The wording of answers: lookalike characters, LaTeX, and phrases that state a result.

All patterns are bounded and expect texts with single spaces, so that matching takes linear time.
"""

import re
import tomllib
import unicodedata

from personagap.models import answers
from personagap.paths import DATA

_WORDS = tomllib.loads((DATA / "answer_words.toml").read_text(encoding="utf-8"))
#: Languages without spaces between words, or that attach to a word what other languages write as
#: words of their own.
_UNSPACED = ("zh", "ja", "ko", "th")
_SUPERSCRIPT = dict(zip(map(ord, "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"), "-0123456789", strict=True))
_POWER = re.compile(rf"[{''.join(map(chr, _SUPERSCRIPT))}]+")


def _ascii_table() -> dict[int, str]:
    """Return a translation table of full-width, circled, mathematical … characters to ASCII."""
    blocks = [range(0x80, 0x3400), range(0xFE00, 0x10000), range(0x1D400, 0x1D800)]
    nfkc = {code: unicodedata.normalize("NFKC", chr(code)) for block in blocks for code in block}
    table = {code: plain for code, plain in nfkc.items() if plain.isascii()}
    digits = {code: unicodedata.decimal(chr(code), None) for code in nfkc}
    table |= {code: str(digit) for code, digit in digits.items() if digit is not None}
    # Letters in squares and circles, such as emoji, which have no other form
    names = {code: unicodedata.name(chr(code), "") for code in range(0x1F110, 0x1F18A)}
    table |= {code: name[-1] for code, name in names.items() if " LATIN CAPITAL LETTER " in name}
    table |= {code: text.replace("⁄", "/") for code, text in nfkc.items() if "⁄" in text}
    for lookalikes, plain in [
        ("“”„‟«»‹›「」『』‘’‚‛´＇", "'"),
        ("【［", "["),
        ("】］", "]"),
        ("−﹣－‐‑", "-"),
        # The thousands separator and, below, the decimal separator of Arabic digits
        ("٬", ","),
        ("٫", "."),
        ("➜➡⟶", "→"),
        ("∶", ":"),
        # Zero-width characters, direction marks and emoji variation selectors
        ("\u200b\u200c\u200d\u200e\u200f\u061c\u2060\ufe0f\ufeff\u00ad", ""),
    ]:
        table |= dict.fromkeys(map(ord, lookalikes), plain)
    return table


_TO_ASCII = _ascii_table()
_MIXED_NUMBER = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
#: Struck-out text: "~~4~~ 5"
_STRUCK = re.compile(r"~~[^~\n]{1,80}~~")
_COMMAND = re.compile(
    r"\\(?:text[a-z]*|math[a-z]+|emph|underline|mbox|boldsymbol|bm|bf|rm"
    r"|left|right|displaystyle|operatorname|large|Large|quad|qquad)(?![A-Za-z]) ?"
)
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[\n ]*")
#: Number of characters read at either end of an answer, since results are stated near one of them
READ = 10_000


def plain(text: str) -> str:
    """Return the visible text of an answer without markup, with ASCII for lookalike characters.

    Words of any language stay; blank lines are removed.
    """
    # The reasoning of a model states choices that it later discards.
    text = answers.visible(text).strip()
    if len(text) > 2 * READ:
        text = f"{text[:READ]}\n{text[-READ:]}"
    text = _STRUCK.sub(" ", text)
    text = _POWER.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPT), text)
    # Composed (NFC), because a combining accent would end a word in the patterns below
    text = unicodedata.normalize("NFC", _MIXED_NUMBER.sub(" ", text)).translate(_TO_ASCII)
    # In replies that were unescaped once too often, "\\b" became a backspace.
    text = re.sub(r"(?:\\?(?:boxed|f(?:rame)?box)|\x08oxed) ?\{", " boxed: ", text)
    text = re.sub(
        r"<(?:\w{1,12}_)?answer(?:_\w{1,12})? ?>|\[(?:answer|(?:正确)?答案)\]",
        " answer: ",
        text,
        flags=re.IGNORECASE,
    )
    # A single capital in angle brackets is a choice: "<C>".
    text = re.sub(r"</?(?![A-Z]>)[a-zA-Z]{1,10} ?/?>", " ", text)
    text = re.sub(r"\\[()\[\]]", " ", _COMMAND.sub("", text))
    return _LINES.sub("\n", _SPACES.sub(" ", text)).strip()


def words(kind: str, *, unspaced: bool | None = None) -> str:
    """Return a pattern's alternatives: the words of a kind in all languages.

    ``unspaced`` restricts them to languages without (True) or with (False) spaces between words.
    """
    return "|".join(
        word for language, word in _WORDS[kind].items() if unspaced in (None, language in _UNSPACED)
    )


def keys(*kinds: str) -> str:
    """Return a pattern that matches the words of several kinds."""
    spaced = "|".join(words(kind, unspaced=False) for kind in kinds)
    unspaced = filter(None, (words(kind, unspaced=True) for kind in kinds))
    return "|".join([rf"(?:(?i:\b(?:{spaced})(?!\w))", *unspaced]) + ")"


_FILLER = rf"(?i:,? (?:{words('filler')})(?![\w'-])){{0,6}}"
_IS = (
    rf"(?:,? ?(?i:{words('is', unspaced=False)})(?![\w'-]) ?:?"
    rf"| ?(?:{words('is', unspaced=True)})| ?(?:=>?|[:→⇒|]|--?>?|–|—)) ?[:\n]? ?"
)


def stating(*kinds: str) -> str:
    """Return a pattern that matches a statement up to the start of its value."""
    return rf"{keys(*kinds)}(?: \([^()\n]{{1,40}}\))?{_FILLER}{_IS}"


#: What the answer would be to another question: "If it had asked for Peru, the answer would be A."
COUNTERFACTUAL = re.compile(
    r"(?:^|(?<=[.!?(\n] )|(?<=\n))"
    r"(?:[A-Z]\w{2,9}: )?(?:[Ii]f [^.,!?\n]{1,100}\b(?:had(?! to)|were|was|asked|meant)"
    r"|[Hh]ad|[Ww]ere)\b"
    r"[^.!?\n]{1,200}\bwould\b[^.!?\n]{1,100}[.!)]*"
    r"|(?<=[.!?\n])[^.!?,;\n]{1,100}\bwould\b[^.!?,;\n]{1,100} if "
    r"(?:the |it |you |we )[^.,!?\n]{0,30}\b(?:had|were|was|asked|meant)\b[^.,;!?\n]{0,100}[.!]"
)
#: Where a model that does not stop goes on to ask itself
_NEXT_TURN = re.compile(r"(?i)\n\W{0,3}(?:question|problem|human|user)(?: ?\d{1,3})?[*_]{0,2}:")


def actual(text: str, states: re.Pattern) -> str:
    """Return an answer without what it says of other questions, if it states something besides:
    what the answer to another would be, and what follows from the next "Question:" on.
    """
    without = COUNTERFACTUAL.sub("", text)
    text = without if without != text and states.search(without) else text
    statement = states.search(text) if _NEXT_TURN.search(text) else None
    turn = _NEXT_TURN.search(text, statement.end()) if statement else None
    return text[: turn.start()] if turn else text


#: Second thoughts ("no, wait"), after which a new statement replaces the one before
MARKER = (
    r"(?i:(?:^|(?<=[.!?,;:…}\n(–—-])|(?<=[.!?,;:…}\n(–—-] ))"
    rf"(?:{words('second_thoughts', unspaced=False)})\b|{words('second_thoughts', unspaced=True)})"
)
CORRECTS = re.compile(MARKER)
_CLAUSE = re.compile(rf"[.,;:!?\n。，；]|\b(?:{words('but')})\b")
_DENIES = re.compile(
    rf"(?i)\b(?:{words('denies', unspaced=False)})\b|n't\b|{words('denies', unspaced=True)}"
)


def denied(text: str, position: int) -> bool:
    """Return whether the clause before a position negates, or only supposes, what follows there."""
    clause = _CLAUSE.split(text[max(0, position - 80) : position])[-1]
    return _DENIES.search(clause) is not None
