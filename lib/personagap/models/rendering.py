"""Rendering chat messages as the prompt of a tokenizer, without losing any of them (S9)."""

import datetime
import re
from typing import Any

from personagap.errors import UserError, first_line

Messages = list[dict[str, str]]
#: Start of the text after the answer, where a base model continues with another question.
BASE_STOP = "\n\nQuestion:"
#: Templates in place of the model's chat template: one in our wording for base models, which know
#: no chat, and a plain string, as in the code of arXiv 2409.20296 (P8).
FORMATS = {
    "base": "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }}"
    "{% elif message.role == 'user' %}{{ '\n\nQuestion: ' + message.content + '\n\nAnswer:' }}"
    "{% else %}{{ ' ' + message.content }}{% endif %}{% endfor %}",
    "plain": "{{ bos_token or '' }}{% for message in messages %}{{ message.content }}{% endfor "
    "%}{{ '\n' }}",
}

#: The date for chat templates that state today's date. All runs use the same one, so that prompts,
#: and the answers stored under their hashes, do not change after midnight, or when a run is resumed
#: or repeated.
DATE = datetime.date(2026, 1, 1)
#: The same date, for templates that read it from a field.
DATE_STRING = f"{DATE:%d %b %Y}"
#: Prefix for templates that call ``strftime_now``. Templates get data but no functions, so that it
#: defines a macro, which replaces the directives of its format by parts of the date.
PINNED = (
    "{%- macro strftime_now(format) -%}{%- set text = namespace(made=format) -%}{%- for "
    "directive, value in date_parts.items() -%}{%- set text.made = text.made.replace(directive, "
    "value) -%}{%- endfor -%}{{- text.made -}}{%- endmacro %}"
)
#: Values of the directives of ``strftime``; those with a dash omit the leading zero.
DATE_PARTS = {
    f"%{letter}": DATE.strftime(f"%{letter}") for letter in "aAbBcdDeFgGhHIjklmMnpPrRsSTuUVwWxXyYzZ"
} | {f"%-{letter}": str(int(DATE.strftime(f"%{letter}"))) for letter in "dmyjHIMS"}


def user_chat(text: str) -> Messages:
    """Return a chat of one user message."""
    return [{"role": "user", "content": text}]


def fold_system(messages: Messages) -> Messages:
    """Move the system message to the start of the first user turn.

    Examples
    --------
    >>> asked = {"role": "user", "content": "Hi"}
    >>> fold_system([{"role": "system", "content": "I am a man."}, asked])
    [{'role': 'user', 'content': 'I am a man.\\n\\nHi'}]
    >>> fold_system([{"role": "system", "content": ""}, asked])
    [{'role': 'user', 'content': 'Hi'}]
    """
    text = "\n\n".join(message["content"] for message in messages[:2] if message["content"])
    return [*user_chat(text), *messages[2:]]


def render(tokenizer, messages: Messages) -> str:
    """Return the prompt of a chat; see `fit`.

    It ends with the generation prompt, or with the assistant's last message if the chat has begun
    an answer.
    """
    return fit(tokenizer, messages)[1]


def fit(tokenizer, messages: Messages) -> tuple[Messages, str]:
    """Return the messages in a form that the chat template can render, and their prompt.

    If the template refuses or drops a system message, its text goes to the start of the user turn;
    an empty one then has no effect. ``UserError`` if there is no chat template, or if it fails, or
    drops the system text in either place.
    """
    if not tokenizer.chat_template:
        remedy = "is it a base model? (prompt_format='base')"
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no chat template; {remedy}")
    if messages[0]["role"] != "system":
        return messages, _apply(tokenizer, messages)
    # Templates commonly strip white space.
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
    """Return what the chat template does without a system message, and with an empty one (control
    "empty").

    ``default_system_prompt`` is the text that the template adds to a chat without a system message;
    None if it adds none. ``empty_system_message`` tells whether the prompt with an empty message
    differs from the prompt without one. It does not if the template has no system role, or ignores
    empty messages.
    """
    # A word that no template contains.
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
    """Return whether the chat template asks for today's date."""
    return tokenizer.chat_template is not None and "strftime_now" in tokenizer.get_chat_template()


def default_system_prompt(tokenizer) -> str | None:
    """Return the text that the chat template adds to a chat without a system message; None if it
    adds markup only.

    It is the text in the place of the system message. Where none is found there (Llama-3.1 states
    dates next to any system message), it is the text before the first question that is not before
    later ones, without special tokens and names of roles.
    """
    question = {"role": "user", "content": "zxquestion"}
    head = _before("zxquestion", tokenizer, [question])
    system_turn = {"role": "system", "content": "zxsystem"}
    with_system = _before("zxquestion", tokenizer, [system_turn, question])
    before, system, after = with_system.partition("zxsystem")
    same_markup = head.startswith(before) and head.endswith(after)
    if system and same_markup and len(head) > len(before + after):
        return head[len(before) : len(head) - len(after)].strip() or None
    answer = {"role": "assistant", "content": "zxanswer"}
    turns = [{"role": "user", "content": "Hi"}, answer, question]
    later = _before("zxquestion", tokenizer, turns).rpartition("zxanswer")[2]
    for token in sorted(_special_tokens(tokenizer), key=len, reverse=True):
        head, later = head.replace(token, "\0"), later.replace(token, "\0")
    # The common ending of both is the markup before any question; the rest occurs only once.
    text, markup = head, later
    while text and markup and text[-1] == markup[-1]:
        text, markup = text[:-1], markup[:-1]
    text = re.sub(r"^(system|developer)\b", "", text.replace("\0", "\n").strip()).strip()
    return None if text in later else text


def _special_tokens(tokenizer) -> set[str]:
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return {*added, *tokenizer.all_special_tokens}


def _before(text: str, tokenizer, messages: Messages) -> str:
    """Return the prompt up to ``text``; "" if the template refuses the chat."""
    if not tokenizer.chat_template:
        return ""
    try:
        return _apply(tokenizer, messages).partition(text)[0]
    except UserError:
        return ""


def _apply(tokenizer, messages: Messages) -> str:
    """Apply the chat template; `UserError` if it refuses the chat."""
    # An answer that the chat has begun is continued, without an end of turn or another header.
    begun = messages[-1]["role"] == "assistant"
    how: dict[str, Any] = {"add_generation_prompt": not begun, "continue_final_message": begun}
    try:
        if states_date(tokenizer):
            how["chat_template"] = PINNED + tokenizer.get_chat_template()
            how["date_parts"] = DATE_PARTS
        return tokenizer.apply_chat_template(messages, tokenize=False, **how)
    except Exception as error:
        # Templates are programs, which can divide by zero, lack a field, recurse endlessly …
        problem = f"the chat template refuses this chat ({first_line(error)})"
        raise UserError(f"{tokenizer.name_or_path}: {problem}") from error
