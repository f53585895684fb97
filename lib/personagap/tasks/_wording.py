"""What answers are worded in: characters that look alike, LaTeX, and how a result is stated.

Patterns are bounded, and read texts whose spaces are single: time grows with length, no more.
"""

import re
import tomllib
import unicodedata

from personagap.models import answers
from personagap.paths import DATA

_WORDS = tomllib.loads((DATA / "answer_words.toml").read_text(encoding="utf-8"))
#: Languages that write words without spaces between them, or with what other languages write as
#: words of their own.
_UNSPACED = ("zh", "ja", "ko")
_SUPERSCRIPT = dict(zip(map(ord, "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"), "-0123456789", strict=True))
_POWER = re.compile(rf"[{''.join(map(chr, _SUPERSCRIPT))}]+")


def _plainer() -> dict[int, str]:
    """Full-width, circled, mathematical … characters, and the ASCII that they stand for."""
    blocks = [range(0x80, 0x3400), range(0xFE00, 0x10000), range(0x1D400, 0x1D800)]
    found = {code: unicodedata.normalize("NFKC", chr(code)) for block in blocks for code in block}
    table = {code: plain for code, plain in found.items() if plain.isascii()}
    digits = {code: unicodedata.decimal(chr(code), None) for code in found}
    table |= {code: str(digit) for code, digit in digits.items() if digit is not None}
    fractions = {code: found[code] for code in found if "⁄" in found[code]}
    table |= {code: plain.replace("⁄", "/") for code, plain in fractions.items()}
    for alike, plain in [
        ("“”„‟«»‹›「」『』‘’‚‛´＇", "'"),
        ("【［", "["),
        ("】］", "]"),
        ("−﹣－‐‑", "-"),
        # Between thousands, and below before decimals, where digits are Arabic.
        ("٬", ","),
        ("٫", "."),
        ("➜➡⟶", "→"),
        # Of no width, or marks of direction, or of how an emoji is drawn.
        ("\u200b\u200c\u200d\u200e\u200f\u061c\u2060\ufe0f\ufeff\u00ad", ""),
    ]:
        table |= dict.fromkeys(map(ord, alike), plain)
    return table


_PLAINER = _plainer()
_MIXED = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
#: What is struck out: "~~4~~ 5".
_STRUCK = re.compile(r"~~[^~\n]{1,80}~~")
_COMMAND = re.compile(
    r"\\(?:text[a-z]*|math[a-z]+|emph|underline|mbox|boldsymbol|bm|bf|rm"
    r"|left|right|displaystyle|operatorname|large|Large|quad|qquad)(?![A-Za-z]) ?"
)
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[\n ]*")
#: Characters that are read at either end of an answer: a result is not stated far from both.
READ = 10_000


def plain(text: str) -> str:
    """What a user sees of an answer, in ASCII where it can be said so, without markup.

    Words of any language stay; a blank line becomes a line break.
    """
    # What is thought aloud states choices that are not kept.
    text = answers.visible(text).strip()
    if len(text) > 2 * READ:
        text = f"{text[:READ]}\n{text[-READ:]}"
    # Composed: a letter whose accent follows by itself would end a word in the patterns below.
    text = _POWER.sub(lambda found: "^" + found[0].translate(_SUPERSCRIPT), _STRUCK.sub(" ", text))
    text = unicodedata.normalize("NFC", _MIXED.sub(" ", text)).translate(_PLAINER)
    # Where a reply was unescaped once too often, "\\b" became a backspace.
    text = re.sub(r"(?:\\?(?:boxed|f(?:rame)?box)|\x08oxed) ?\{", " boxed: ", text)
    text = re.sub(
        r"<(?:\w{1,12}_)?answer(?:_\w{1,12})? ?>|\[(?:answer|(?:正确)?答案)\]",
        " answer: ",
        text,
        flags=re.IGNORECASE,
    )
    # A capital by itself is a choice: "<C>".
    text = re.sub(r"</?(?![A-Z]>)[a-zA-Z]{1,10} ?/?>", " ", text)
    text = re.sub(r"\\[()\[\]]", " ", _COMMAND.sub("", text))
    return _LINES.sub("\n", _SPACES.sub(" ", text)).strip()


def words(kind: str, *, unspaced: bool | None = None) -> str:
    """Alternatives of a pattern: the words of a kind in all languages, or those with (without)
    ``unspaced`` words.
    """
    return "|".join(
        each for language, each in _WORDS[kind].items() if unspaced in (None, language in _UNSPACED)
    )


def keys(*kinds: str) -> str:
    """A pattern of the words of several kinds."""
    spaced = "|".join(words(kind, unspaced=False) for kind in kinds)
    unspaced = [each for kind in kinds if (each := words(kind, unspaced=True))]
    return "|".join([rf"(?:(?i:\b(?:{spaced})(?!\w))", *unspaced]) + ")"


_FILLER = rf"(?i:,? (?:{words('filler')})(?![\w'-])){{0,6}}"
_IS = (
    rf"(?:,? ?(?i:{words('is', unspaced=False)})(?![\w'-]) ?:?"
    rf"| ?(?:{words('is', unspaced=True)})| ?(?:=>?|[:→⇒|]|--?>?|–|—)) ?[:\n]? ?"
)


def stating(*kinds: str) -> str:
    """A pattern of a statement, up to where its value begins."""
    return keys(*kinds) + _FILLER + _IS


#: Second thoughts: what follows replaces what was stated before.
MARKER = (
    r"(?i:(?:^|(?<=[.!?,;:…}\n(–—-])|(?<=[.!?,;:…}\n(–—-] ))"
    rf"(?:{words('second_thoughts', unspaced=False)})\b|{words('second_thoughts', unspaced=True)})"
)
CORRECTS = re.compile(MARKER)
_CLAUSE = re.compile(rf"[.,;:!?\n。，；]|\b(?:{words('but')})\b")
_DENIES = re.compile(
    rf"(?i)\b(?:{words('denies', unspaced=False)})\b|n't\b|{words('denies', unspaced=True)}"
)


def denied(text: str, place: int) -> bool:
    """Whether the clause that leads up to a place denies or supposes what stands there."""
    clause = _CLAUSE.split(text[max(0, place - 80) : place])[-1]
    return _DENIES.search(clause) is not None
