"""Which of the choices A–D an answer states: a small grammar of statements."""

import re

from personagap.tasks._wording import CORRECTS, MARKER, denied, keys, plain, stating, words

#: A word of these begins what is said of a letter; any other word after
#: a capital makes prose of it ("A bit of").
_CAUSE = re.compile(
    rf"(?:{words('cause')})\b|(?:not|rather than|instead of) [(\[]?[A-H]\b(?! (?:and|or|but)\b)"
)
_REASON = rf"(?:{words('cause')}|{words('goes_on')})\b"
_LATIN = "A-Za-zÀ-ɏḀ-ỿ"
#: What is no letter of the alphabet by itself: "C-section", "D.C.", "A's".
_ENDS = rf"(?![{_LATIN}0-9_’'+#]|-\w|\.\w)"
# A letter: "(c)" in either case, a capital that cannot be prose ("A bit of", S6), or "c" at an end.
# E to H are read too: whoever states them states none of the choices.
_BRACKETED = r"[(\[<] ?([A-Ha-h]) ?[)\]>]"
_CAPITAL = rf"(A(?! (?!{_REASON})[{_LATIN}0-9])|[B-H](?! (?!{_REASON})[a-zà-ɏḁ-ỹ])){_ENDS}"
_SMALL = rf"([a-h]){_ENDS}(?= ?(?:[.,;:!)\]\n]|$)| (?:because|since)\b)"
_LETTER = rf"(?:{_BRACKETED}|{_CAPITAL}|{_SMALL})"
_LEAD = rf"(?:(?:(?i:{words('lead')})|a(?= ))[ ,:]{{0,2}}){{0,4}}[(\[]?\n?"
_END = r"(?= ?[.,:;!)。]| ?\n| ?$|です|입니다| (?:because|since)\b)"
_SO = rf"(?i:\b(?:{words('so', unspaced=False)})(?!\w)|{words('so', unspaced=True)})[,、:]? ?"
_IT_IS = rf"(?i:\b(?:{words('it_is', unspaced=False)})|{words('it_is', unspaced=True)}) ?"
_CHOOSES = (
    rf"(?:(?i:\b(?:{words('chooses', unspaced=False)})) |{words('chooses', unspaced=True)} ?)"
)
#: "### Final answer", and the letter below.
_HEADING = (
    rf"(?m:^)#{{0,5}} ?(?i:(?:the|my|final|correct|best) ){{0,3}}{keys('answer', 'choice')} ?\n"
)
_CORRECT = (
    r"(?i:\b(?:correct|richtig|korrekt|correcta)(?: ?:| ist)|\bans ?[.:-]"
    r"|\b(?:correct|right) one is) ?"
)
_UNLIKE = r"(?i:\b(?:wrong|incorrect|eliminated|excluded)\b)"
_STATEMENT = re.compile(
    rf"(?:{stating('answer', 'choice')}|{_CHOOSES}|{_HEADING}|{_CORRECT}){_LEAD}{_LETTER}"
    # "Therefore, it must be (C)."
    rf"|{_SO}(?:{_IT_IS})?{_LEAD}{_LETTER}(?=[ .:!。।]*(?:\n|$))"
    # "Thus the most proactive approach is option B: …"
    rf"|(?:(?m:^)|(?<=[.!?] )){_SO}(?:(?!{_UNLIKE})[^.:;\n]){{1,120}}"
    rf" (?i:(?:is|are|would be|must be) (?:the )?(?:option|choice)) (?:{_BRACKETED}|([A-H]){_ENDS})"
    # "Doğru cevap C'dir.", and "Верный ответ C."
    rf"|{keys('answer', 'choice')} {_LEAD}(?:{_BRACKETED}|([A-H]))(?={words('verb_last')})"
    rf"|{keys('verbless')} {_LEAD}(?:{_BRACKETED}|([A-H])(?=[.!।]?(?: ?\n|$)|[.!।] ))"
)
_CALLED_CORRECT = re.compile(
    rf"(?:{_BRACKETED}|(?<![{_LATIN}0-9_'’(\[])([A-H])[)\]]?)"
    r"(?:,? ?(?:(?i:is|(?:seems|appears)(?: to be)?|looks|(?:would|must|has to) be"
    r"|ist|est|es|è|é|está)"
    r"(?i: (?:also|clearly|indeed|definitely|thus|therefore|the|die|la|le|il|o|a|our|my|final|most"
    r" (?:likely|accurate|appropriate|suitable|plausible)|probably|only)){0,3}"
    r" (?i:correcta?|right|best|richtige?|korrekte?|correct[eo]?|juste|bonne"
    r"|giust[ao]|corrett[ao]|corret[ao]|cert[ao]|answer|antwort|réponse|respuesta|risposta|resposta)"
    r"(?>(?i: (?:answer|one|choice|option|antwort|réponse|correcta|corretta|correcta))?)"
    r"(?! ?(?:only|if|when|for|in|on|at|about|but|to|nur|si|se|solo|seulement)\b)\b)"
    rf"|{words('called_right')})"
)
#: "The best of the options is C", "the exception is C", "only C works", "(B) is not right, (C) is."
_LEFT = re.compile(
    r"(?i:\b(?:correct|right|best|closest|only|that is true|exception|odd one out|least likely)\b"
    rf"[\w ]{{0,40}}? (?:is|must be|would be)) ?:? ?{_LETTER}"
    rf"|(?i:\bonly (?:option |choice )?)(?:{_BRACKETED}|([A-D]))(?= (?:is|works|fits|remains)\b)"
    r"|(?i:\b(?:not (?:correct|right|true)|wrong|incorrect|false)[,;.] (?:but )?)"
    rf"(?:{_BRACKETED}|([A-D])) is(?= ?[.!]? ?(?:\n|$))"
)
#: The same, and it is not: "B değil".
_NOT_AFTER = re.compile(words("denies_after"))
_IT = re.compile(_IT_IS + _LEAD + _LETTER + _END)
#: "The diagnosis is (C) anaemia", "this corresponds to option B".
_POINTS = re.compile(
    rf"(?i:\b(?:{words('points')}) (?:the )?)"
    rf"(?:{_BRACKETED}|(?i:(?:option|choice|answer|statement) )(?:{_BRACKETED}|([A-H]){_ENDS}))"
)
_MARKED = MARKER + r"[,、:;.!… –—-]{1,3}"
_INSTEAD = re.compile(rf"{_MARKED}(?:{_MARKED})?{_LEAD}{_LETTER}{_END}")
_ALSO = (
    rf" ?(?:,|/|&|;|{words('also', unspaced=True)}"
    rf"|,? ?(?i:{words('also', unspaced=False)})(?= |\()) ?"
)
_ANOTHER = re.compile(
    rf"[)\]]?{_ALSO}(?i:(?:or|and|maybe|perhaps|possibly|option|choice|even) ?){{0,3}}"
    rf"[(\[]?[A-H]{_ENDS}[)\]]?+"
    r"(?! (?i:is|are|was|would|does|has|can|cannot|because|ist|est|es|è|é)\b)(?![错錯不正是项項])"
    rf"|[^.\n(]{{1,80}}? (?i:or|oder|ou|and|und|et) [(\[][A-H][)\]]"
)
_BEFORE = re.compile(rf"[A-H] ?[)\]]?{_ALSO}(?:boxed: )?[(\[]?$")
#: A line that is only a choice: "C", "(c)", "Option C."
_MARK = r"(?:(?:[-•>#+=→➡✅✔✓☑👉|]|\d\.|\[x\]) ?){0,6}"
_NAMED = rf"{_MARK}(?:{keys('answer', 'choice')}[ :]{{0,2}})?"
_PURE = re.compile(rf"{_NAMED}(?:{_BRACKETED}|([A-Ha-d]))[)\]]?[.:!| 。✅✔✓☑]{{0,3}}")
#: A line that begins with one: "C) Lima", "(c) Lima", "D, since …", "B because …", "B (Lima)".
_BEGINS = re.compile(
    rf"(?:{_MARK}{_BRACKETED}|{_NAMED}{_BRACKETED} ?[.:]"
    rf"|{_NAMED}([A-Ha-d])(?:(?: ?\|(?! ?[A-H]\b)|\)|[.:!](?! ?[A-Z]\.))(?= |$)|[。、](?![A-H]))"
    rf"|{_NAMED}([A-H])(?: ?[–—-] (?![A-H]\b)| (?=\()| (?={_REASON})|[,;])) ?(.*)"
)
#: A list of the choices follows, of which a truncated answer may have only the first.
_ANNOUNCED = re.compile(r"(?i)\b(?:options|choices|each|one by one)\b[^\n]{0,60}:\n[^\n]{0,30}$")
_LABEL = re.compile(r"[(\[]([A-H])[)\]]|(?<!\w)([A-H])[).:](?= )")
#: Said of each choice in a list: "B) Quito – Yes, correct", "B | ✅", "- [x] B. Quito".
_RIGHT = re.compile(
    r"(?:[^\n]{0,80}?[–—:(|-] ?)??(?i:(?:yes, )?(?:(?:this|that) is )?(?:the )?correct\b)"
    r"|[^\n]{0,80}?[✅✓✔☑]"
)
_VERB = re.compile(r"(?:is|was|are|would|could|can|cannot|may|might|does|has|seems|looks|fits)\b")
_ALIKE = dict(zip("АВСΑΒ", "ABCAB", strict=True))
#: A last line that concludes, or ends in a choice: "It is Quito, (B)."
_CONCLUDES = re.compile(
    r"(?i:\b(?:answer|correct|therefore)\b)"
    r"|(?:[,.:;–—(] ?|i\.e\. )(?:\(|(?i:option|choice) \(?)[A-D]\)?[.!)]*$"
)
#: A short answer that ends in one: "Quito (C)", "I think (A)."; "without (A)" says another thing.
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
_ONE = re.compile(rf"(?<![\w'’])[A-H]{_ENDS}")


