"""Extraction of the number that an answer states, with a small grammar of how numbers are written.

A grammar written for this purpose: of 24 numbers as real models write them, math-verify reads 7.
"""

import itertools
import math
import re
from typing import NamedTuple

from personagap.tasks._number_context import ASIDE, GIVEN, SO, SUM
from personagap.tasks._number_words import NUMBER_WORDS, SCALES, THINGS, normalize, to_digits
from personagap.tasks._wording import CORRECTS, actual, keys, plain, stating, words

_HEAD = re.compile(
    r"(?i)[ :,{]*"
    r"(?:(?:about|around|roughly|nearly|almost|approximately|exactly|just|only|simply|either"
    r"|equal to|a total of|an?) )?" + NUMBER_WORDS.pattern.removeprefix("(?i)")
)
_SCALE = "|".join(sorted(SCALES, key=len, reverse=True))
_NUMBER = re.compile(
    # Digits of "H2O", "x^2", "√2", "3:15", "2h30" or "1/2/2026" do not match. A minus is a sign
    # only if no operand precedes it, unlike in "5-3".
    r"(?<![\dA-Za-z_^√])(?<!\d[.,:'/])"
    r"(?P<sign>(?<![\w.)%])[-–]|(?i:\b(?:minus|negative) ))?"
    r"(?:(?P<currency>(?:US|CA|A|R)?[$€£¥₹]|(?:USD|EUR|GBP|Rs\.?)) ?(?P<minus>[-–])?)?"
    # An atomic group, because a possessive "(?:…)*+" keeps the comma of "4, 5" in Python 3.11.2
    r"(?P<run>(?>\d+(?:[.,_]\d+|'\d{3})*)|(?<!\.)\.\d++)"
    r"(?!:\d|h\d|/\d{1,4}/| ?[π√]|(?:st|nd|rd|th)\b)"
    r"(?:[eE](?P<exponent>[-+]?\d{1,4})\b|×10\^(?P<ten>-?\d{1,4})|\^(?P<power>-?\d{1,4}))?"
    r"(?: ?/ ?(?P<divisor>\d+)(?![\d/])| (?P<over>\d+)/(?P<under>\d+)(?![\d/]))?"
    rf"(?: ?(?P<scale>(?i:{_SCALE})|(?<=\d)[MB])(?![A-Za-zÀ-ɏ]))?"
)
_ALONE = re.compile(rf"\W{{0,3}}{_NUMBER.pattern} ?[.!%]?\W?")
_STATED = re.compile(rf"{stating('answer')}|#### ?(?!#)|{keys('verbless')} (?=[-$€£]?\d)")
#: Currencies of countries that separate thousands with a dot: "€1.000", "1.000 Euro", "R$ 1.000"
_DOT_CURRENCIES = ("€", "EUR", "R$")
_DOT_CURRENCY_AFTER = re.compile(r" ?(?:€|EUR\b|euros?\b|reais\b)", re.IGNORECASE)
_SENTENCE = re.compile(r"\n|[.!?](?= |\n|$)|[。！？।]")
_TO = re.compile(r" ?%? ?(?:-|–|—|~|to|through|bis|à|until|up to|到|至|から) ?", re.IGNORECASE)
#: "The price rises from 12 to 15" is a change, not a range.
_CHANGE = re.compile(
    r"(?i)\b(?:rises?|rose|go(?:es)?|went|increase[sd]?|grows?|grew|changes?|changed) from [$€£]?$"
)
_BETWEEN = re.compile(r"\b(?:between|zwischen|entre|tra) ?$", re.IGNORECASE)
_AND = re.compile(r" (?:and|und|et|y|e) ", re.IGNORECASE)
_OR = re.compile(
    rf"(?i)(?P<unit> \w+)?,? \(?(?:{words('either', unspaced=False)}) "
    r"(?:(?:maybe|perhaps|possibly|even) )?(?:[a-z] ?= ?)?"
    rf"| ?(?:{words('either', unspaced=True)}) ?"
)
#: "16 dollars and 50 cents" is one number. "5 hours and 30 minutes" is none, because the unit that
#: the question asks for is unknown.
_MONEY = re.compile(r"(?i)(?: (?:dollars?|bucks|euros?|pounds?))?,?(?: (?:and|und|et|y|e))? ")
_CENTS = re.compile(r"(?i) ?(?:¢|(?:cents?|pence|centimes?|céntimos|centesimi|centavos)\b)")
_LARGER_UNIT = re.compile(
    r"(?i) ?(?:years?|months?|weeks?|days?|hours?|hrs?|h|minutes?|mins?|f(?:ee|oo)?t|pounds?|lbs?|"
    r"gallons?),?(?: and)? "
)
_SMALLER_UNIT = re.compile(
    r"(?i) ?(?:months?|weeks?|days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|inch(?:es)?|ounces?|"
    r"oz|quarts?)\b"
)
_OPERATOR = re.compile(r" ?[-+×÷/–] ?\(?")
_TOTAL = re.compile(r"(?i)\b(?:in total|in all|altogether|insgesamt|au total|en total)\b")
_REPLACES = re.compile(r"(?i)=|\b(?:it|that|answer|there)\b.{0,20}\b(?:is|be|are)\b|it's|\bso\b")


