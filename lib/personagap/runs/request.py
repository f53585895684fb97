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
#: Types of default and of value that go together though they differ.
SUITABLE = {("float", "int"), ("str", "NoneType")}
#: What a parameter's lines quote are words, not paths.
QUOTED = re.compile(r"""["']([^"'/]+)["']""")
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
        for name in self.given:
            if name == OUTPUT:
                raise UserError(f"{file}: the runner sets {OUTPUT!r}; use --figures to put runs elsewhere")
            if name not in self.defaults:
                raise UserError(f"{file} has no parameter {name!r}; it has: {', '.join(self.defaults) or 'none'}")
        fitted = {name: self._fitted(name, value) for name, value in self.given.items()}
        object.__setattr__(self, "given", fitted)  # the same request, whether [x] or x was given for a list

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
        values = {}
        try:
            for line in ast.parse(self._declared).body:
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
        request = [str(name), {key: self._located(key, value) for key, value in self.parameters.items()}]
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

    @property
    def paths(self) -> dict[str, Path]:
        """The files and folders that the parameters name, by the names they give them."""
        found, values = {}, list(self.parameters.items())
        while values:
            name, value = values.pop()
            if isinstance(value, (dict, list)):
                values += [(name, part) for part in (value.values() if isinstance(value, dict) else value)]
            elif path := self._path(name, value):
                found[value] = path
        return found

    @property
    def _declared(self) -> str:
        """The text of the parameters cell."""
        tagged = [cell for cell in self.content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
        return "".join(tagged[0]["source"]) if tagged else ""

    @cached_property
    def _words(self) -> dict[str, set[str]]:
        """What each parameter's lines quote, as default or in the comment: "demo", "hub", "all" …"""
        lines = self._declared.splitlines()
        targets = [(node, getattr(node, "target", None) or node.targets[0]) for node in ast.parse(self._declared).body]
        quoted = {name.id: " ".join(lines[node.lineno - 1 : node.end_lineno]) for node, name in targets}
        return {name: {*QUOTED.findall(text)} for name, text in quoted.items()}

    def _path(self, name: str, value: Any) -> Path | None:
        """What a parameter's value names in ``cwd``; a folder called "demo" does not stand for the word "demo"."""
        if not isinstance(value, str) or not value or value in self._words[name]:
            return None
        return (self.cwd / value).resolve() if os.path.exists(self.cwd / value) else None

    def _located(self, name: str, value: Any) -> Any:
        """A relative path means another file elsewhere: let it count as the file it names."""
        if isinstance(value, dict):
            return {key: self._located(name, part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._located(name, part) for part in value]
        return str(self._path(name, value) or value) if isinstance(value, str) else value

    def _fitted(self, name: str, value: Any) -> Any:
        """The value, if it is of the default's kind; one value for a list becomes a list of it."""
        default = self.defaults[name]
        kind, given = _kind(default), _kind(value)
        if default is None or (kind, given) in SUITABLE or (kind == "list" and value == "all" in self._words[name]):
            return value
        if kind == "list":
            values = value if given == "list" else [value]
            parts = {_kind(part, "number") for part in default}
            fits = not parts or {_kind(part, "number") for part in values} <= parts
            if fits and given not in ("NoneType", "bool", "dict"):
                return values
            kind += f" of {'/'.join(sorted(parts))}" if parts else ""
        elif kind == given or (default == "all" and given == "list"):
            return value
        raise UserError(f"{self.notebook.name}: parameter {name!r} takes a value of type {kind}, not {value!r}")


def _kind(value: Any, number: str = "") -> str:
    """The name of a value's type; a tuple counts as a list, and with ``number`` every number as that."""
    kind = "list" if isinstance(value, tuple) else type(value).__name__
    return number if number and kind in ("int", "float") else kind


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
