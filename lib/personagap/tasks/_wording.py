"""What answers are worded in: characters that look alike, LaTeX, and how a result is stated.

Patterns are bounded, and read texts whose spaces are single: time grows with length, no more.
"""

import re
import unicodedata

from personagap.models import answers

_SUPERSCRIPT = dict(zip(map(ord, "⁰¹²³⁴⁵⁶⁷⁸⁹"), "0123456789", strict=True))


def _plainer() -> dict[int, str]:
    """Full-width, circled, mathematical … characters, and the ASCII that they stand for."""
    blocks = [range(0x80, 0x3400), range(0xFE00, 0x10000), range(0x1D400, 0x1D800)]
    found = {code: unicodedata.normalize("NFKC", chr(code)) for block in blocks for code in block}
    table = {code: plain for code, plain in found.items() if plain.isascii()}
    fractions = {code: found[code] for code in found if "⁄" in found[code]}
    table |= {code: f" {plain.replace('⁄', '/')}" for code, plain in fractions.items()}
    table |= {code: f"^{digit}" for code, digit in _SUPERSCRIPT.items()}
    for alike, plain in [
        ("“”„‟«»‹›「」『』‘’‚‛´＇", "'"),
        ("【［", "["),
        ("】］", "]"),
        ("−﹣－", "-"),
        ("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    ]:
        table |= dict.fromkeys(map(ord, alike), plain)
    return table


_PLAINER = _plainer()
_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mathtt|mbox|boldsymbol|bm|bf|rm"
    r"|left|right|displaystyle|operatorname|large|Large|quad|qquad)\b ?"
)
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[\n ]*")
#: Characters that are read at either end of an answer: a result is not stated far from both.
READ = 10_000


def plain(text: str) -> str:
    """What a user sees of an answer, in ASCII where it can be said so, without markup.

    Words of any language stay; a blank line becomes a line break.
    """
    text = answers.visible(text).strip()
    if len(text) > 2 * READ:
        text = f"{text[:READ]}\n{text[-READ:]}"
    text = text.translate(_PLAINER)
    text = re.sub(r"\\(?:boxed|fbox) ?\{", " boxed: ", text)
    text = re.sub(r"<(?:\w{1,12}_)?answer ?>", " answer: ", text, flags=re.IGNORECASE)
    text = re.sub(r"</?[a-zA-Z]{1,10} ?/?>", " ", text)
    text = re.sub(r"\\[()\[\]]", " ", _COMMAND.sub("", text))
    return _LINES.sub("\n", _SPACES.sub(" ", text)).strip()


#: What is stated: "the answer", "die Antwort", "正确答案" …
ANSWER = (
    r"answers?|boxed|antwort|antwoord|réponse|reponse|respuesta|risposta|resposta|ответ|svar(?:et)?"
    r"|odpowiedź"
)
#: The same of choices.
CHOICE = (
    rf"{ANSWER}|choice|option|letter|solution|result|lösung|ergebnis|résultat|opción|opcion|solución"
    r"|resultado|soluzione|risultato|opzione|opção|opcao|alternativa|solução"
)
_FILLER = (
    r"(?i: (?:correct|right|best|final|true|choice|option|letter|number|value|here|to|of|this|the"
    r"|that|your|our|question|problem|would|should|must|therefore|thus|clearly|then|so|i|choose"
    r"|give|richtige|korrekte|correct[ae]|corret[ao]|corretta|juste|exacte|bonne|giusta|certa"
    r"|finale|für|die|diese|frage|also|daher|donc|es|pour|cette|à|la|question)(?![\w'-])){0,6}"
)
_IS = (
    r"(?: ?(?i:is|was|be|are|becomes|equals|ist|lautet|wäre|sei|est|serait|sería|seria|es|è|é"
    r"|sarà|será|является|er|to|jest)(?![\w'-]) ?:?"
    r"| ?(?:是|为|為|は|应为|应该是|應該是|은|는|选|選)| ?(?:=>?|[:→⇒]|--?>?|–|—)) ?[:\n]? ?"
)


def keys(words: str) -> str:
    """A pattern of the words for what is stated, and of those of languages without spaces."""
    return rf"(?:(?i:\b(?:{words})\b)|答案|选项|選項|正解|答え|回答|解答|정답|답)"


def stating(words: str) -> str:
    """A pattern of a statement, up to where its value begins."""
    return keys(words) + _FILLER + _IS


#: Second thoughts: what follows replaces what was stated before.
MARKER = (
    r"(?i:(?:^|(?<=[.!?,;:…}\n(–—-])|(?<=[.!?,;:…}\n(–—-] ))"
    r"(?:wait|actually|correction|sorry|oops|hmm+|scratch that|on second thoughts?|rather(?! than)"
    r"|let me (?:re\w{2,10}|correct)|my mistake|i made an? (?:\w{1,12} )?(?:mistake|error)"
    r"|i (?:mean|meant)|make that|no(?= ?[,.:;!-]| wait| it| the| that)|nein|moment|warte|doch"
    r"|eigentlich|korrektur|non(?= ?[,.:;!-])|attends|attendez|en fait|plutôt|espera|perdón"
    r"|mejor dicho|en realidad|aspetta|anzi|in realtà|não(?= ?[,.:;!-])|espere|na verdade|aliás)\b"
    r"|不对|不對|等等|不,)"
)
CORRECTS = re.compile(MARKER)
_CLAUSE = re.compile(r"[.,;:!?\n。，；]|\b(?:but|aber|mais|pero|ma|mas)\b")
# What turns a statement into its opposite, or into what somebody might say.
_DENIES = re.compile(
    r"(?i)\b(?:not|cannot|never|neither|wrong|incorrect|false|if|whether|suppose|might|tempting"
    r"|another|(?:some|many) (?:people|say|think)|nicht|kein\w{0,2}|falsche?|wenn|ob|pas|fausse"
    r"|incorrecta|sbagliata|errada|initially)\b|n't\b|\b(?:no|non|não) ?$|不是|错误|錯誤|如果"
)


def denied(text: str, place: int) -> bool:
    """Whether the clause that leads up to a place denies or supposes what stands there."""
    clause = _CLAUSE.split(text[max(0, place - 80) : place])[-1]
    return _DENIES.search(clause) is not None
