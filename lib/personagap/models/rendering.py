"""From chat messages to the prompt string of one tokenizer, with nothing lost on the way (S9)."""

import datetime
import re
from typing import Any

from personagap.errors import UserError, first_line

Messages = list[dict[str, str]]
#: What follows the answer in a text that a base model wrote begins so.
BASE_STOP = "\n\nQuestion:"
#: Instead of the model's chat template: how a base model, which knows no chat, is asked, in our
#: wording; a plain string, as in the code of arXiv 2409.20296 (P8).
FORMATS = {
    "base": "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }}"
    "{% elif message.role == 'user' %}{{ '\n\nQuestion: ' + message.content + '\n\nAnswer:' }}"
    "{% else %}{{ ' ' + message.content }}{% endif %}{% endfor %}",
    "plain": "{{ bos_token or '' }}{% for message in messages %}{{ message.content }}{% endfor "
    "%}{{ '\n' }}",
}

#: Today, as chat templates state it. It is one day for all runs, so that prompts, and the answers
#: stored under their hashes, stay the same after midnight, when a run is taken up again, and when
#: it is repeated.
DATE = datetime.date(2026, 1, 1)
#: The same as templates write it that read it from a field.
DATE_STRING = f"{DATE:%d %b %Y}"
#: Before a template that asks for the date: templates are given plain data alone, so that the
#: function they call is written in their own language. It puts parts of the date for the directives
#: of its format.
PINNED = (
    "{%- macro strftime_now(format) -%}{%- set text = namespace(made=format) -%}{%- for "
    "directive, value in date_parts.items() -%}{%- set text.made = text.made.replace(directive, "
    "value) -%}{%- endfor -%}{{- text.made -}}{%- endmacro %}"
)
#: Directives of ``strftime``; of those with a dash, C libraries leave the leading zero out.
DATE_PARTS = {
    f"%{letter}": DATE.strftime(f"%{letter}") for letter in "aAbBcdDeFgGhHIjklmMnpPrRsSTuUVwWxXyYzZ"
} | {f"%-{letter}": str(int(DATE.strftime(f"%{letter}"))) for letter in "dmyjHIMS"}


def user_says(text: str) -> Messages:
    """A chat of one message, of the user."""
    return [{"role": "user", "content": text}]


def fold_system(messages: Messages) -> Messages:
    """Put the system message at the head of the first user turn.

    Examples
    --------
    >>> asked = {"role": "user", "content": "Hi"}
    >>> fold_system([{"role": "system", "content": "I am a man."}, asked])
    [{'role': 'user', 'content': 'I am a man.\\n\\nHi'}]
    >>> fold_system([{"role": "system", "content": ""}, asked])
    [{'role': 'user', 'content': 'Hi'}]
    """
    both = "\n\n".join(message["content"] for message in messages[:2] if message["content"])
    return [*user_says(both), *messages[2:]]


def render(tokenizer, messages: Messages) -> str:
    """The prompt of a chat, with the generation prompt, or as far as the assistant has begun to
    answer; see `fit`.
    """
    return fit(tokenizer, messages)[1]


def fit(tokenizer, messages: Messages) -> tuple[Messages, str]:
    """The messages as the chat template can show them, and their prompt.

    A template that refuses a system message, or leaves it out, gets its text at the head of the
    user turn. Of an empty one nothing is left there: the prompt is that of none. ``UserError`` for
    no chat template, one that fails, or one that drops the system text either way.
    """
    if not tokenizer.chat_template:
        remedy = "is it a base model? (prompt_format='base')"
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no chat template; {remedy}")
    if messages[0]["role"] != "system":
        return messages, _apply(tokenizer, messages)
    # Templates commonly trim what they are given.
    system = messages[0]["content"].strip()
    try:
        prompt = _apply(tokenizer, messages)
    except UserError:
        prompt = None
    if prompt is None or system not in prompt:
        messages = fold_system(messages)
        prompt = _apply(tokenizer, messages)
    if system not in prompt:
        problem = f"the chat template drops the system text {system!r}"
        raise UserError(f"{tokenizer.name_or_path}: {problem}")
    return messages, prompt


def describe(tokenizer) -> dict[str, str | None]:
    """What the chat template makes of a chat without a system message, and of one that is empty
    (control "empty").

    ``default_system_prompt`` is the template's own text in the first, None if it has none. The
    prompt of the second is either another one, or the same: where there is no system role, and
    where an empty text counts as none.
    """
    # Words that no template holds.
    question = {"role": "user", "content": "zxquestion"}
    chats = [question], [{"role": "system", "content": ""}, question]
    without, empty = (_before("zxquestion", tokenizer, chat) for chat in chats)
    same = empty in ("", without)
    return {
        "default_system_prompt": default_system_prompt(tokenizer),
        "empty_system_message": "same prompt as without" if same else "a prompt of its own",
        **({"date": f"{DATE}, wherever asked"} if states_date(tokenizer) else {}),
    }


def states_date(tokenizer) -> bool:
    """Whether the chat template asks what day it is."""
    return tokenizer.chat_template is not None and "strftime_now" in tokenizer.get_chat_template()


def default_system_prompt(tokenizer) -> str | None:
    """What the chat template says by itself where a chat has no system message; None if that is
    markup alone.

    It is what stands in the place of a system message that is given, or else (Llama-3.1 states
    dates beside any system text) what stands before the first question and not before a later one,
    less special tokens and names of roles.
    """
    question = {"role": "user", "content": "zxquestion"}
    head = _before("zxquestion", tokenizer, [question])
    given = _before("zxquestion", tokenizer, [{"role": "system", "content": "zxsystem"}, question])
    before, system, after = given.partition("zxsystem")
    around = head.startswith(before) and head.endswith(after)
    if system and around and len(head) > len(before + after):
        return head[len(before) : len(head) - len(after)].strip() or None
    answer = {"role": "assistant", "content": "zxanswer"}
    turns = [{"role": "user", "content": "Hi"}, answer, question]
    later = _before("zxquestion", tokenizer, turns).rpartition("zxanswer")[2]
    for token in sorted(_special(tokenizer), key=len, reverse=True):
        head, later = head.replace(token, "\0"), later.replace(token, "\0")
    # What stands before any question is markup; what is left before it stands at the first alone.
    text, markup = head, later
    while text and markup and text[-1] == markup[-1]:
        text, markup = text[:-1], markup[:-1]
    text = re.sub(r"^(system|developer)\b", "", text.replace("\0", "\n").strip()).strip()
    return None if text in later else text


def _special(tokenizer) -> set[str]:
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return {*added, *tokenizer.all_special_tokens}


def _before(text: str, tokenizer, messages: Messages) -> str:
    """What the prompt holds before ``text``; "" for a template that refuses the chat."""
    if not tokenizer.chat_template:
        return ""
    try:
        return _apply(tokenizer, messages).partition(text)[0]
    except UserError:
        return ""


def _apply(tokenizer, messages: Messages) -> str:
    # An answer that is begun is continued: no end of turn after it, no header of another.
    begun = messages[-1]["role"] == "assistant"
    how: dict[str, Any] = {"add_generation_prompt": not begun, "continue_final_message": begun}
    try:
        if states_date(tokenizer):
            how["chat_template"] = PINNED + tokenizer.get_chat_template()
            how["date_parts"] = DATE_PARTS
        return tokenizer.apply_chat_template(messages, tokenize=False, **how)
    except Exception as error:
        # A template can do what Python can: divide by zero, lack a field, not end.
        problem = f"the chat template refuses this chat ({first_line(error)})"
        raise UserError(f"{tokenizer.name_or_path}: {problem}") from error
