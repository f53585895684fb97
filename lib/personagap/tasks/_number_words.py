"""Numbers in words: how many thousands a word stands for, and English number words as digits."""

import re

SCALES = {
    word: 10.0**power
    for power, words in {
        2: "hundred hundert 百",
        3: "k thousand thousands tausend mille mil mila 千 천",
        4: "万 萬 만",
        5: "lakh lakhs",
        6: "million millions mio mln millionen millón millones milione milioni milhão milhões",
        7: "crore crores",
        8: "亿 億 억",
        9: "billion billions bn mrd milliarde milliarden milliard milliards miliardi bilhão"
        " bilhões",
        12: "trillion trillions",
    }.items()
    for word in words.split()
} | {"mil millones": 1e9}
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_UNITS.split())}
_WORDS |= {word: 10 * ten for ten, word in enumerate(_TENS.split(), start=2)}
_PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4}
_WORD = rf"(?:{'|'.join(_WORDS)}|hundred|thousand|million|billion)\b"
# "one hundred and five" is one number, "seven and eight" are two.
IN_WORDS = re.compile(
    rf"(?i)\b(?:minus |negative )?{_WORD}(?:[ -](?:(?<=red |and |ion )and )?{_WORD})*"
    rf"(?:(?P<and> and (?:a|one))?[ -](?P<part>{'|'.join(_PARTS)})\b)?"
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