def letter(text: str) -> str | None:
    """The choice that a response states last, or None where it states none, or several at once.

    Failing a statement ("the answer is …"), a line that is nothing but a choice counts, if no
    other line names another, then a choice that is called correct, and then the one choice in
    brackets of a concluding last line. Statements are read in the languages of
    ``data/answer_words.toml``; what is thought aloud is none.

    Examples
    --------
    >>> letter("The answer is a bit unclear, but **Answer: C**")
    'C'
    >>> letter("The answer is (A) or (B).") is None
    True
    """
    text = _unquoted(plain(text))
    # From the plainest to the least sure; the first that finds anything settles it, also that
    # several choices are stated, which is no answer.
    for reading in (_stated, _bare, _called_correct, _concluded):
        if (found := reading(text)) is not None:
            return found if found in ("A", "B", "C", "D") else None
    return None


def _unquoted(text: str) -> str:
    # Whoever writes Russian or Greek may take a letter of that alphabet which looks the same; "В
    # этом" is a word.
    text = re.sub(r"(?<!\w)[АВСΑΒ](?!\w)(?! [а-яё])", lambda found: _ALIKE[found[0]], text)
    for bracket in "[]<>":
        text = text.replace(2 * bracket, bracket)
    text = re.sub(r"(?<!\w)_([A-Ha-h])_(?!\w)", r"\1", text)
    # Names of fields: "correct_option".
    text = re.sub("(?<=[a-z])_(?=[a-z])", " ", text)
    text = re.sub(r"[*`$\"\\]|__|(?<![^\W_])'|'(?!\w)|\{", "", text).replace("}", " ")
    text = re.sub(r"  +", " ", re.sub(r" ?\n ?", "\n", text)).strip()
    return "\n".join(map(_unlisted, text.split("\n")))


