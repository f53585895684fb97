"""What is asked for: a notebook with parameters, checked, and the folder that belongs to it."""

import ast
import hashlib
import json
import math
import os
import re
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from personagap.errors import UserError
from personagap.paths import FIGURES, ROOT

#: The parameter through which a notebook learns its run's folder; the runner sets it.
OUTPUT = "output"
#: A notebook's first heading.
TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)
WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


def parse_value(text: str) -> Any:
    """The value of ``-p NAME VALUE``: a number, true/false/null, a YAML or JSON list, or else text.

    Examples
    --------
    >>> [parse_value(text) for text in ("3", "1e-3", "true", "none", '["mmlu", "gsm8k"]')]
    [3, 0.001, True, 'none', ['mmlu', 'gsm8k']]
    """
    if text in WORDS:
        return WORDS[text]
    for number in (int, float):
        try:
            if math.isfinite(value := number(text)):
                return value
        except ValueError:
            continue
    if text[:1] not in ("[", "{", '"', "'"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f'cannot read the value {text}: write a list as \'["a", "b"]\'') from None


def format_value(value: Any) -> str:
    """The text that `parse_value` reads as ``value``."""
    if isinstance(value, str) and value[:1] not in ("[", "{", '"', "'") and parse_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Request:
    """A notebook, the parameters ``given`` in place of its defaults, and where it is to run.

    ``kernel`` None is the one the notebook names; ``figures`` is the folder under which runs live;
    ``cwd`` is the kernel's working directory, to which relative paths in parameters are relative.

    Raises
    ------
    UserError : no such notebook, or a parameter that it does not have or that is of another type.
    """

    notebook: Path
    given: dict[str, Any] = field(default_factory=dict)
    kernel: str | None = None
    figures: Path = FIGURES
    cwd: Path = field(default_factory=Path.cwd)

    def __post_init__(self):
        file = self.notebook.name
        for name, value in self.given.items():
            if name == OUTPUT:
                raise UserError(f"{file}: the runner sets {OUTPUT!r}; use --figures to put runs elsewhere")
            if name not in self.defaults:
                raise UserError(f"{file} has no parameter {name!r}; it has: {', '.join(self.defaults) or 'none'}")
            if isinstance(value, str) and isinstance(self.defaults[name], (bool, int, float)):
                kind = type(self.defaults[name]).__name__
                raise UserError(f"{file}: parameter {name!r} takes a value of type {kind}, not {value!r}")

    @cached_property
    def content(self) -> dict[str, Any]:
        """The notebook as its file holds it."""
        try:
            content = json.loads(self.notebook.read_text(encoding="utf-8"))
            return {"cells": content["cells"], "metadata": content["metadata"]}
        except FileNotFoundError:
            raise UserError(f"no notebook {self.notebook}") from None
        except (ValueError, KeyError, TypeError, IsADirectoryError):
            raise UserError(f"{self.notebook} is not a notebook") from None

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Parameters and their defaults, from the cell tagged ``parameters``.

        papermill's own inspection drops a line with a second "=" in it, for instance in its comment.
        """
        tagged = [cell for cell in self.content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
        values = {}
        try:
            for line in ast.parse("".join(tagged[0]["source"])).body if tagged else []:
                target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
                values[target.id] = ast.literal_eval(line.value)
        except (SyntaxError, ValueError, AttributeError):
            raise UserError(f"{self.notebook}: its parameters cell must hold only lines NAME = VALUE") from None
        return {name: value for name, value in values.items() if name != OUTPUT}

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter with the value it has in this run."""
        return {**self.defaults, **self.given}

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that differ from the notebook's defaults."""
        return {name: value for name, value in self.given.items() if value != self.defaults[name]}

    @property
    def title(self) -> str:
        """The notebook's first heading, or its file's name."""
        texts = ["".join(cell["source"]) for cell in self.content["cells"] if cell["cell_type"] == "markdown"]
        return next((found[1].strip() for text in texts if (found := TITLE.search(text))), self.notebook.stem)

    @property
    def source_hash(self) -> str:
        """Changes when the notebook's text does."""
        return _digest(["".join(cell["source"]) for cell in self.content["cells"]])

    @cached_property
    def id(self) -> str:
        """``<model or data>-<hash>``: the same for the same notebook and parameters, from wherever it is asked for."""
        path = self.notebook.resolve()
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        request = [str(name), {key: self._located(value) for key, value in self.parameters.items()}]
        label = str(self.parameters.get("model") or self.parameters.get("data") or "run")
        label = re.sub(r"^(hf|openai):|@.*$", "", label).rstrip("/").rsplit("/", 1)[-1]
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', label).strip('.-')[:32] or 'run'}-{_digest(request)[:8]}"

    @property
    def folder(self) -> Path:
        """``<figures>/<paper>/<notebook>/<run id>``, the paper being the notebook's folder."""
        return self.figures.resolve() / self.notebook.resolve().parent.name / self.notebook.stem / self.id

    @property
    def command(self) -> str:
        """The command line that asks for this run."""
        words = ["personagap", "run", os.path.relpath(self.notebook, self.cwd)]
        for name, value in self.changed.items():
            words += ["-p", name, format_value(value)]
        return shlex.join(words + (["--kernel", self.kernel] if self.kernel else []))

    def _located(self, value: Any) -> Any:
        """A relative path means another file elsewhere: let it count as the file it names."""
        is_path = isinstance(value, str) and "/" in value and (self.cwd / value).exists()
        return str((self.cwd / value).resolve()) if is_path else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
