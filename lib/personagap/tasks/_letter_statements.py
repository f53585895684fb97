"""A small grammar of sentences that state a choice (A–D).

The words of each kind, in many languages, come from ``data/answer_words.toml``.
"""

import re

from personagap.tasks._wording import CORRECTS, MARKER, denied, keys, stating, words

#: Words that start an explanation of the choice ("B because …"). Any other word after a capital
#: letter makes it prose ("A bit of").
CAUSE = re.compile(
    rf"(?:{words('cause')})\b|(?:not|rather than|instead of) [(\[]?[A-H]\b(?! (?:and|or|but)\b)"
)
REASON = rf"(?:{words('cause')}|{words('goes_on')})\b"
_LATIN = "A-Za-zÀ-ɏḀ-ỿ"
#: The end of a standalone letter, which excludes "C-section", "D.C." and "A's".
ENDS = rf"(?![{_LATIN}0-9_’'+#]|-\w|\.\w)"
# A letter is "(c)" in either case, a capital that cannot be prose ("A bit of", S6), or a lower-case
# letter at the end of a sentence or line. E to H match too, because an answer that states one of
# them states none of the choices.
BRACKETED = r"[(\[<] ?([A-Ha-h]) ?[)\]>]"
_CAPITAL = rf"(A(?! (?!{REASON})[{_LATIN}0-9])|[B-H](?! (?!{REASON})[a-zà-ɏḁ-ỹ])){ENDS}"
_SMALL = rf"([a-h]){ENDS}(?= ?(?:[.,;:!)\]\n]|$)| (?:because|since)\b)"
_LETTER = rf"(?:{BRACKETED}|{_CAPITAL}|{_SMALL})"
_LEAD = rf"(?:(?:(?i:{words('lead')})|a(?= ))[ ,:]{{0,2}}){{0,4}}[(\[]?\n?"
_END = r"(?= ?[.,:;!)。]| ?\n| ?$|です|입니다| (?:because|since|I think|I believe|I guess)\b)"
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
UNLIKE = r"(?i:\b(?:wrong|incorrect|eliminated|excluded)\b)"
STATEMENT = re.compile(
    rf"(?:{stating('answer', 'choice')}|{_CHOOSES}|{_HEADING}|{_CORRECT}){_LEAD}{_LETTER}"
    # "I think B.", but not "I think B is too early"
    r"|(?i:\b(?:if )?i(?:'d|'ll|'m going to| would| will| had to)?"
    rf" (?:think|guess|say|vote(?: for)?),? ){_LEAD}{_LETTER}{_END}"
    # "Answer C."
    rf"|(?:(?m:^)|(?<=[.!?] ))(?i:answer) {_LETTER}{_END}"
    # "Therefore, it must be (C)."
    rf"|{_SO}(?:{_IT_IS})?{_LEAD}{_LETTER}"
    rf"(?=[ .:!。।]*(?:\n|$)|, (?:al)?though\b)"
    # "Thus the most proactive approach is option B: …"
    rf"|(?:(?m:^)|(?<=[.!?] )){_SO}(?:(?!{UNLIKE})[^.:;\n]){{1,120}}"
    rf" (?i:(?:is|are|would be|must be) (?:the )?(?:option|choice)) (?:{BRACKETED}|([A-H]){ENDS})"
    # "Doğru cevap C'dir." (verb after the letter) and "Верный ответ C." (no verb)
    rf"|{keys('answer', 'choice')} {_LEAD}(?:{BRACKETED}|([A-H]))(?={words('verb_last')})"
    rf"|{keys('verbless')} {_LEAD}(?:{BRACKETED}|([A-H])(?=[.!।]?(?: ?\n|$)|[.!।] ))"
)
_CALLED_CORRECT = re.compile(
    rf"(?:{BRACKETED}|(?<![{_LATIN}0-9_'’(\[])([A-H])[)\]]?)"
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
    rf"|(?i:\bonly (?:option |choice )?)(?:{BRACKETED}|([A-D]))"
    r"(?= (?:is|works|fits|remains|satisfies|meets|matches|applies|holds|makes sense|can|does|has"
    r"|gives|explains)\b)"
    # "The false statement is C", "the one that does not belong is C", "all are true except C"
    r"|(?i:\b(?:(?:false|incorrect|untrue) (?:one|statement)|(?:one|statement|option|choice)"
    r" (?:that|which) (?!.{0,20}\b(?:eliminat|exclud|rul))[\w' ]{2,60}) is ) ?"
    rf"{_LETTER}{_END}|(?i:\ball\b[^.\n]{{0,60}}? (?:are|were|do|have|can) [^.\n]{{1,60}}? except"
    rf" (?:(?:for|option|choice) ){{0,2}}){_LETTER}{_END}"
    # "Not A, but B"
    rf"|(?i:\b(?:not|nicht|pas) )[(\[]?[A-H][)\]]?,? (?:but|sondern|mais) {_LETTER}"
    r"|(?i:\b(?:not (?:correct|right|true)|wrong|incorrect|false)[,;.] (?:but )?)"
    rf"(?:{BRACKETED}|([A-D])) is(?= ?[.!]? ?(?:\n|$))"
)
#: A denial after the letter, as in Turkish: "B değil" ("not B").
_DENIED_AFTER = re.compile(words("denies_after"))
_IT = re.compile(_IT_IS + _LEAD + _LETTER + _END)
#: "The diagnosis is (C) anaemia", "this corresponds to option B".
_POINTS = re.compile(
    rf"(?i:\b(?:{words('points')}) (?:the )?)"
    rf"(?:{BRACKETED}|(?i:(?:option|choice|answer|statement) )(?:{BRACKETED}|([A-H]){ENDS}))"
)
_MARKED = MARKER + r"[,、:;.!… –—-]{1,3}"
_INSTEAD = re.compile(rf"{_MARKED}(?:{_MARKED})?{_LEAD}{_LETTER}{_END}")
_ALSO = (
    rf" ?(?:(?<=[)\]])(?=[(\[])|,|/|&|;|{words('also', unspaced=True)}"
    rf"|,? ?(?i:{words('also', unspaced=False)})(?= |\()) ?"
)
ANOTHER = re.compile(
    rf"[)\]]?{_ALSO}(?i:(?:or|and|maybe|perhaps|possibly|option|choice|even) ?){{0,3}}"
    rf"[(\[]?[A-H]{ENDS}[)\]]?+(?!(?:(?:,|,? and) [(\[]?[A-H][)\]]?){{0,4}}"
    r" (?i:is|are|was|would|does|has|can|cannot|because|ist|est|es|è|é)\b)(?![错錯不正是项項])"
    rf"|[^.\n(]{{1,80}}? (?i:or|oder|ou|and|und|et) [(\[][A-H][)\]]"
)
BEFORE = re.compile(rf"[A-H] ?[)\]]?{_ALSO}(?:boxed: )?[(\[]?$")


def letter_of(match: re.Match) -> str:
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
            several = ANOTHER.match(text, match.end()) or (not single and BEFORE.search(before))
            return match.end(), "" if several else letter_of(match)
    return None


def revised(text: str, end: int, stated: str) -> str:
    """Return the letter that second thoughts after ``end`` put in place of the one stated."""
    rest = text[end:].lstrip(" .,;:)]")
    second_thought = CORRECTS.search(rest)
    patterns = [_INSTEAD, _IT, _CALLED_CORRECT, STATEMENT]
    revision = _last(patterns, rest[second_thought.start() :]) if second_thought else None
    if not second_thought and not stated:
        # After several choices, a later sentence may call one of them correct.
        revision = _last([_CALLED_CORRECT, _IT], rest)
    return revision[1] if revision else stated


def stated(text: str) -> str | None:
    """Return the letter of the last "the answer is …"."""
    statement = _last([STATEMENT], text)
    return revised(text, *statement) if statement else None


def called_correct(text: str) -> str | None:
    """Return the last letter that is called correct, or pointed to ("it is C")."""
    statement = _last([_CALLED_CORRECT, _SINGLED_OUT], text) or _last([_IT, _POINTS], text)
    return statement[1] if statement else None
