"""A run's folder: tables, figures and ``run.json``, all written atomically."""

import contextlib
import csv
import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from personagap import sandbox
from personagap.errors import UserError, explained
from personagap.paths import FIGURES, regular_file
from personagap.redaction import sanitize
from personagap.runs.files import atomic_write, warned_if_damaged, write_text
from personagap.store.folder import is_locked

#: Tables with one row per answer are stored as Parquet; the others, meant for readers, as CSV.
PARQUET = ("scores", "responses")
#: What the process of a failed run and its kernel wrote to stderr.
LOG = "stderr.log"
#: The progress of a current run: the section of its notebook, and in a second line its requests.
PROGRESS = ".progress"


def now() -> str:
    """Return the current time in the format of ``run.json``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the contents of ``run.json``, {} if there is none.

    `UserError` is raised if the file cannot be read, or if it has a status but lacks the facts that
    every run records.
    """
    path, facts = folder / "run.json", {}
    with explained(f"{path} is damaged", "delete it and run the notebook again"):
        try:
            facts = json.loads(regular_file(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            # A starting run may have just removed it.
            pass
        except OSError as error:
            if isinstance(error, IsADirectoryError):
                raise
            # The file may be another user's, so the remedy is not to delete it.
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
    required = {"id": str, "started": str, "parameters": dict, "changed": dict}
    # All readers rely on these facts. Only a notebook run by hand, which has no status, lacks them.
    valid = isinstance(facts, dict) and (
        "status" not in facts
        or all(isinstance(facts.get(name), kind) for name, kind in required.items())
    )
    if not valid:
        damage = f"no {', '.join(required)}"
        raise UserError(f"{path} is damaged ({damage}): delete it and run the notebook again")
    return facts


def unanswered(facts: dict[str, Any]) -> str:
    """Return the number of requests without an answer in words, "" if there are none."""
    number = facts.get("unanswered")
    return f"{number} request{'s' if number > 1 else ''} unanswered" if number else ""


def simulated(facts: dict[str, Any]) -> str:
    """Return a sentence about what is simulated in a demo run, "" if nothing is."""
    parameters = facts["parameters"]
    stages = parameters.get("checkpoints")
    models = [parameters.get("model"), *(stages.values() if isinstance(stages, dict) else [])]
    demo_model = any(str(name).partition(":")[0] in ("demo", "simulated") for name in models)
    if parameters.get("data") == "demo":
        what = "demo data and demo model" if demo_model else "demo data"
        return f"Simulated: {what} with planted effects; nothing here is about real people."
    if demo_model:
        return (
            "Simulated in part: a demo model with planted effects; its answers say nothing of real "
            "models."
        )
    return ""


def record(folder: Path, **facts: Any) -> dict[str, Any]:
    """Merge ``facts`` into ``run.json``, dictionaries key by key, and return all facts."""
    recorded = read_facts(folder)
    for name, value in facts.items():
        both = isinstance(value, dict) and isinstance(recorded.get(name), dict)
        recorded[name] = recorded[name] | value if both else value
    text = json.dumps(recorded, indent=2, ensure_ascii=False, default=str)
    write_text(folder / "run.json", f"{sanitize(text)}\n")
    return recorded


def read_verdict(folder: Path) -> list[dict[str, str]]:
    """Return the rows ``question answer`` of ``tables/verdict.csv``, [] if there is none."""
    # Without pandas, which takes a second to import: the index reads the verdict of every run.
    path, answers = folder / "tables" / "verdict.csv", []
    with warned_if_damaged(path):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        for row in csv.DictReader(lines, restval=""):
            if not {"question", "answer"} <= row.keys():
                raise ValueError("no columns question, answer")
            answers.append({name: row[name] for name in ("question", "answer")})
    return answers


def runs(figures: Path) -> list[dict[str, Any]]:
    """Return the facts and the ``folder`` of each run under ``figures``, newest first.

    A run with the status "running" whose lock nobody holds was interrupted. A damaged ``run.json``
    causes a warning.
    """
    found = []
    for path in figures.glob("*/*/*/run.json"):
        facts = {}
        # One damaged file must not hide all other runs.
        with warned_if_damaged(path):
            facts = {**read_facts(path.parent), "folder": path.parent}
        if "status" not in facts:
            # Written by a notebook that was run by hand, cell by cell.
            continue
        if facts["status"] == "running" and not is_locked(path.with_name(".lock")):
            facts["status"] = "interrupted"
        found.append(facts)
    return sorted(found, key=lambda facts: facts["started"], reverse=True)


def latest_run(figures: Path, notebook: str, data: str) -> dict[str, Any] | None:
    """Return the facts of the latest finished run of ``notebook`` (the name of its file) on
    ``data``, None if there is none.
    """
    for facts in runs(figures):
        name, status = facts["folder"].parent.name, facts["status"]
        if (name, facts["parameters"].get("data"), status) == (notebook, data, "finished"):
            return facts
    return None


class Run:
    """The folder of a notebook's results; see `open_run`."""

    def __init__(self, folder: str | os.PathLike, figures: Path | None = None):
        self.folder = Path(folder).resolve()
        #: The folder of all runs; the runner's layout is ``<figures>/<paper>/<notebook>/<run id>``.
        self.figures = figures or self.folder.joinpath("../../..").resolve()

    def latest_tables(self, notebook: str, data: str) -> dict[str, Any]:
        """Return the tables of the latest finished run of another notebook (the name of its file)
        on ``data``, {} if there is none.

        ``attrs["run"]`` of each table is the run's id. The runner finds this call in a notebook's
        code (``Request.reads``): a run waits for the runs whose tables it reads, and is repeated
        when these tables change.
        """
        from personagap.runs.tables import read

        if (facts := latest_run(self.figures, notebook, data)) is None:
            return {}
        tables = read(facts["folder"])
        for table in tables.values():
            table.attrs["run"] = facts["id"]
        return tables

    def save(self, **tables: Any) -> None:
        """Write DataFrames to ``tables/<name>.csv`` and ``.tex`` (``scores`` and ``responses``:
        ``.parquet``).

        The index and ``attrs`` are not written; a table that is None is left out. If programs ran
        without a sandbox, a column ``sandbox`` says so.
        """
        # Imported here, since it loads pandas, which the runner does not need.
        from personagap.readable import latex

        for name, table in tables.items():
            if table is None:
                continue
            # Programs without a sandbox could have cheated, so their results are marked.
            if sandbox.UNCONFINED.is_set():
                table = table.assign(sandbox="none")
            base = self.folder / "tables" / name
            if name in PARQUET:
                table = table.copy(deep=False)
                # Without facts such as the number of requests, a resumed run writes the same file.
                table.attrs = {}
                with atomic_write(base.with_suffix(".parquet")) as path:
                    table.to_parquet(path, index=False, compression="zstd")
                continue
            with atomic_write(base.with_suffix(".csv")) as path:
                table.to_csv(path, index=False)
                write_text(base.with_suffix(".tex"), latex(table, name))

    def cached(self, name: str, make: Any) -> Any:
        """Return the DataFrame ``make()``, which takes long to compute, or the cached result of an
        earlier run with the same inputs; see `tables.cached`.
        """
        from personagap.runs import tables

        return tables.cached(read_facts(self.folder), name, make)

    def figure(
        self,
        fig: Any,
        name: str,
        title: str,
        table: Any = None,
        names: Sequence[str] = (),
        *values: str,
    ) -> None:
        """Write a matplotlib figure to ``figures/<name>.png``, ``.svg`` and ``.pdf``, show it, and
        close it.

        The PDF is as wide as a page of a paper; ``<name>_column.pdf`` and ``.svg`` are as wide as a
        column.

        The alternative text, for readers who cannot see the figure, consists of ``title`` and the
        rows of ``table`` (see ``verdicts.describe``). The report shows the SVG (on a narrow screen
        the one for a column), whose marks have tooltips with their numbers.
        """
        import matplotlib.pyplot as plt
        from IPython.display import Image, display

        from personagap.figures.sizes import fast_saving, fit_layout, for_paper
        from personagap.runs import tooltips
        from personagap.verdicts import describe

        alt = title if table is None else describe(title, table, names, *values)
        folder = self.folder / "figures"
        bounds = fit_layout(fig)

        # Without dates, so that equal figures are equal files, for the index and for git.
        def write_svg(file: str) -> None:
            with fast_saving(fig):
                svg = tooltips.svg(fig, bbox_inches=bounds, metadata={"Date": None})
            write_text(folder / file, svg)

        with atomic_write(folder / f"{name}.png") as path, fast_saving(fig):
            fig.savefig(path, format="png", dpi=200, bbox_inches=bounds)
        write_svg(f"{name}.svg")
        for width in for_paper(fig):
            bounds = fit_layout(fig)
            with atomic_write(folder / f"{name}{width}.pdf") as path, fast_saving(fig):
                fig.savefig(path, format="pdf", bbox_inches=bounds, metadata={"CreationDate": None})
            # The SVG for the screen, written above, has about the width of a page.
            if width:
                write_svg(f"{name}{width}.svg")
        self.record(figures={name: alt})
        # Otherwise IPython would show the figure again at the end of the cell.
        plt.close(fig)
        options = {"retina": True, "alt": alt, "metadata": {"figure": name}}
        display(Image(folder / f"{name}.png", **options))

    def record(self, **facts: Any) -> None:
        """Merge facts into ``run.json``, dictionaries key by key.

        The head of the report shows ``model`` (a model's ``describe()``), ``data`` and ``left_out``
        (``attrs["sources"]`` and ``attrs["left_out"]`` of a table of items), and the figure that
        ``headline`` names, beside the first answer of the verdict.
        """
        record(self.folder, **facts)


def open_run(output: str | os.PathLike | None = None) -> Run:
    """Return the run to which a notebook writes its results.

    ``output`` is the run's folder, which ``personagap run`` passes to the notebook's parameter of
    that name; None, as in JupyterLab, stands for ``figures/interactive/<notebook>``.
    """
    if output is None:
        return Run(FIGURES / "interactive" / _notebook_name(), FIGURES)
    return Run(output)


def _notebook_name() -> str:
    """Return the name of this kernel's notebook: the one in the current folder that contains all
    executed cells, or else a hash of the first.
    """
    from IPython import get_ipython

    # Only JupyterLab tells a kernel the name of its notebook; elsewhere the code identifies it.
    if session := os.environ.get("JPY_SESSION_NAME"):
        return Path(session).stem
    shell = get_ipython()
    inputs = [text for text in shell.history_manager.input_hist_raw if text] if shell else []
    if not inputs:
        return "notebook"
    matching = []
    for path in Path.cwd().glob("*.ipynb"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            if {*inputs} <= {"".join(cell["source"]) for cell in cells}:
                matching.append(path.stem)
    if len(matching) == 1:
        return matching[0]
    return f"notebook-{hashlib.sha256(inputs[0].encode()).hexdigest()[:8]}"
