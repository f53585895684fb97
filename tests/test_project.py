"""The project's files are consistent with each other."""

import ast
import graphlib
import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
import tomllib

import pandas as pd
import pytest
import yaml
from packaging.specifiers import SpecifierSet

from personagap import papers
from personagap.cli import main
from personagap.paths import DATA, NOTEBOOKS, ROOT, notebooks


def names(requirements):
    return {re.split(r"[\[<>=;]", line)[0].lower().replace("_", "-") for line in requirements}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_dependency_is_pinned(project, pins):
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", pin) for pin in pins)
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    wanted = names([*project["dependencies"], *extras])
    assert wanted - {name.replace("_", "-") for name in names(pins)} == set()


def test_every_package_the_library_imports_is_declared(project):
    declared = names(
        [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    )
    imported = set()
    for path in (ROOT / "lib" / "personagap").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = (
                    [node.module]
                    if isinstance(node, ast.ImportFrom)
                    else [alias.name for alias in node.names]
                )
                imported |= {name.split(".")[0] for name in named}
    distributions = {
        name: names(found) for name, found in importlib.metadata.packages_distributions().items()
    }
    # `performance` uses lm_eval if it is installed.
    ours = {*sys.stdlib_module_names, "personagap", "lm_eval"}
    assert {
        name for name in imported - ours if not distributions.get(name, names([name])) & declared
    } == set()


def test_modules_import_each_other_in_one_direction():
    """Also inside functions; but a package may import its own modules lazily."""
    library = ROOT / "lib"
    names = {
        path: ".".join(path.relative_to(library).with_suffix("").parts)
        for path in library.rglob("*.py")
    }
    names = {path: name.removesuffix(".__init__") for path, name in names.items()}
    imports = {name: set() for name in names.values()}
    for path, name in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                wanted = {
                    f"{node.module}.{alias.name}" for alias in node.names
                } & imports.keys() or {node.module}
                imports[name] |= {
                    each for each in wanted & imports.keys() if not each.startswith(f"{name}.")
                }
    assert imports["personagap.runs.tables"]
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the cycle


def test_statistics_load_neither_models_nor_answers():
    """Whoever tests scores of his own needs nothing of what asks models."""
    script = "import sys, personagap.effects, personagap.gap; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("personagap.")}
    assert ours == {
        "_arguments", "_submodules", "effects", "errors", "gap", "limits", "redaction", "results",
        "schema",
    }  # fmt: skip


def test_every_pin_supports_the_oldest_promised_python(project, pins):
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    installed = {
        name: dist for dist in importlib.metadata.distributions() for name in names([dist.name])
    }
    needs = {
        name: installed[name].metadata.get("Requires-Python")
        for name in names(pins) & installed.keys()
    }
    assert len(needs) > 100
    assert {
        name: need for name, need in needs.items() if need and oldest not in SpecifierSet(need)
    } == {}


def test_torch_is_pinned_exactly(pins):
    assert "torch==2.13.0" in pins


def test_conda_and_make_install_the_same(project):
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1)
    assert pip == ["-c constraints.txt", f"-e .[{extras}]"]
    assert "python=3.11" in conda and project["requires-python"] == ">=3.11"
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_repository_has_no_lock_file_or_registry_host():
    text = (ROOT / "constraints.txt").read_text() + (ROOT / "environment.yml").read_text()
    assert "://" not in text and " @ " not in text


def test_readme_and_index_name_existing_files():
    text = (ROOT / "README.md").read_text()
    assert all((ROOT / path).exists() for path in re.findall(r"\]\(([^):#]+)", text))
    assert len(text.split()) < 620  # read in two minutes
    text += (ROOT / "docs" / "index.md").read_text()
    there = sorted(path.stem for path in notebooks())
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.M)) == there
    assert set(re.findall(r"(?:^|`)personagap (\w+)", text, re.M)) <= set(main.commands)
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.M)) <= set(targets)


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebook_cells_can_be_rerun(path):
    """No cell assigns a parameter, or reassigns what it reads from an earlier cell."""
    held, parameters = set(), set()
    for cell in json.loads(path.read_text())["cells"]:
        mine, again = set(), set()
        tree = ast.parse("".join(cell["source"]) if cell["cell_type"] == "code" else "")
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AugAssign)]
        for node in sorted(nodes, key=lambda node: node.lineno):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            stored, read = (
                {each.id for part in parts for each in ast.walk(part) if isinstance(each, ast.Name)}
                for parts in (
                    [part for part in targets if not isinstance(part, ast.Subscript)],
                    [node.value],
                )
            )
            # A set or dict union may be repeated.
            sums = isinstance(node, ast.AugAssign) and not isinstance(node.op, ast.BitOr)
            again |= (stored if sums else stored & read) & held - mine
            mine |= stored
        assert again | mine & parameters == set()
        held |= mine
        if "parameters" in cell["metadata"].get("tags", []):
            parameters = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}


def test_every_cited_trap_is_explained():
    """S1, P1, R1 … in docstrings, notebooks and verdicts are explained in
    ``data/<paper>/traps.csv``.
    """
    files = {file.parent.name: pd.read_csv(file) for file in DATA.glob("*/traps.csv")}
    traps = pd.concat(files, names=["paper"]).reset_index("paper")
    assert traps["trap"].is_unique
    letters = traps.assign(letter=traps["trap"].str[0])[["letter", "paper"]].drop_duplicates()
    assert letters["letter"].is_unique and letters["paper"].is_unique
    assert {*letters["letter"]} >= {*"SPR"} and {*letters["paper"]} <= {*papers.PAPERS}
    name = re.compile(rf"\b[{''.join(letters['letter'])}]\d{{1,2}}\b(?!\w)")
    for paper, known in traps.groupby("paper")["trap"]:
        cited = {
            trap
            for path in (NOTEBOOKS / paper).glob("*.ipynb")
            for trap in name.findall(path.read_text())
        }
        assert cited and cited <= {*known}, paper
    library = [path.read_text() for path in (ROOT / "lib").rglob("*.py")]
    assert {trap for text in library for trap in name.findall(text)} <= {*traps["trap"]}
    # A number without the letter of a paper.
    assert not any(re.search(r"\(T[0-9]+", text) for text in library)
