"""An answer taken apart, once: what the user sees, what was thought before, and how it ended."""

import itertools
import re

from personagap.models import Generation
from personagap.spelling import entries

OUTCOMES = ("answered", "truncated", "refused", "blocked", "empty", "unfinished", "failed")
#: Those that leave nothing to grade: neither wrong nor harmless.
NONRESPONSE = ("blocked", "empty", "unfinished")
#: What servers say of an answer that did not simply end: OpenAI, vLLM, SGLang, Mistral, Gemini,
#: Anthropic, Bedrock, Cohere, Zhipu, DeepSeek …
_ENDED = {row["word"]: row["outcome"] for row in entries("endings")}


def ending(reason: str) -> str:
    """The outcome that a server's word for the end of an answer tells; "answered" for any other.

    Examples
    --------
    >>> [ending(reason) for reason in ("eos_token", "MAX_TOKENS", "content_filter: SAFETY")]
    ['answered', 'truncated', 'blocked']
    """
    # An enumeration's name may stand before it, and details behind.
    word = reason.lower().removeprefix("finishreason.").partition(":")[0].strip()
    return _ENDED.get(word, "answered")


_NAME = (
    r"(?:\w{1,12}[:_]|ant)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis"
    r"|rationale|cot|monologue)(?:_process|_steps?)?"
)
# The last two are what is left of tags without their special tokens (gpt-oss), and Gemma's.
_OPENING = (
    rf"<\s?{_NAME}(?:\s[^<>\n]{{0,80}})?\s?>|\[think(?:ing)?\]|◁think▷"
    r"|<\|begin_of_thought\|>|<\|start_thinking\|>"
    r"|<\|channel\|>analysis<\|message\|>|(?-i:\Aanalysis(?=[A-Z]))"
    r"|<unused94>thought\b|<\|channel>thought\b"
)
_CLOSING = (
    rf"<\s?/\s?{_NAME}\s?>|\[/think(?:ing)?\]|◁/think▷"
    r"|<\|end_of_thought\|>|<\|end_thinking\|>"
    r"|(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|(?-i:assistantfinal)"
    r"|<unused95>|<channel\|>|\[begin final response\]"
)
_OPENS, _CLOSES, _THOUGHT = (
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (_OPENING, _CLOSING, rf"(?:{_OPENING})(.*?)(?:{_CLOSING})")
)
#: Special tokens of chat templates, which some servers do not leave out.
_SPECIAL = re.compile(
    r"<[|｜]/?[A-Za-z][\w▁-]{2,30}[|｜]>|</?s>|<(?:bos|end_of_turn|eos)>|\[/?INST\]"
    r"|\[END FINAL RESPONSE\]"
)
#: Granite's thought, which words enclose; either of them alone may be part of any answer.
_WORDED = re.compile(
    r"\A\s*here(?:['’]s| is) my thought process:(.*?)here(?:['’]s| is) my response:",
    re.IGNORECASE | re.DOTALL,
)


def tags_of(tokenizer) -> set[int]:
    """The tokens that by themselves open or close a thought."""
    added = tokenizer.added_tokens_decoder.items()
    tags = _OPENS, _CLOSES
    return {number for number, token in added if any(tag.fullmatch(str(token)) for tag in tags)}


def decoded(tokenizer, tokens: list[int], tags: set[int]) -> str:
    """What tokens say, without special ones, but for ``tags`` around a thought (Magistral's)."""
    # In one piece where there are none: a piece may lose the space that it begins with.
    runs = itertools.groupby(tokens, tags.__contains__)
    pieces = (tokenizer.decode([*run], skip_special_tokens=not tag) for tag, run in runs)
    return "".join(map(str, pieces))


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
    content = _WORDED.sub(r"<think>\1</think>", content)
    closed = max((found.end() for found in _CLOSES.finditer(content)), default=0)
    opened = _OPENS.search(content, closed)
    end = opened.start() if opened else len(content)
    reasoning, text = content[:closed] + content[end:], _SPECIAL.sub("", content[closed:end])
    if closed and not text.strip() and _OPENS.search(content):
        # Nothing follows the thought: the answer was given before it.
        reasoning, text = "\n".join(_THOUGHT.findall(content)), _THOUGHT.sub("\n", content)
    if not reasoning:
        return "", text
    reasoning = _CLOSES.sub("\n", _OPENS.sub("\n", reasoning))
    return reasoning.strip(), text.strip()


def visible(content: str) -> str:
    """What the user sees of what a model wrote, of `split`."""
    return split(content)[1]


def take_apart(answer: Generation, prompt: str = "") -> Generation:
    """The same answer, with ``text``, ``reasoning`` and ``outcome`` told apart.

    What a server has told apart stays, and so does the raw ``finish_reason``. Some chat templates
    begin the thought themselves: then the rendered ``prompt`` ends with its opening tag.

    Examples
    --------
    >>> take_apart(Generation("<think>Hm", "length", 3, 2, 0.1)).outcome
    'unfinished'
    >>> take_apart(Generation("", "content_filter", 3, 0, 0.1)).outcome
    'blocked'
    """
    outcome = answer.outcome or ending(answer.finish_reason)
    if answer.text is None or outcome == "failed":
        return answer._replace(text=None, outcome="failed")
    begun = [tag[0] for tag in _OPENS.finditer(prompt[-40:]) if prompt.rstrip().endswith(tag[0])]
    content = "".join(begun) + answer.text
    thought, text = split(content)
    if outcome in ("answered", "truncated") and not text.strip():
        opened, closed = len(_OPENS.findall(content)), len(_CLOSES.findall(content))
        cut = opened > closed or (outcome == "truncated" and (answer.reasoning or thought))
        outcome = "unfinished" if cut else "empty"
    reasoning = "\n".join(filter(None, [answer.reasoning, thought]))
    return answer._replace(text=text, reasoning=reasoning, outcome=outcome)
