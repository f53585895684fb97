"""An answer taken apart: what the user sees, and what was thought before."""

import re

_WORDS = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis)"
_OPENS = re.compile(
    rf"<\s?{_WORDS}\s?>|\[think\]|◁think▷|<\|begin_of_thought\|>|<\|start_thinking\|>"
    r"|<\|channel\|>analysis<\|message\|>",
    re.IGNORECASE,
)
_CLOSES = re.compile(
    rf"<\s?/\s?{_WORDS}\s?>|\[/think\]|◁/think▷|<\|end_of_thought\|>|<\|end_thinking\|>"
    r"|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)


def split(content: str) -> tuple[str, str]:
    """Reasoning and text of what a model wrote.

    Reasoning goes up to the last closing tag (servers and chat templates may keep the opening one
    to themselves), and from an opening tag that is never closed to the end.

    Examples
    --------
    >>> split("<think>C? No.</think>B")
    ('C? No.', 'B')
    >>> split("<think>It could be C, but")
    ('It could be C, but', '')
    """
    closed = max((found.end() for found in _CLOSES.finditer(content)), default=0)
    opened = _OPENS.search(content, closed)
    end = opened.start() if opened else len(content)
    reasoning, text = content[:closed] + content[end:], content[closed:end]
    if closed and not text.strip() and (first := _OPENS.search(content)):
        # Nothing follows the thought: the answer was given before it.
        reasoning, text = content[first.start() :], content[: first.start()]
    if not reasoning:
        return "", content
    reasoning = _CLOSES.sub("\n", _OPENS.sub("\n", reasoning))
    return reasoning.strip(), text.strip()


def visible(content: str) -> str:
    """What the user sees of what a model wrote, of `split`."""
    return split(content)[1]
