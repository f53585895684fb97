"""Answers that state the text of a choice in place of its letter."""

import re
import unicodedata
from collections.abc import Sequence

from personagap.tasks._number_words import normalize
from personagap.tasks._wording import denied, plain, stating, words

_STATES = re.compile(stating("answer", "choice"))
_CONCLUDES = re.compile(rf"(?i:{words('so')})\b")
#: What stands before a choice that a sentence ends in: "The capital is Quito.", "So it falls."
_SAYS = (
    rf"(?:\b(?:is|are|was|were|be|its|thats)(?= )|[=:]|^(?:{words('so')}),?)"
    r" ?(?:that )?(?:the |an? )?"
)
_CALLED_RIGHT = r" (?:is|would be) (?:the )?(?:correct|right|best|answer)\b"


def named(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice whose text an answer consists of, or states last."""
    text = re.sub(r"[*`$\"]", "", normalize(plain(text)))
    statements = [*_STATES.finditer(text)]
    stated = text[statements[-1].end() :] if statements else text
    line = stated.strip().split("\n")[0]
    texts = [_bare_words(normalize(plain(choice))) for choice in choices]
    sentence = re.split(r"[.!;](?: |$)|。|, (?:because|since|as)\b", line)[0]
    parts = [line, sentence]
    # "Quito, the capital of Ecuador", "Quito (in Ecuador)", but not "Quito, Lima"
    part, *remarks = re.split(r", | \(", sentence)
    remark = _bare_words(" ".join(remarks))
    parts += [] if any(_holds(remark, choice) for choice in texts) else [part]
    for given in map(_bare_words, parts):
        if given and texts.count(given) == 1:
            return "ABCD"[texts.index(given)]
    if statements:
        return None
    # "C)Quito", unless other choices are listed so, too
    lines = {re.sub(r"\W+", " ", _bare_words(line)) for line in text.split("\n")}
    labelled = (f"{letter} {choice}" for letter, choice in zip("abcd", texts, strict=True))
    listed = [name[0] for name in labelled if re.sub(r"\W+", " ", name) in lines]
    return listed[0].upper() if len(listed) == 1 else _concluded(text, texts)


def _concluded(text: str, texts: list[str]) -> str | None:
    """Return the letter of the only choice of a last sentence that ends in it or calls it right."""
    *above, line = text.split("\n")
    last = re.split(r"(?<=[.!?]) +", line)[-1]
    # A last line concludes the lines above only if it says so: it may belong to a list.
    concludes = not above or _CONCLUDES.match(last)
    sentence, said = _bare_words(last), {}
    for choice in map(re.escape, filter(None, texts)):
        ends = re.search(f"{_SAYS}({choice})$", sentence) if concludes else None
        if match := ends or re.search(rf"(?<!\w)({choice}){_CALLED_RIGHT}", sentence):
            said[match[1]] = match.start(1)
    if len(said) != 1:
        return None
    ((choice, position),) = said.items()
    others = (other for other in texts if other not in choice and _holds(sentence, other))
    if any(others) or texts.count(choice) > 1 or denied(sentence, position):
        return None
    return "ABCD"[texts.index(choice)]


def _holds(text: str, given: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(given)}(?!\w)", text) is not None


def _bare_words(text: str) -> str:
    """Return a text in lower case without its article, accents, quotes and markup."""
    text = re.sub(r"[*`$\"'’\\{}]", "", text).strip(" .,;:!()[]").casefold()
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"(?<=\d) ?per ?cent\b", "%", text)
    return re.sub(r"^(?:that )?(?:the |an? )?", "", text)
