"""Segmentation of text into words, in scripts with and without spaces between words."""

import re

#: Scripts without spaces: Thai, Lao, Burmese, Khmer, Japanese and Chinese
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"


def word_pattern(letters: int) -> str:
    """Return a regular expression with one group, which matches words of a minimal length.

    ``letters`` is the least number of letters of a word. In scripts without spaces the expression
    matches every pair of neighbouring letters, because whole sentences would not recur elsewhere.

    Examples
    --------
    >>> re.findall(word_pattern(2), "I use Python写程序")
    ['use', 'Python', '写程', '程序']
    """
    word = rf"(?<![^\W{UNSPACED}])[^\W{UNSPACED}]{{{letters},}}"
    return rf"(?=([{UNSPACED}]{{2}}|{word}))"


def spaced(text: str) -> str:
    """Return the text with spaces between the letters of scripts without spaces.

    The length of such texts in words is then their number of letters.

    Examples
    --------
    >>> spaced("I use Python写程序。").split()
    ['I', 'use', 'Python', '写', '程', '序。']
    """
    return re.sub(rf"(?=[{UNSPACED}])|(?<=[{UNSPACED}])(?=\w)", " ", text)
