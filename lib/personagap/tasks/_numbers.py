"""Which number an answer states: a small grammar of how numbers are written."""

import itertools
import math
import re
from typing import NamedTuple

from personagap.tasks._number_words import IN_WORDS, SCALES, THINGS, in_digits, rewritten
from personagap.tasks._wording import CORRECTS, keys, plain, stating, words

# A grammar of its own: of 24 numbers as real models write them, math-verify reads 7.

_HEAD = re.compile(
    r"(?i)[ :,{]*"
    r"(?:(?:about|around|roughly|nearly|almost|approximately|exactly|just|only|simply|either"
    r"|equal to|a total of|an?) )?" + IN_WORDS.pattern.removeprefix("(?i)")
)
_SCALE = "|".join(sorted(SCALES, key=len, reverse=True))
_NUMBER = re.compile(
    # No digit of "H2O", "x^2", "√2", "3:15", "2h30" or "1/2/2026"; a sign counts only where nothing
    # stands before it: not in "5-3".
    r"(?<![\dA-Za-z_^√])(?<!\d[.,:'/])"
    r"(?P<sign>(?<![\w.)%])[-–]|(?i:\b(?:minus|negative) ))?"
    r"(?:(?P<currency>(?:US|CA|A|R)?[$€£¥₹]|(?:USD|EUR|GBP|Rs\.?)) ?(?P<minus>[-–])?)?"
    # An atomic group: a possessive "(?:…)*+" keeps the comma of "4, 5" in Python 3.11.2.
    r"(?P<run>(?>\d+(?:[.,_]\d+|'\d{3})*)|(?<!\.)\.\d++)"
    r"(?!:\d|h\d|/\d{1,4}/| ?π|(?:st|nd|rd|th)\b)"
    r"(?:[eE](?P<exponent>[-+]?\d{1,4})\b|×10\^(?P<ten>-?\d{1,4})|\^(?P<power>-?\d{1,4}))?"
    r"(?: ?/ ?(?P<divisor>\d+)(?![\d/])| (?P<over>\d+)/(?P<under>\d+)(?![\d/]))?"
    rf"(?: ?(?P<scale>(?i:{_SCALE})|(?<=\d)[MB])(?![A-Za-zÀ-ɏ]))?"
)
_ALONE = re.compile(rf"\W{{0,3}}{_NUMBER.pattern} ?[.!%]?\W?")
_STATED = re.compile(rf"{stating('answer')}|#### ?(?!#)|{keys('verbless')} (?=[-$€£]?\d)")
#: Currencies of countries that put a dot between thousands: "€1.000", "1.000 Euro", "R$ 1.000".
_DOTTED = ("€", "EUR", "R$")
_DOTTED_AFTER = re.compile(r" ?(?:€|EUR\b|euros?\b|reais\b)", re.IGNORECASE)
_SENTENCE = re.compile(r"\n|[.!?](?= |\n|$)|[。！？।]")
_TO = re.compile(r" ?%? ?(?:-|–|—|~|to|through|bis|à|until|up to|到|至|から) ?", re.IGNORECASE)
#: "The price rises from 12 to 15" tells no range.
_CHANGES = re.compile(
    r"(?i)\b(?:rises?|rose|go(?:es)?|went|increase[sd]?|grows?|grew|changes?|changed) from [$€£]?$"
)
_BETWEEN = re.compile(r"\b(?:between|zwischen|entre|tra) ?$", re.IGNORECASE)
_AND = re.compile(r" (?:and|und|et|y|e) ", re.IGNORECASE)
_OR = re.compile(
    rf"(?i)(?P<unit> \w+)?,? \(?(?:{words('either', unspaced=False)}) "
    r"(?:(?:maybe|perhaps|possibly|even) )?(?:[a-z] ?= ?)?"
    rf"| ?(?:{words('either', unspaced=True)}) ?"
)
#: "16 dollars and 50 cents" is one number. "5 hours and 30 minutes" is none, as nobody knows the
#: unit asked for.
_MONEY = re.compile(r"(?i)(?: (?:dollars?|bucks|euros?|pounds?))?,?(?: (?:and|und|et|y|e))? ")
_CENTS = re.compile(r"(?i) ?(?:¢|(?:cents?|pence|centimes?|céntimos|centesimi|centavos)\b)")
_PART = re.compile(
    r"(?i) ?(?:years?|months?|weeks?|days?|hours?|hrs?|h|minutes?|mins?|f(?:ee|oo)?t|pounds?|lbs?|"
    r"gallons?),?(?: and)? "
)
_SMALLER = re.compile(
    r"(?i) ?(?:months?|weeks?|days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|inch(?:es)?|ounces?|"
    r"oz|quarts?)\b"
)
_OPERATOR = re.compile(r" ?[-+×÷/–] ?\(?")
_SO = re.compile(
    r"\b(?:so|therefore|thus|hence|in total|in all|altogether|total(?:s|ing)?|mak(?:es|ing)"
    r"|which is|also|donc|quindi|portanto|entonces)\b",
    re.IGNORECASE,
)
#: Remarks on a result, at the end of its sentence: what it is made up of, why, or beside what.
_ASIDE = re.compile(
    r"(?i)\([^()\n]{1,80}\)(?=[^\d]{0,20}$)"
    r"|(?:, with(?! each| every)|,? (?:since|because|of which|including|having|versus"
    r"|compared (?:to|with)|by the time"
    r"|(?<![,;] )(?:after|by) \w+ing|who (?:is|was|has)|in order to"
    r"|to (?:reach|get|have|make|buy|be|finish|complete|fill)))\b"
    rf"(?!.*{_SO.pattern})(?:[^,;]|,(?=\d))*$"
    # "3 in total: 2 + 1", "3, which is 2 plus 1"
    r"|(?:[,:–] |=| which is | i\.e\.,? ) ?[$€£]?\d[\d.,]*"
    r"(?: ?(?:[-+×÷/–]|plus|and) ?[$€£]?\d[\d.,]*){1,9}[.!]?$"
)
#: "A total of 3, 2 blue and 1 white": what is told after it makes it up.
_PARTS = re.compile(r"(?i)(?:\b(?:total|in all|(?:al)?together)\b[^,:–]{0,40},|[:–]) ?[$€£]?\d")
#: Right before a number that tells for what, for how long or of which: "$64 for the 16 glasses",
#: "7 dozen in 4 weeks", "160 minutes to load 200 GB"; or that it is not: "7, not 8".
_GIVEN = re.compile(
    r"(?i)(?:(?<!, )\bfor(?! [$€£]| \S{1,12} dollars)"
    r"|\b(?:in|on|at|per|over|during|within|after|from|than|until|before|every|each of|out of"
    r"|by(?= \w{1,15}ing))"
    r"|(?<!\w)\d[\d.,%]{0,12}(?: \w{1,20})? of"
    r"|\b(?:second|minute|hour|day|week|month|year)s?(?: for \w{1,20})? to(?: \w{1,20}){1,3}?)"
    r"(?: (?:the|an?|her|his|its|their|these|those|all|first|second|last|next|end|of|grade|year|day"
    r"|\w{1,15}ing|\w{1,15}'s|(?<!for )(?<!at )(?:an?|the) \w{1,15} of)){0,4}"
    r" (?=[$€£]?\d)|\b(?:the|his|her|its|their|these|those|all|both) (?=\d)"
    r"|(?P<denied>\b(?:instead of|rather than|as opposed to)(?: \w{1,20}){0,2}"
    r"|[,;(] ?(?:(?:and|but) )?not|\b(?:is|are|was|be) not|\b(?:is|are|was)n't) (?=[$€£]?\d)"
)
_TOTAL = re.compile(r"(?i)\b(?:in total|in all|altogether|insgesamt|au total|en total)\b")
_REPLACES = re.compile(r"(?i)=|\b(?:it|that|answer|there)\b.{0,20}\b(?:is|be|are)\b|it's|\bso\b")


