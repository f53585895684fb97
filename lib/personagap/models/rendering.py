"""From chat messages to the prompt string of one tokenizer, with nothing lost on the way (T9)."""

from jinja2.exceptions import TemplateError

from personagap.errors import UserError

Messages = list[dict[str, str]]
#: What follows the answer in a text that a base model wrote begins so.
BASE_STOP = "\n\nQuestion:"
#: Instead of the model's chat template: how a base model, which knows no chat, is asked, in our wording; a plain
#: string, as in the code of arXiv 2409.20296 (T8).
FORMATS = {
    "base": "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }}"
    "{% elif message.role == 'user' %}{{ '\n\nQuestion: ' + message.content + '\n\nAnswer:' }}"
    "{% else %}{{ ' ' + message.content }}{% endif %}{% endfor %}",
    "plain": "{{ bos_token or '' }}{% for message in messages %}{{ message.content }}{% endfor %}{{ '\n' }}",
}


def fold_system(messages: Messages) -> Messages:
    """Put the system message at the head of the first user turn.

    Examples
    --------
    >>> fold_system([{"role": "system", "content": "I am a man."}, {"role": "user", "content": "Hi"}])
    [{'role': 'user', 'content': 'I am a man.\\n\\nHi'}]
    """
    both = "\n\n".join(message["content"] for message in messages[:2])
    return [{"role": "user", "content": both}, *messages[2:]]


def render(tokenizer, messages: Messages) -> str:
    """The prompt of a chat, with the generation prompt; see `fit`."""
    return fit(tokenizer, messages)[1]


def fit(tokenizer, messages: Messages) -> tuple[Messages, str]:
    """The messages as the chat template can show them, and their prompt.

    A template that refuses a system message, or leaves it out, gets its text at the head of the user turn.
    ``UserError`` for no chat template, one that fails, or one that drops the system text either way.
    """
    if tokenizer.chat_template is None:
        raise UserError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; is it a base model? (prompt_format='base')"
        )
    if messages[0]["role"] != "system":
        return messages, _apply(tokenizer, messages)
    system = messages[0]["content"].strip()  # templates commonly trim
    try:
        prompt = _apply(tokenizer, messages)
    except UserError:
        prompt = ""
    if system not in prompt:
        messages = fold_system(messages)
        prompt = _apply(tokenizer, messages)
    if system not in prompt:
        raise UserError(f"{tokenizer.name_or_path}: the chat template drops the system text {system!r}")
    return messages, prompt


def _apply(tokenizer, messages: Messages) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise UserError(f"{tokenizer.name_or_path}: the chat template refuses this chat ({error})") from error
