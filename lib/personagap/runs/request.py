"""What is asked for: a notebook with parameters, checked, and the folder that belongs to it."""

import ast
import hashlib
import itertools
import json
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from personagap import parameters
from personagap.errors import UserError
from personagap.leaving import redacted
from personagap.paths import FIGURES, ROOT, regular

#: The parameter through which a notebook learns its run's folder; the runner sets it.
OUTPUT = "output"
#: A notebook's first heading.
TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)
#: A notebook's call for the tables of another.
READS = re.compile(r"""latest_tables\([^"']*["']([^"']+)["']""")
#: Parts of JSON that the values of a batch may have.
MOST = 1_000_000
WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class Yaml(yaml.SafeLoader):
    """Reads 1e-4 as a number, as JSON and YAML 1.2 do, where YAML 1.1 wants 1.0e-4; and a name that
    stands twice in a mapping is an error, where the last would count.
    """

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if (name := str(key.value)) in seen:
                raise yaml.MarkedYAMLError(None, None, f"{name} stands twice", key.start_mark)
            seen.add(name)
        return node


_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+\Z")
Yaml.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def parse_value(text: str) -> Any:
    """The value of ``-p NAME VALUE``: a number, true/false/null, a YAML or JSON list, or else text.

    Examples
    --------
    >>> [parse_value(text) for text in ("3", "1e-3", "true", "none", '["mmlu", 1e-3]')]
    [3, 0.001, True, 'none', ['mmlu', 0.001]]
    """
    if text in WORDS:
        return WORDS[text]
    for number in (int, float):
        try:
            if math.isfinite(value := number(text)):
                return value
        except (ValueError, OverflowError):
            # It is no number, or one beyond all floats.
            continue
    if text[:1] not in ("[", "{", '"', "'"):
        return text
    try:
        return acyclic(yaml.load(text, Yaml))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f'cannot read the value {text}: write a list as \'["a", "b"]\'') from None


def acyclic(value: Any) -> Any:
    """A value of YAML; ValueError if an anchor holds itself, or anchors of anchors are more than
    any batch needs.
    """
    pieces = json.JSONEncoder(default=str).iterencode(value)
    if next(itertools.islice(pieces, MOST, None), None) is not None:
        raise ValueError("anchors of anchors without end")
    return value