def _unlisted(line: str) -> str:
    """A line without the letters of a list in it: "(A) 2 (B) 3 (C) 4 (D) 12"."""
    labels, listed = [*_LABEL.finditer(line)], set()
    for place in range(len(labels) - 2):
        run = labels[place : place + 4]
        named = "".join(map(_group, run))
        said = line[run[0].end() : run[1].start()].lstrip(" ,;")
        if named.startswith("ABC") and not (_VERB.match(said) or _CAUSE.match(said)):
            listed |= {label.start() for label in run[: 4 if named == "ABCD" else 3]}
    return _LABEL.sub(lambda label: "" if label.start() in listed else label[0], line)


def _group(match: re.Match) -> str:
    return next(group for group in match.groups() if group).upper()


def _last(patterns: list[re.Pattern], text: str) -> tuple[int, str] | None:
    """End and letter of the last statement; the letter is "" if several are stated at once."""
    found = [match for pattern in patterns for match in pattern.finditer(text)]
    for match in sorted(found, key=re.Match.start, reverse=True):
        if not denied(text, match.start()) and not _NOT_AFTER.match(text, match.end()):
            place = match.start(match.lastindex or 0)
            before = text[max(0, place - 30) : place]
            # "Of A, B and C, C is right": of several, "are" would be said.
            one = match.re is _CALLED_CORRECT and before.endswith(", ")
            several = _ANOTHER.match(text, match.end()) or (not one and _BEFORE.search(before))
            return match.end(), "" if several else _group(match)
    return None