def number(text: str) -> float | None:
    """Return the number of the last "answer is" sentence, else the last result in the text.

    The grammar covers signs, decimals, thousands separators of several countries, currencies, per
    cent signs, fractions, mixed numbers, powers, scale words and LaTeX; in statements also English
    number words. From an equation it takes the result, after second thoughts ("no, wait") the
    number that replaces the statement. Ranges, alternatives, times and numbers that overflow give
    None. Reasoning between tags is ignored.

    Examples
    --------
    >>> number("So the answer is $1,250.50. He saves it in 3 weeks.")
    1250.5
    """
    text = actual(normalize(plain(text)), _STATED)
    # From the last statement backwards: an earlier one may be a step, or was taken back.
    following = len(text)
    for statement in reversed(list(_STATED.finditer(text))):
        # Bounds the time; no finite number has as many digits.
        after = text[statement.end() : statement.end() + 600]
        # Up to the next statement, which was tried before and holds no number.
        sentence = _SENTENCE.split(after[: following - statement.end()], maxsplit=1)[0]
        following = statement.start()
        if re.match(r"(?:not|nicht|pas)\b", sentence):
            sentence = "".join(re.split(r"\b(?:but|rather|sondern|mais)\b", sentence)[1:][-1:])
        if (value := _result(sentence)) is not None:
            revision = _second_thought(after)
            return _finite(value if revision is None else revision)
    # A first line that consists of a number is the answer, with the explanation below it.
    first, _, rest = text.partition("\n")
    alone = rest.lstrip("([")[:1].isalpha() and _ALONE.fullmatch(first)
    sentences = [first] if alone else _SENTENCE.split(text)
    for sentence in reversed(sentences):
        if _NUMBER.search(sentence):
            # An aside explains the number: "$10 (25% of $40)".
            if _NUMBER.search(without := ASIDE.sub("", sentence)):
                sentence = without
            values = [number.value for number in _numbers(sentence)] or [math.nan]
            total = SUM.search(sentence) and math.isclose(values[0], sum(values[1:]))
            return _finite(values[0 if total else -1])
    # Number words count only if they are the whole answer: "one of them" is no number.
    head = _HEAD.match(text)
    return _result(text) if head and THINGS.fullmatch(text, head.end()) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _second_thought(text: str) -> float | None:
    """Return the number that second thoughts in the text put in place of the one just stated."""
    if not (thought := CORRECTS.search(text)):
        return None
    sentences = _SENTENCE.split(text[thought.end() :])
    results = [(sentence, _result(sentence, addends=1)) for sentence in sentences]
    results = [(sentence, value) for sentence, value in results if value is not None]
    replacing = [value for sentence, value in results if _REPLACES.search(sentence)]
    return next(iter(replacing or [value for _, value in results]), None)


def _result(sentence: str, addends: int = 2) -> float | None:
    """Return the result of a sentence; NaN for a range, None if there is no number.

    The result is the first number, unless at least ``addends`` numbers lead up to another one ("2
    apples and 5 pears, so 7").
    """
    if not _NUMBER.search(sentence):
        if not _HEAD.match(sentence):
            return None
        sentence = NUMBER_WORDS.sub(to_digits, sentence)
    sides = [(side, _numbers(side)) for side in sentence.split("=")]
    sides = [(side, numbers) for side, numbers in sides if numbers]
    # The last side that is not a calculation: "5 × 3 = 15", but "15 = 5 × 3" too.
    for side, numbers in reversed(sides):
        so = list(SO.finditer(side))
        before = [number for number in numbers if so and number.end <= so[-1].start()]
        if addends <= len(before) < len(numbers):
            return numbers[len(before)].value
        if addends < len(numbers) and _TOTAL.search(side, numbers[-1].end):
            return numbers[-1].value
        first, *following = numbers
        if not following or not _OPERATOR.fullmatch(side, first.end, following[0].start):
            return first.value
        # "9 × 2" is not worked out; the minus of "12 - 2 more than before" may be a dash.
        if len(sides) == 1:
            operator = side[first.end : following[0].start]
            return math.nan if re.search("[+×÷/]", operator) else first.value
    return sides[0][1][0].value if sides else math.nan