def number(text: str) -> float | None:
    """The number of the last "answer is" sentence, else the last result that the text tells.

    Signs, decimals, thousands separators of several countries, currencies, per cent signs,
    fractions, mixed numbers, powers, scale words and LaTeX are read; in a statement English
    number words too. Of an equation the result is taken; after second thoughts ("no, wait") what
    replaces the statement. A range, two alternatives, a time and what overflows are no numbers, and
    neither is what was thought aloud.

    Examples
    --------
    >>> number("So the answer is $1,250.50. He saves it in 3 weeks.")
    1250.5
    """
    text = rewritten(plain(text))
    # From the last: what is stated before may be a step, or was taken back.
    following = len(text)
    for statement in reversed(list(_STATED.finditer(text))):
        # More than a finite number has digits.
        after = text[statement.end() : statement.end() + 600]
        # Up to the next statement, which was read and states nothing.
        sentence = _SENTENCE.split(after[: following - statement.end()], maxsplit=1)[0]
        following = statement.start()
        if re.match(r"(?:not|nicht|pas)\b", sentence):
            sentence = "".join(re.split(r"\b(?:but|rather|sondern|mais)\b", sentence)[1:][-1:])
        if (found := _result(sentence)) is not None:
            again = _second_thought(after)
            return _finite(found if again is None else again)
    # A first line that is the answer, and why below it.
    first, _, rest = text.partition("\n")
    sentences = [first] if rest[:1].isalpha() and _ALONE.fullmatch(first) else _SENTENCE.split(text)
    for sentence in reversed(sentences):
        if _NUMBER.search(sentence):
            # An aside tells how it is made up: "$10 (25% of $40)".
            if _NUMBER.search(without := _ASIDE.sub("", sentence)):
                sentence = without
            numbers = [each.value for each in _numbers(sentence)] or [math.nan]
            made_up = _PARTS.search(sentence) and math.isclose(numbers[0], sum(numbers[1:]))
            return _finite(numbers[0 if made_up else -1])
    # In words only where they are all the answer: "one of them" is no number.
    alone = _HEAD.match(text)
    return _result(text) if alone and THINGS.fullmatch(text, alone.end()) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _second_thought(text: str) -> float | None:
    """What replaces a number just stated, if anything does."""
    if not (thought := CORRECTS.search(text)):
        return None
    sentences = _SENTENCE.split(text[thought.end() :])
    results = [(each, _result(each, addends=1)) for each in sentences]
    results = [(each, value) for each, value in results if value is not None]
    replacing = [value for each, value in results if _REPLACES.search(each)]
    return next(iter(replacing or [value for _, value in results]), None)