def _corrected(text: str, end: int, stated: str) -> str:
    """The letter stated, or what second thoughts after it put in its place."""
    rest = text[end:].lstrip(" .,;:)]")
    thought = CORRECTS.search(rest)
    patterns = [_INSTEAD, _IT, _CALLED_CORRECT, _STATEMENT]
    again = _last(patterns, rest[thought.start() :]) if thought else None
    if not thought and not stated:
        # Of several, a later sentence may call one the right one.
        again = _last([_CALLED_CORRECT], rest)
    return again[1] if again else stated


def _stated(text: str) -> str | None:
    found = _last([_STATEMENT], text)
    return _corrected(text, *found) if found else None


def _bare(text: str) -> str | None:
    start, pure, begun, right = 0, {}, {}, {}
    for line in text.split("\n"):
        if match := _PURE.fullmatch(line):
            pure[_group(match)] = start + match.end(match.lastindex or 0)
        elif match := _BEGINS.fullmatch(line):
            place = match.start(match.lastindex or 0)
            if _RIGHT.match(line, place) or "[x]" in match[0][:place]:
                right[_group(match)] = start + place
            if not _remark(match):
                begun[_group(match)] = start + place
        start += len(line) + 1
    # A line for each choice is a list of them, not a choice; unless one of them is called right.
    named = pure or (begun if len(begun) == 1 else right)
    if len(named) != 1:
        return None
    ((stated, end),) = named.items()
    if named is begun and stated == "A" and _ANNOUNCED.search(text[:end]):
        return None
    return _corrected(text, end, stated)


def _remark(match: re.Match) -> bool:
    """Whether a line that begins with a choice goes on to another, or takes it back."""
    *_, prose, rest = match.groups()
    if _ANOTHER.match(match.string, match.start(match.lastindex or 0)) or _VERB.match(rest):
        return True
    if _CAUSE.match(rest):
        return False
    return prose is not None and bool(_ONE.search(rest) or _DENIES.search(rest))


def _called_correct(text: str) -> str | None:
    found = _last([_CALLED_CORRECT, _LEFT], text) or _last([_IT, _POINTS], text)
    return found[1] if found else None


def _concluded(text: str) -> str | None:
    # Of the last line alone: above it choices are weighed, each in its brackets.
    last = text.rpartition("\n")[2]
    if not (_CONCLUDES.search(last) or _SHORT.fullmatch(text)) or _DENIES.search(last):
        return None
    found = [*_IN_LINE.finditer(last)]
    if any(_BEFORE.search(last[: each.start(each.lastindex or 0)]) for each in found):
        return None
    named = {_group(each) for each in found if not denied(last, each.start())}
    return named.pop() if len(named) == 1 else None