def _sound(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell with what the runner reads of it; what is of another kind raises."""
    tags, source = [*cell["metadata"].get("tags", [])], "".join(cell["source"])
    metadata = {**cell["metadata"], "tags": tags}
    return {**cell, "cell_type": cell["cell_type"], "source": source, "metadata": metadata}


def format_value(value: Any) -> str:
    """The text that `parse_value` reads as ``value``."""
    # A text that would be read as a number or as a list needs quotes.
    plain = isinstance(value, str) and value[:1] not in ("[", "{", '"', "'")
    if plain and parse_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def told_apart(changed: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each of several runs ``changed``, the rarest first: who shows it cuts off its end.

    Examples
    --------
    >>> told_apart([{"runs": 1, "seed": 0}, {"runs": 1, "seed": 1}])
    ['seed=0 runs=1', 'seed=1 runs=1']
    """
    texts = [[f"{name}={format_value(value)}" for name, value in each.items()] for each in changed]
    shared = Counter(itertools.chain(*texts))
    return [" ".join(sorted(each, key=shared.__getitem__)) for each in texts]


@dataclass(frozen=True)
class Request:
    """A notebook, the parameters ``given`` in place of its defaults, and where it is to run.

    ``kernel`` None is the one the notebook names; ``figures`` is the folder under which runs live;
    ``cwd`` is the kernel's working directory, to which relative paths in parameters are relative.

    `UserError`: no such notebook, or a parameter that it does not have or that is of another type.
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
                remedy = "use --figures to put runs elsewhere"
                raise UserError(f"{file}: the runner sets {OUTPUT!r}; {remedy}")
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise UserError(f"{file} has no parameter {name!r}; it has: {known}")
        for name, value in self.parameters.items():
            if redacted(text := str(value)) != text:
                # A secret in it would stand in files that are shared.
                remedy = "leave out keys, passwords and queries"
                key = "a server gets the key in OPENAI_API_KEY"
                raise UserError(f"{file}: {name} is {text}: {remedy}; {key}")
        # First what is wrong with names and secrets: a value is told in full if it is of another
        # kind.
        fitted = {name: self._fitted(name, value) for name, value in self.given.items()}
        # The same request, whether [x] or x was given for a list.
        object.__setattr__(self, "given", fitted)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The notebook as its file holds it."""
        try:
            content = json.loads(regular(self.notebook).read_text(encoding="utf-8"))
            metadata = {**content["metadata"]}
            metadata["kernelspec"] = {**metadata.get("kernelspec", {})}
            return {"cells": [_sound(cell) for cell in content["cells"]], "metadata": metadata}
        except FileNotFoundError:
            raise UserError(f"no notebook {self.notebook}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IsADirectoryError):
            raise UserError(f"{self.notebook} is not a notebook") from None

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Parameters and their defaults, from the cell tagged ``parameters``.

        papermill's own inspection drops a line with a second "=" in it, for instance in its
        comment.
        """
        return {name: default for name, (default, _) in self._declared.items()}

    @property
    def kinds(self) -> dict[str, Any]:
        """What each parameter may be, of `parameters`."""
        return {name: kind for name, (_, kind) in self._declared.items()}

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
        cells = self.content["cells"]
        texts = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
        headings = (found[1].strip() for text in texts if (found := TITLE.search(text)))
        return next(headings, self.notebook.stem)

    @property
    def source_hash(self) -> str:
        """Changes when the notebook's text does."""
        # Texts and code alone: outputs and metadata change whenever the notebook is opened.
        return _digest([cell["source"] for cell in self.content["cells"]])

    @cached_property
    def reads(self) -> list[str]:
        """The notebooks whose tables this one reads, of their latest runs on the same ``data``."""
        code = (cell["source"] for cell in self.content["cells"] if cell["cell_type"] == "code")
        return sorted({name for source in code for name in READS.findall(source)})

    def reads_from(self, other: "Request") -> bool:
        """Whether the tables of that run may be among those this one reads."""
        data = self.parameters.get("data"), other.parameters.get("data")
        return other.notebook.stem in self.reads and data[0] == data[1] and other.id != self.id

    @cached_property
    def id(self) -> str:
        """``<model or data>-<hash>``: the same for the same notebook and parameters, from wherever
        it is asked for.
        """
        # Within the project by its place there: a clone elsewhere has the same runs.
        path = self.notebook.resolve()
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        values = {key: self._located(key, value) for key, value in self.parameters.items()}
        label = str(self.parameters.get("model") or self.parameters.get("data") or "run")
        # A folder's name tells a reader the model; the hash behind it tells the machine the rest.
        label = re.sub(r"^(hf|gguf|openai):|@.*$|\.gguf$", "", label).rstrip("/").rsplit("/", 1)[-1]
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip(".-")[:32] or "run"
        return f"{plain}-{_digest([str(name), values])[:8]}"

    @property
    def folder(self) -> Path:
        """``<figures>/<paper>/<notebook>/<run id>``, the paper being the notebook's folder."""
        paper = self.notebook.resolve().parent.name
        return self.figures.resolve() / paper / self.notebook.stem / self.id

    @property
    def asks(self) -> bool:
        """Whether the notebook may ask a model."""
        return "model" in self.kinds or any(map(parameters.names_models, self.kinds.values()))

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
        named = (self._paths(name, value) for name, value in self.parameters.items())
        return {text: path for found in named for text, path in found.items()}

    @cached_property
    def _declared(self) -> dict[str, tuple[Any, Any]]:
        """Each parameter's default and kind."""
        cells = self.content["cells"]
        tagged = (cell["source"] for cell in cells if "parameters" in cell["metadata"]["tags"])
        found = {}
        try:
            # Read, never run: a notebook may come from anywhere, and is looked at before it is run.
            for line in ast.parse(next(tagged, "")).body:
                annotation: ast.expr | None = None
                match line:
                    case ast.Import() | ast.ImportFrom():
                        continue
                    case ast.Assign([ast.Name(name)], value):
                        pass
                    case ast.AnnAssign(ast.Name(name), kind, ast.expr() as value):
                        annotation = kind
                    case _:
                        raise ValueError(ast.unparse(line))
                default = ast.literal_eval(value)
                found[name] = default, parameters.declared(annotation, default)
        except (SyntaxError, ValueError):
            what = "its parameters cell must hold only imports and lines NAME = VALUE"
            raise UserError(f"{self.notebook}: {what}") from None
        found.pop(OUTPUT, None)
        return found

    def _paths(self, name: str, value: Any) -> dict[str, Path]:
        """What a parameter's texts name in ``cwd``; a folder "demo" is not the word "demo"."""
        named = parameters.paths(value, self._declared[name][1])
        places = {text: self.cwd / path for text, path in named}
        return {text: path.resolve() for text, path in places.items() if os.path.exists(path)}

    def _located(self, name: str, value: Any) -> Any:
        """A relative path means another file elsewhere: let it count as the file it names."""
        if isinstance(value, dict):
            return {key: self._located(name, part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._located(name, part) for part in value]
        return str(self._paths(name, value).get(value, value)) if isinstance(value, str) else value

    def _fitted(self, name: str, value: Any) -> Any:
        """The value, if it is of the parameter's kind; one for a list becomes a list of it."""
        kind, remedy = self._declared[name][1], ""
        try:
            return parameters.fit(value, kind)
        except ValueError as wanted:
            # What is no text to YAML, and on the command line: 0, true.
            if isinstance(value, (bool, int, float)) and parameters.matches("", kind):
                remedy = """, in double quotes (in a shell '"0"')"""
            given = f"{self.notebook.name}: {name} is {value!r}"
            raise UserError(f"{given}: give {wanted}{remedy}") from None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