def _result(sentence: str, addends: int = 2) -> float | None:
    """The number that a sentence comes to; NaN for a range, None where there is no number.

    That is the first number, unless so many others lead up to one ("2 apples and 5 pears, so 7").
    """
    if not _NUMBER.search(sentence):
        if not _HEAD.match(sentence):
            return None
        sentence = IN_WORDS.sub(in_digits, sentence)
    sides = [(side, _numbers(side)) for side in sentence.split("=")]
    sides = [(side, numbers) for side, numbers in sides if numbers]
    # The last side that is no more calculation: "5 × 3 = 15", but "15 = 5 × 3" too.
    for side, numbers in reversed(sides):
        so = list(_SO.finditer(side))
        before = [each for each in numbers if so and each.end <= so[-1].start()]
        if addends <= len(before) < len(numbers):
            return numbers[len(before)].value
        if addends < len(numbers) and _TOTAL.search(side, numbers[-1].end):
            return numbers[-1].value
        one = len(numbers) == 1 or not _OPERATOR.fullmatch(side, numbers[0].end, numbers[1].start)
        if one:
            return numbers[0].value
        # "9 × 2" is not worked out; "12 - 2 more than before" may be a dash.
        if len(sides) == 1:
            place = numbers[0].end, numbers[1].start
            return math.nan if re.search("[+×÷/]", side[slice(*place)]) else numbers[0].value
    return sides[0][1][0].value if sides else math.nan


class _Read(NamedTuple):
    """A number and its place."""

    value: float
    start: int
    end: int


