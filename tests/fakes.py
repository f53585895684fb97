"""Models that answer as a test tells them to, and the files of an annotation tool."""

import json
from collections.abc import Callable
from pathlib import Path

from personagap.models import Generation


class Fake:
    """A model that answers a prompt with ``answer(prompt)``, None for a failure, and remembers what
    it was asked.
    """

    revision = "1"

    def __init__(self, name: str, answer: Callable[[str], str | None]):
        self.id, self.answer, self.asked = name, answer, []

    def render(self, messages):
        return messages[0]["content"]

    def generate(self, chats, sampling, seeds, keep=None):
        prompts = [self.render(chat) for chat in chats]
        self.asked += prompts
        return [
            Generation(text, "error" if text is None else "stop", 0, 0, 0.0)
            for text in map(self.answer, prompts)
        ]


def says(name: str, *texts: str | None) -> Fake:
    """A model that gives the answers it is told to, in turn."""
    remaining = iter(texts)
    return Fake(name, lambda _: next(remaining))


def lines(folder: Path, **files: list[dict]) -> None:
    """Write each of ``files`` as JSON lines."""
    for name, records in files.items():
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(record) + "\n" for record in records)
        )
