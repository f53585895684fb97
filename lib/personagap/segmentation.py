"""Words of a text, in scripts with and without spaces between them."""

import re

#: Scripts without: Thai, Lao, Burmese, Khmer, Japanese and Chinese.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"


def word_pattern(letters: int) -> str:
    """A regular expression with one group, for words of so many letters or more; in scripts without
    spaces, for each two neighbouring letters, as a whole sentence recurs in no other.

    Examples
    --------
    >>> re.findall(word_pattern(2), "I use Python写程序")
    ['use', 'Python', '写程', '程序']
    """
    word = rf"(?<![^\W{UNSPACED}])[^\W{UNSPACED}]{{{letters},}}"
    return rf"(?=([{UNSPACED}]{{2}}|{word}))"


def spaced(text: str) -> str:
    """The text with a space between the letters of scripts without spaces: so length is told in
    letters there.

    Examples
    --------
    >>> spaced("I use Python写程序。").split()
    ['I', 'use', 'Python', '写', '程', '序。']
    """
    return re.sub(rf"(?=[{UNSPACED}])|(?<=[{UNSPACED}])(?=\w)", " ", text)