def _numbers(text: str) -> list[_Read]:
    """The numbers of a text, without those of which only one, or neither, is meant (see
    `_undecided`), and without what is only given, unless nothing else is.
    """
    read: list[_Read] = []
    for match in _NUMBER.finditer(text):
        value = _value(match)
        cents = read and _CENTS.match(text, match.end())
        if cents and _MONEY.fullmatch(text, read[-1].end, match.start()):
            dollars = read.pop()
            money = dollars.value + math.copysign(value / 100, dollars.value)
            read.append(_Read(money, dollars.start, match.end()))
        elif not math.isnan(value):
            read.append(_Read(value, *match.span()))
    units = {
        each
        for pair in itertools.pairwise(read)
        if _PART.fullmatch(text, pair[0].end, pair[1].start) and _SMALLER.match(text, pair[1].end)
        for each in pair
    }
    read = [each for each in read if each not in units]
    undecided: set[_Read] = set()
    for first, second in reversed(list(itertools.pairwise(read))):
        # "4, 5 or 6" leaves all three open; so pairs are looked at from the last.
        listed = second in undecided and text[first.end : second.start] == ", "
        if listed or _undecided(text, first, second):
            undecided |= {first, second}
    given = {found.end(): found["denied"] for found in _GIVEN.finditer(text)}
    decided = [each for each in read if each not in undecided and not given.get(each.start)]
    return [each for each in decided if each.start not in given] or decided


def _undecided(text: str, first: _Read, second: _Read) -> bool:
    """Of ranges ("4-6", "between 4 and 6") and alternatives ("7 or 8")."""
    place = first.end, second.start
    # First, or a text of nothing but numbers would try every pattern at each of its places.
    if text[slice(*place)].isspace():
        return False
    if alternatives := _OR.fullmatch(text, *place):
        # "120 minutes or 2 hours" says one thing twice.
        unit = (alternatives["unit"] or "").rstrip("s")
        return first.value != second.value and text.startswith(unit, second.end)
    before = text[max(0, first.start - 20) : first.start]
    between = _AND.fullmatch(text, *place) and _BETWEEN.search(before)
    to = _TO.fullmatch(text, *place) and not _CHANGES.search(before)
    return bool(between or to) and first.value < second.value


def _value(match: re.Match) -> float:
    """The number matched; NaN for one that is not well formed."""
    after = _DOTTED_AFTER.match(match.string, match.end())
    value = _digits(match["run"], dotted=bool(after) or match["currency"] in _DOTTED)
    try:
        if match["exponent"] or match["ten"]:
            value *= 10.0 ** int(match["exponent"] or match["ten"])
        if match["power"]:
            value **= int(match["power"])
        value /= int(match["divisor"] or 1)
        if match["over"]:
            value += int(match["over"]) / int(match["under"])
    except (ArithmeticError, ValueError):
        return math.nan
    # After the fraction: "1/2 million" is half of one.
    scale = {"M": "million", "B": "billion"}.get(match["scale"], match["scale"])
    value *= SCALES[scale.lower()] if scale else 1
    return -value if match["sign"] or match["minus"] else value


def _digits(run: str, dotted: bool) -> float:
    """1,250.50 and 1.250,50 and 2,34,500 and 7,5: the last kind of separator is the decimal one.

    A single dot before three digits is one too ("1.000"), unless ``dotted``.
    """
    run = re.sub("['_]", "", run)
    if dotted and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", run):
        return float(run.replace(".", ""))
    last = max(",.", key=run.rfind)
    if "," in run and "." in run:
        whole, _, part = run.rpartition(last)
        return float(re.sub("[,.]", "", whole) + "." + part)
    first, *groups = run.split(last)
    thousands = re.fullmatch(r"[1-9]\d{0,2}", first) and all(len(group) == 3 for group in groups)
    indian = len(groups) > 1 and [len(group) for group in groups] == [2] * (len(groups) - 1) + [3]
    if len(groups) > 1 and (thousands or (indian and last == ",")):
        return float(run.replace(last, ""))
    # With commas a list, the last of which counts; with dots a version, or a date.
    if len(groups) > 1:
        return float(groups[-1]) if last == "," else math.nan
    return float(run.replace(",", "" if thousands and groups else "."))
