"""Fake models with scripted answers, and files as an annotation tool writes them."""

import json
from collections.abc import Callable
from pathlib import Path

from personagap.models import Generation


class FakeModel:
    """A model that answers with ``answer(prompt)`` (None: a failure) and records its prompts."""

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


def scripted_model(name: str, *texts: str | None) -> FakeModel:
    """A model that gives ``texts`` in turn."""
    remaining = iter(texts)
    return FakeModel(name, lambda _: next(remaining))


def write_jsonl(folder: Path, **files: list[dict]) -> None:
    """Write each of ``files`` to ``folder`` as JSON lines."""
    for name, records in files.items():
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(record) + "\n" for record in records)
        )
