"""What is asked for: a notebook with parameters, checked, and the folder that belongs to it."""

import ast
import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from personagap import parameters
from personagap.errors import UserError
from personagap.leaving import redacted
from personagap.paths import FIGURES, ROOT, regular
from personagap.runs.values import format_value

#: The parameter through which a notebook learns its run's folder; the runner sets it.
OUTPUT = "output"
#: A notebook's first heading.
TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)
#: A notebook's call for the tables of another.
READS = re.compile(r"""latest_tables\([^"']*["']([^"']+)["']""")


def _sound(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell with what the runner reads of it; what is of another kind raises."""
    tags, source = [*cell["metadata"].get("tags", [])], "".join(cell["source"])
    metadata = {**cell["metadata"], "tags": tags}
    return {**cell, "cell_type": cell["cell_type"], "source": source, "metadata": metadata}


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
            return parameters.coerce(value, kind)
        except ValueError as wanted:
            # What is no text to YAML, and on the command line: 0, true.
            if isinstance(value, (bool, int, float)) and parameters.matches("", kind):
                remedy = """, in double quotes (in a shell '"0"')"""
            given = f"{self.notebook.name}: {name} is {value!r}"
            raise UserError(f"{given}: give {wanted}{remedy}") from None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
