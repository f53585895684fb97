"""Extraction of the choice (A–D) that an answer states, with a small grammar of statements.

The words of each kind, in many languages, come from ``data/answer_words.toml``.
"""

import re

from personagap.tasks._wording import CORRECTS, MARKER, denied, keys, plain, stating, words

#: Words that start an explanation of the choice ("B because …"). Any other word after a capital
#: letter makes it prose ("A bit of").
_CAUSE = re.compile(
    rf"(?:{words('cause')})\b|(?:not|rather than|instead of) [(\[]?[A-H]\b(?! (?:and|or|but)\b)"
)
_REASON = rf"(?:{words('cause')}|{words('goes_on')})\b"
_LATIN = "A-Za-zÀ-ɏḀ-ỿ"
#: The end of a standalone letter, which excludes "C-section", "D.C." and "A's".
_ENDS = rf"(?![{_LATIN}0-9_’'+#]|-\w|\.\w)"
# A letter is "(c)" in either case, a capital that cannot be prose ("A bit of", S6), or a lower-case
# letter at the end of a sentence or line. E to H match too, because an answer that states one of
# them states none of the choices.
_BRACKETED = r"[(\[<] ?([A-Ha-h]) ?[)\]>]"
_CAPITAL = rf"(A(?! (?!{_REASON})[{_LATIN}0-9])|[B-H](?! (?!{_REASON})[a-zà-ɏḁ-ỹ])){_ENDS}"
_SMALL = rf"([a-h]){_ENDS}(?= ?(?:[.,;:!)\]\n]|$)| (?:because|since)\b)"
_LETTER = rf"(?:{_BRACKETED}|{_CAPITAL}|{_SMALL})"
_LEAD = rf"(?:(?:(?i:{words('lead')})|a(?= ))[ ,:]{{0,2}}){{0,4}}[(\[]?\n?"
_END = r"(?= ?[.,:;!)。]| ?\n| ?$|です|입니다| (?:because|since)\b)"
_SO = rf"(?i:\b(?:{words('so', unspaced=False)})(?!\w)|{words('so', unspaced=True)})[,、:]? ?"
_IT_IS = rf"(?i:\b(?:{words('it_is', unspaced=False)})|{words('it_is', unspaced=True)}) ?"
_CHOOSES = (
    rf"(?:(?i:\b(?:{words('chooses', unspaced=False)})) |(?:{words('chooses', unspaced=True)}) ?)"
)
#: A heading such as "### Final answer", with the letter on the line below.
_HEADING = (
    rf"(?m:^)#{{0,5}} ?(?i:(?:the|my|final|correct|best) ){{0,3}}{keys('answer', 'choice')}"
    r" ?[\n.)] ?"
)
_CORRECT = (
    r"(?i:\b(?:correct|richtig|korrekt|correcta)(?: ?:| ist)|\bans ?[.:-]"
    r"|\b(?:correct|right) one is) ?"
)
_UNLIKE = r"(?i:\b(?:wrong|incorrect|eliminated|excluded)\b)"
_STATEMENT = re.compile(
    rf"(?:{stating('answer', 'choice')}|{_CHOOSES}|{_HEADING}|{_CORRECT}){_LEAD}{_LETTER}"
    # "I think B.", but not "I think B is too early"
    r"|(?i:\bi(?:'d|'ll|'m going to| would| will)? (?:think|guess|say|vote(?: for)?) )"
    rf"{_LEAD}{_LETTER}{_END}"
    # "Therefore, it must be (C)."
    rf"|{_SO}(?:{_IT_IS})?{_LEAD}{_LETTER}"
    rf"(?=[ .:!。।]*(?:\n|$)|, (?:al)?though\b)"
    # "Thus the most proactive approach is option B: …"
    rf"|(?:(?m:^)|(?<=[.!?] )){_SO}(?:(?!{_UNLIKE})[^.:;\n]){{1,120}}"
    rf" (?i:(?:is|are|would be|must be) (?:the )?(?:option|choice)) (?:{_BRACKETED}|([A-H]){_ENDS})"
    # "Doğru cevap C'dir." (verb after the letter) and "Верный ответ C." (no verb)
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
_SINGLED_OUT = re.compile(
    r"(?i:\b(?:correct|right|best|closest|only|that is true|exception|odd one out|least likely)\b"
    rf"[\w ]{{0,40}}? (?:is|must be|would be)) ?:? ?{_LETTER}"
    rf"|(?i:\bonly (?:option |choice )?)(?:{_BRACKETED}|([A-D]))"
    r"(?= (?:is|works|fits|remains|satisfies|meets|matches|applies|holds|makes sense)\b)"
    # "Not A, but B"
    rf"|(?i:\b(?:not|nicht|pas) )[(\[]?[A-H][)\]]?,? (?:but|sondern|mais) {_LETTER}"
    r"|(?i:\b(?:not (?:correct|right|true)|wrong|incorrect|false)[,;.] (?:but )?)"
    rf"(?:{_BRACKETED}|([A-D])) is(?= ?[.!]? ?(?:\n|$))"
)
#: A denial after the letter, as in Turkish: "B değil" ("not B").
_DENIED_AFTER = re.compile(words("denies_after"))
_IT = re.compile(_IT_IS + _LEAD + _LETTER + _END)
#: "The diagnosis is (C) anaemia", "this corresponds to option B".
_POINTS = re.compile(
    rf"(?i:\b(?:{words('points')}) (?:the )?)"
    rf"(?:{_BRACKETED}|(?i:(?:option|choice|answer|statement) )(?:{_BRACKETED}|([A-H]){_ENDS}))"
)
_MARKED = MARKER + r"[,、:;.!… –—-]{1,3}"
_INSTEAD = re.compile(rf"{_MARKED}(?:{_MARKED})?{_LEAD}{_LETTER}{_END}")
_ALSO = (
    rf" ?(?:(?<=[)\]])(?=[(\[])|,|/|&|;|{words('also', unspaced=True)}"
    rf"|,? ?(?i:{words('also', unspaced=False)})(?= |\()) ?"
)
_ANOTHER = re.compile(
    rf"[)\]]?{_ALSO}(?i:(?:or|and|maybe|perhaps|possibly|option|choice|even) ?){{0,3}}"
    rf"[(\[]?[A-H]{_ENDS}[)\]]?+"
    r"(?! (?i:is|are|was|would|does|has|can|cannot|because|ist|est|es|è|é)\b)(?![错錯不正是项項])"
    rf"|[^.\n(]{{1,80}}? (?i:or|oder|ou|and|und|et) [(\[][A-H][)\]]"
)
_BEFORE = re.compile(rf"[A-H] ?[)\]]?{_ALSO}(?:boxed: )?[(\[]?$")
#: Bullets and check marks at the start of a line.
_MARK = r"(?:(?:[-•>#+=→➡✅✔✓☑👉|]|\d\.|\[x\]) ?){0,6}"
_NAMED = rf"{_MARK}(?:{keys('answer', 'choice')}[ :]{{0,2}})?"
#: A line that consists of a choice: "C", "(c)", "Option C."
_ALONE = rf"[(\[]?(?:{_BRACKETED}|([A-Ha-d]))[)\]]?[.:!| 。✅✔✓☑]{{0,3}}"
_CHOICE_ONLY = re.compile(rf"{_NAMED}{_ALONE}")
#: A last line with any label that does not reject: "Verdict: C"
_LABELLED = re.compile(rf"(?!.*{_UNLIKE})[^\W\d][\w; ]{{2,29}}: ?{_ALONE}")
#: The label of an answer in a dialogue of questions (Q) and answers (A)
_A_LABEL = re.compile(r"(?m)^A: ?(?=[(\[][A-D][)\]]|[A-D](?:[.:)]|$))")
#: A line that starts with one: "C) Lima", "(c) Lima", "D, since …", "B because …", "B (Lima)".
_CHOICE_FIRST = re.compile(
    rf"(?:{_MARK}{_BRACKETED}|{_NAMED}{_BRACKETED} ?[.:]"
    rf"|{_NAMED}([A-Ha-d])(?:(?: ?\|(?! ?[A-H]\b)|\)|[.:!](?! ?[A-Z]\.))(?= |$)|[。、](?![A-H]))"
    rf"|{_NAMED}([A-H])(?: ?[–—-] (?![A-H]\b)| (?=\()| (?={_REASON})|[,;])) ?(.*)"
)
#: An announcement of a list of all choices, of which a truncated answer may hold only the first.
_LIST_AHEAD = re.compile(r"(?i)\b(?:options|choices|each|one by one)\b[^\n]{0,60}:\n[^\n]{0,30}$")
_LABEL = re.compile(r"[(\[]([A-H])[)\]]|(?<!\w)([A-H])[).:](?= )")
#: A verdict on one choice in a list: "B) Quito – Yes, correct", "B | ✅", "- [x] B. Quito".
_MARKED_CORRECT = re.compile(
    r"(?:[^\n]{0,80}?[–—:(|-] ?)??(?i:(?:yes, )?(?:(?:this|that) is )?(?:the )?correct\b)"
    r"|[^\n]{0,80}?[✅✓✔☑]"
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
_ANY_LETTER = re.compile(rf"(?<![\w'’])[A-H]{_ENDS}")


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
    text = _normalized(plain(text))
    if not re.search(r"(?m)^B:", text):
        text = _A_LABEL.sub("answer: ", text)
    # From the most to the least explicit. The first reader with a result decides, even if that
    # result is "" (several choices at once), which is no valid answer.
    for read in (_stated, _bare, _called_correct, _concluded):
        if (choice := read(text)) is not None:
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
        letters = "".join(map(_letter_of, run))
        entry = line[run[0].end() : run[1].start()].lstrip(" ,;")
        if letters.startswith("ABC") and not (_VERB.match(entry) or _CAUSE.match(entry)):
            listed |= {label.start() for label in run[: 4 if letters == "ABCD" else 3]}
    return _LABEL.sub(lambda label: "" if label.start() in listed else label[0], line)


def _letter_of(match: re.Match) -> str:
    return next(group for group in match.groups() if group).upper()


def _last(patterns: list[re.Pattern], text: str) -> tuple[int, str] | None:
    """Return end and letter of the last statement; the letter is "" if it states several."""
    matches = [match for pattern in patterns for match in pattern.finditer(text)]
    for match in sorted(matches, key=re.Match.start, reverse=True):
        if not denied(text, match.start()) and not _DENIED_AFTER.match(text, match.end()):
            start = match.start(match.lastindex or 0)
            before = text[max(0, start - 30) : start]
            # "Of A, B and C, C is right" states one choice: several would take "are".
            single = match.re is _CALLED_CORRECT and before.endswith(", ")
            several = _ANOTHER.match(text, match.end()) or (not single and _BEFORE.search(before))
            return match.end(), "" if several else _letter_of(match)
    return None


def _revised(text: str, end: int, stated: str) -> str:
    """Return the letter that second thoughts after ``end`` put in place of the one stated."""
    rest = text[end:].lstrip(" .,;:)]")
    second_thought = CORRECTS.search(rest)
    patterns = [_INSTEAD, _IT, _CALLED_CORRECT, _STATEMENT]
    revision = _last(patterns, rest[second_thought.start() :]) if second_thought else None
    if not second_thought and not stated:
        # After several choices, a later sentence may call one of them correct.
        revision = _last([_CALLED_CORRECT], rest)
    return revision[1] if revision else stated


def _stated(text: str) -> str | None:
    """Return the letter of the last "the answer is …"."""
    statement = _last([_STATEMENT], text)
    return _revised(text, *statement) if statement else None


def _bare(text: str) -> str | None:
    """Return the letter of the only line that consists of a choice, or starts with one."""
    # The position of each letter, by the kind of line that it stands on
    line_start, alone, leading, marked_correct = 0, {}, {}, {}
    lines = text.split("\n")
    for line in lines:
        if match := _CHOICE_ONLY.fullmatch(line):
            alone[_letter_of(match)] = line_start + match.end(match.lastindex or 0)
        elif match := _CHOICE_FIRST.fullmatch(line):
            start = match.start(match.lastindex or 0)
            if _MARKED_CORRECT.match(line, start) or "[x]" in match[0][:start]:
                marked_correct[_letter_of(match)] = line_start + start
            if not _is_remark(match):
                leading[_letter_of(match)] = line_start + start
        line_start += len(line) + 1
    label = lines[-1].partition(":")[0]
    if (match := _LABELLED.fullmatch(lines[-1])) and not denied(label, len(label)):
        alone.setdefault(_letter_of(match), len(text))
    # One line for each choice is a list of them, not an answer, unless one is marked as correct.
    candidates = alone or (leading if len(leading) == 1 else marked_correct)
    if len(candidates) != 1:
        return None
    ((stated, end),) = candidates.items()
    if candidates is leading and stated == "A" and _LIST_AHEAD.search(text[:end]):
        return None
    return _revised(text, end, stated)


def _is_remark(match: re.Match) -> bool:
    """Return whether a line that starts with a choice goes on to another one, or rejects it."""
    *_, prose, rest = match.groups()
    if _ANOTHER.match(match.string, match.start(match.lastindex or 0)) or _VERB.match(rest):
        return True
    if _CAUSE.match(rest) or re.match(r"(?i)\(?(?:both|all|neither|none)\b", rest):
        return False
    return prose is not None and bool(_ANY_LETTER.search(rest) or _DENIES.search(rest))


def _called_correct(text: str) -> str | None:
    """Return the last letter that is called correct, or pointed to ("it is C")."""
    statement = _last([_CALLED_CORRECT, _SINGLED_OUT], text) or _last([_IT, _POINTS], text)
    return statement[1] if statement else None


def _concluded(text: str) -> str | None:
    """Return the only letter on a concluding last line."""
    # Lines above the last one discuss the choices, each of which may stand in brackets there.
    last_line = text.rpartition("\n")[2]
    if not (_CONCLUDES.search(last_line) or _SHORT.fullmatch(text)) or _DENIES.search(last_line):
        return None
    matches = [*_IN_LINE.finditer(last_line)]
    if any(_BEFORE.search(last_line[: match.start(match.lastindex or 0)]) for match in matches):
        return None
    letters = {_letter_of(match) for match in matches if not denied(last_line, match.start())}
    return letters.pop() if len(letters) == 1 else None