class _Number(NamedTuple):
    """A number and its position in the text."""

    value: float
    start: int
    end: int


def _numbers(text: str) -> list[_Number]:
    """Return the numbers in a text that may be its result.

    This drops ambiguous pairs (see `_is_ambiguous`), rejected numbers ("7, not 8"), compound
    measures ("5 hours and 30 minutes"), and given quantities unless all others are dropped too.
    """
    numbers: list[_Number] = []
    for match in _NUMBER.finditer(text):
        value = _value(match)
        cents = numbers and _CENTS.match(text, match.end())
        if cents and _MONEY.fullmatch(text, numbers[-1].end, match.start()):
            dollars = numbers.pop()
            money = dollars.value + math.copysign(value / 100, dollars.value)
            numbers.append(_Number(money, dollars.start, match.end()))
        elif not math.isnan(value):
            numbers.append(_Number(value, *match.span()))
    compound: set[_Number] = set()
    for first, second in itertools.pairwise(numbers):
        larger = _LARGER_UNIT.fullmatch(text, first.end, second.start)
        if larger and _SMALLER_UNIT.match(text, second.end):
            compound |= {first, second}
    numbers = [number for number in numbers if number not in compound]
    ambiguous: set[_Number] = set()
    # From the last pair backwards, because "4, 5 or 6" makes all three ambiguous.
    for first, second in reversed(list(itertools.pairwise(numbers))):
        listed = second in ambiguous and text[first.end : second.start] == ", "
        if listed or _is_ambiguous(text, first, second):
            ambiguous |= {first, second}
    given = {match.end(): match["denied"] for match in GIVEN.finditer(text)}
    valid = [n for n in numbers if n not in ambiguous and not given.get(n.start)]
    return [n for n in valid if n.start not in given] or valid


def _is_ambiguous(text: str, first: _Number, second: _Number) -> bool:
    """Return whether two numbers are a range ("4-6", "between 4 and 6") or options ("7 or 8")."""
    gap = first.end, second.start
    # This test comes first for speed: else a text of nothing but numbers would try all patterns
    # after each of them.
    if text[slice(*gap)].isspace():
        return False
    if alternatives := _OR.fullmatch(text, *gap):
        # "120 minutes or 2 hours" states the same quantity twice.
        unit = (alternatives["unit"] or "").rstrip("s")
        # "$40, or 50%" states two quantities.
        shares = text.startswith("%", second.end) and not text.startswith("%", first.end)
        return not shares and first.value != second.value and text.startswith(unit, second.end)
    before = text[max(0, first.start - 20) : first.start]
    between = _AND.fullmatch(text, *gap) and _BETWEEN.search(before)
    to = _TO.fullmatch(text, *gap) and not _CHANGE.search(before)
    return bool(between or to) and first.value < second.value


def _value(match: re.Match) -> float:
    """Return the value of a match of `_NUMBER`; NaN if it is not well formed."""
    currency_after = _DOT_CURRENCY_AFTER.match(match.string, match.end())
    dotted = bool(currency_after) or match["currency"] in _DOT_CURRENCIES
    value = _parse_digits(match["run"], dotted)
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
    # The scale comes after the fraction: "1/2 million" is 500,000.
    scale = {"M": "million", "B": "billion"}.get(match["scale"], match["scale"])
    value *= SCALES[scale.lower()] if scale else 1
    return -value if match["sign"] or match["minus"] else value


def _parse_digits(run: str, dotted: bool) -> float:
    """Return the value of digits with separators, such as 1,250.50, 1.250,50, 2,34,500 or 7,5.

    Of two kinds of separators the last one is the decimal sign. A single dot before three digits
    ("1.000") is a decimal sign too, unless ``dotted`` says that it separates thousands.
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
    # Commas make it a list, the last entry of which counts; dots make it a version or a date.
    if len(groups) > 1:
        return float(groups[-1]) if last == "," else math.nan
    return float(run.replace(",", "" if thousands and groups else "."))
