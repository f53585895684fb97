"""The parts of an answer: the text that users see, the reasoning before it, and how it ended."""

import itertools
import re

from personagap.formatting import word_table
from personagap.models import Generation

#: Outcome by the server's finish reason, for answers that did not end normally: OpenAI, vLLM,
#: SGLang, Mistral, Gemini, Anthropic, Bedrock, Cohere, Zhipu, DeepSeek …
_OUTCOME_OF_REASON = {row["word"]: row["outcome"] for row in word_table("endings")}


def outcome_of(reason: str) -> str:
    """Return the outcome that a server's finish reason stands for; "answered" if it is unknown.

    Examples
    --------
    >>> [outcome_of(reason) for reason in ("eos_token", "MAX_TOKENS", "content_filter: SAFETY")]
    ['answered', 'truncated', 'blocked']
    """
    # The name of an enumeration may precede the reason, and details may follow it.
    word = reason.lower().removeprefix("finishreason.").partition(":")[0].strip()
    return _OUTCOME_OF_REASON.get(word, "answered")


_NAME = (
    r"(?:\w{1,12}[:_]|ant)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis"
    r"|rationale|cot|monologue)(?:_process|_steps?)?"
)
# The last two lines are the remains of gpt-oss's tags without their special tokens, and Gemma's.
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
#: Special tokens of chat templates, which some servers leave in the text.
_SPECIAL = re.compile(
    r"<[|｜]/?[A-Za-z][\w▁-]{2,30}[|｜]>|</?s>|<(?:bos|end_of_turn|eos)>|\[/?INST\]"
    r"|\[END FINAL RESPONSE\]"
)
#: Granite encloses its reasoning in words. Both must occur, since one may be part of any answer.
_REASONING_IN_WORDS = re.compile(
    r"\A\s*here(?:['’]s| is) my thought process:(.*?)here(?:['’]s| is) my response:",
    re.IGNORECASE | re.DOTALL,
)


def tags_of(tokenizer) -> set[int]:
    """Return the ids of the single tokens that open or close the reasoning."""
    added = tokenizer.added_tokens_decoder.items()
    patterns = _OPENS, _CLOSES
    return {i for i, token in added if any(tag.fullmatch(str(token)) for tag in patterns)}


def decoded(tokenizer, tokens: list[int], tags: set[int]) -> str:
    """Return the text of tokens, without special tokens, but with the ``tags`` around reasoning
    (Magistral's are special tokens).
    """
    # Only tags split the sequence, since a piece may lose the space that it begins with.
    runs = itertools.groupby(tokens, tags.__contains__)
    pieces = (tokenizer.decode([*run], skip_special_tokens=not tag) for tag, run in runs)
    return "".join(map(str, pieces))


def split(content: str) -> tuple[str, str]:
    """Split what a model wrote into reasoning and text.

    Reasoning is everything up to the last closing tag (servers and chat templates may hide the
    opening one), and everything after an opening tag that is never closed.

    Examples
    --------
    >>> split("<think>C? No.</think>B")
    ('C? No.', 'B')
    >>> split("<think>It could be C, but")
    ('It could be C, but', '')
    """
    content = _REASONING_IN_WORDS.sub(r"<think>\1</think>", content)
    closed = max((tag.end() for tag in _CLOSES.finditer(content)), default=0)
    opened = _OPENS.search(content, closed)
    end = opened.start() if opened else len(content)
    reasoning, text = content[:closed] + content[end:], _SPECIAL.sub("", content[closed:end])
    if closed and not text.strip() and _OPENS.search(content):
        # Nothing follows the reasoning: the answer came before it.
        reasoning, text = "\n".join(_THOUGHT.findall(content)), _THOUGHT.sub("\n", content)
    if not reasoning:
        return "", text
    reasoning = _CLOSES.sub("\n", _OPENS.sub("\n", reasoning))
    return reasoning.strip(), text.strip()


def visible(content: str) -> str:
    """Return the text that the user sees, without the reasoning; see `split`."""
    return split(content)[1]


def parse_answer(answer: Generation, prompt: str = "") -> Generation:
    """Return the same answer with ``text``, ``reasoning`` and ``outcome`` separated.

    Parts that the server has separated are kept, and so is the raw ``finish_reason``. Some chat
    templates open the reasoning themselves: the rendered ``prompt`` then ends with an opening tag.

    Examples
    --------
    >>> parse_answer(Generation("<think>Hm", "length", 3, 2, 0.1)).outcome
    'unfinished'
    >>> parse_answer(Generation("", "content_filter", 3, 0, 0.1)).outcome
    'blocked'
    """
    outcome = answer.outcome or outcome_of(answer.finish_reason)
    if answer.text is None or outcome == "failed":
        return answer._replace(text=None, outcome="failed")
    opening = [tag[0] for tag in _OPENS.finditer(prompt[-40:]) if prompt.rstrip().endswith(tag[0])]
    content = "".join(opening) + answer.text
    thought, text = split(content)
    if outcome in ("answered", "truncated") and not text.strip():
        opened, closed = len(_OPENS.findall(content)), len(_CLOSES.findall(content))
        cut = opened > closed or (outcome == "truncated" and (answer.reasoning or thought))
        outcome = "unfinished" if cut else "empty"
    reasoning = "\n".join(filter(None, [answer.reasoning, thought]))
    return answer._replace(text=text, reasoning=reasoning, outcome=outcome)
