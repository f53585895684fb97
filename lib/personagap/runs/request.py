"""Run requests: a notebook with validated parameters, and the folder for its results."""

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
from personagap.paths import FIGURES, ROOT, regular_file
from personagap.redaction import redact
from personagap.runs.values import format_value

#: The parameter that gives a notebook its run's folder; the runner sets it.
OUTPUT = "output"
#: A notebook's first heading.
TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)
#: A notebook's call of `Run.latest_tables`, which reads the tables of another notebook.
READS = re.compile(r"""latest_tables\([^"']*["']([^"']+)["']""")


def _normalize_cell(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell with the fields that the runner reads; malformed fields raise an error."""
    tags, source = [*cell["metadata"].get("tags", [])], "".join(cell["source"])
    metadata = {**cell["metadata"], "tags": tags}
    return {**cell, "cell_type": cell["cell_type"], "source": source, "metadata": metadata}


@dataclass(frozen=True)
class Request:
    """A notebook, the parameters ``given`` in place of its defaults, and where it is to run.

    ``kernel`` None is the kernel that the notebook names; ``figures`` is the folder of all runs;
    ``cwd`` is the kernel's working directory, to which relative paths in parameters are relative.

    `UserError` is raised if there is no such notebook, or if it does not have a parameter or the
    parameter is of another type.
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
        for name, value in self.given.items():
            try:
                format_value(value).encode()
            except UnicodeEncodeError:
                # It could neither be sent nor be written to run.json.
                remedy = "write it in UTF-8; rename a folder of such a name"
                raise UserError(f"{file}: {name} is {value!r}: {remedy}") from None
        for name, value in self.parameters.items():
            if redact(text := str(value)) != text:
                # A secret in a parameter would be written to files that are shared.
                remedy = "leave out keys, passwords and queries"
                key = "a server gets the key in OPENAI_API_KEY"
                raise UserError(f"{file}: {name} is {text}: {remedy}; {key}")
        # Types are checked after secrets, since the error message shows the full value.
        coerced = {name: self._coerce(name, value) for name, value in self.given.items()}
        # The request is the same whether x or [x] is given for a list.
        object.__setattr__(self, "given", coerced)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of the notebook file."""
        try:
            content = json.loads(regular_file(self.notebook).read_text(encoding="utf-8"))
            metadata = {**content["metadata"]}
            metadata["kernelspec"] = {**metadata.get("kernelspec", {})}
            return {"cells": [*map(_normalize_cell, content["cells"])], "metadata": metadata}
        except FileNotFoundError:
            raise UserError(f"no notebook {self.notebook}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IsADirectoryError):
            raise UserError(f"{self.notebook} is not a notebook") from None

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Parameters and their defaults, from the cell tagged ``parameters``.

        papermill's own inspection drops a line with a second "=" in it, for example in a comment.
        """
        return {name: default for name, (default, _) in self._declared.items()}

    @property
    def kinds(self) -> dict[str, Any]:
        """The type of each parameter, from the module `parameters`."""
        return {name: kind for name, (_, kind) in self._declared.items()}

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters with their values in this run."""
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
        headings = (match[1].strip() for text in texts if (match := TITLE.search(text)))
        return next(headings, self.notebook.stem)

    @property
    def source_hash(self) -> str:
        """A hash of the notebook's texts and code."""
        # Outputs and metadata are left out, since they change whenever the notebook is opened.
        return _digest([cell["source"] for cell in self.content["cells"]])

    @cached_property
    def reads(self) -> list[str]:
        """The notebooks from whose latest run on the same ``data`` this one reads tables."""
        code = (cell["source"] for cell in self.content["cells"] if cell["cell_type"] == "code")
        return sorted({name for source in code for name in READS.findall(source)})

    def reads_from(self, other: "Request") -> bool:
        """Return whether this run may read the tables of ``other``."""
        same_data = self.parameters.get("data") == other.parameters.get("data")
        return other.notebook.stem in self.reads and same_data and other.id != self.id

    def reads_from_any(self, others: list["Request"]) -> bool:
        """Return whether this run may read the tables of one of ``others``."""
        return bool(self.reads) and any(map(self.reads_from, others))

    @cached_property
    def id(self) -> str:
        """``<model or data>-<hash>``, which depends only on the notebook and its parameters, not on
        the current folder.
        """
        # Paths within the project are relative, so that every clone has the same run ids.
        path = self.notebook.resolve()
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        values = {key: self._resolve(key, value) for key, value in self.parameters.items()}
        label = str(self.parameters.get("model") or self.parameters.get("data") or "run")
        # A readable label of the model, before the hash of everything.
        label = re.sub(r"^(hf|gguf|openai):|@.*$|\.gguf$", "", label).rstrip("/").rsplit("/", 1)[-1]
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip(".-")[:32] or "run"
        return f"{label}-{_digest([str(name), values])[:8]}"

    @property
    def folder(self) -> Path:
        """``<figures>/<paper>/<notebook>/<run id>``, where the paper is the notebook's folder."""
        paper = self.notebook.resolve().parent.name
        return self.figures.resolve() / paper / self.notebook.stem / self.id

    @property
    def asks(self) -> bool:
        """Whether the notebook may send requests to a model."""
        return "model" in self.kinds or any(map(parameters.names_models, self.kinds.values()))

    @property
    def command(self) -> str:
        """The command line of this run."""
        words = ["personagap", "run", os.path.relpath(self.notebook, self.cwd)]
        for name, value in self.changed.items():
            words += ["-p", name, format_value(value)]
        return shlex.join(words + (["--kernel", self.kernel] if self.kernel else []))

    @property
    def paths(self) -> dict[str, Path]:
        """The files and folders that the parameters name, by their texts in the parameters."""
        parts = (self._paths(name, value) for name, value in self.parameters.items())
        return {text: path for paths in parts for text, path in paths.items()}

    @cached_property
    def _declared(self) -> dict[str, tuple[Any, Any]]:
        """Each parameter's default and type."""
        cells = self.content["cells"]
        tagged = (cell["source"] for cell in cells if "parameters" in cell["metadata"]["tags"])
        declared = {}
        try:
            # Parsed but not executed, since a notebook may come from an untrusted source.
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
                declared[name] = default, parameters.declared(annotation, default)
        except (SyntaxError, ValueError):
            problem = "its parameters cell must hold only imports and lines NAME = VALUE"
            raise UserError(f"{self.notebook}: {problem}") from None
        declared.pop(OUTPUT, None)
        return declared

    def _paths(self, name: str, value: Any) -> dict[str, Path]:
        """Return the existing paths among a parameter's texts. The keyword "demo" is no path, even
        if there is a folder "demo".
        """
        candidates = parameters.paths(value, self._declared[name][1])
        paths = {text: self.cwd / path for text, path in candidates}
        return {text: path.resolve() for text, path in paths.items() if os.path.exists(path)}

    def _resolve(self, name: str, value: Any) -> Any:
        """Make relative paths in a value absolute, as they depend on the current folder."""
        if isinstance(value, dict):
            return {key: self._resolve(name, element) for key, element in value.items()}
        if isinstance(value, list):
            return [self._resolve(name, element) for element in value]
        return str(self._paths(name, value).get(value, value)) if isinstance(value, str) else value

    def _coerce(self, name: str, value: Any) -> Any:
        """Return the value if it is of the parameter's type, or a list of it if a list is due."""
        kind, remedy = self._declared[name][1], ""
        try:
            return parameters.coerce(value, kind)
        except ValueError as requirement:
            # YAML and the command line read 0 and true as numbers and Booleans.
            if isinstance(value, (bool, int, float)) and parameters.matches("", kind):
                remedy = """, in double quotes (in a shell '"0"')"""
            problem = f"{self.notebook.name}: {name} is {value!r}"
            raise UserError(f"{problem}: give {requirement}{remedy}") from None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
