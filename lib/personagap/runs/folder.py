"""A run's folder: tables, figures and ``run.json``, each written whole or not at all."""

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
from personagap.leaving import leaving
from personagap.paths import FIGURES, regular
from personagap.runs.files import atomic_write, warned_if_damaged, write_text
from personagap.store.folder import is_locked

#: Tables with one row per answer are Parquet; the others, made to be read, CSV.
PARQUET = ("scores", "responses")
#: What the process of a failed run and its kernel wrote to stderr.
LOG = "stderr.log"
#: What a run under way is at: the section of its notebook, and below it what is asked there.
PROGRESS = ".progress"


def now() -> str:
    """The time, as ``run.json`` writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``run.json`` says ({} when there is none).

    `UserError`: it cannot be read, or lacks what every run that has a status records.
    """
    path, facts = folder / "run.json", {}
    with explained(f"{path} is damaged", "delete it and run the notebook again"):
        try:
            facts = json.loads(regular(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            # A run that starts may have just removed it.
            pass
        except OSError as error:
            if isinstance(error, IsADirectoryError):
                raise
            # Another's, or out of reach: nothing to delete.
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
    recorded = {"id": str, "started": str, "parameters": dict, "changed": dict}
    # Whoever reads facts counts on these; a notebook that nobody runs records others, and no
    # status.
    sound = isinstance(facts, dict) and (
        "status" not in facts
        or all(isinstance(facts.get(name), kind) for name, kind in recorded.items())
    )
    if not sound:
        damage = f"no {', '.join(recorded)}"
        raise UserError(f"{path} is damaged ({damage}): delete it and run the notebook again")
    return facts


def unanswered(facts: dict[str, Any]) -> str:
    """How many requests got no answer, in words; "" if all did."""
    number = facts.get("unanswered")
    return f"{number} request{'s' if number > 1 else ''} unanswered" if number else ""


def simulated(facts: dict[str, Any]) -> str:
    """What is simulated of a run on the demo, in a sentence; "" if nothing is."""
    asked = facts["parameters"]
    stages = asked.get("checkpoints")
    models = [asked.get("model"), *(stages.values() if isinstance(stages, dict) else [])]
    model = any(str(name).partition(":")[0] in ("demo", "simulated") for name in models)
    if asked.get("data") == "demo":
        what = "demo data and demo model" if model else "demo data"
        return f"Simulated: {what} with planted effects; nothing here is about real people."
    if model:
        return (
            "Simulated in part: a demo model with planted effects; its answers say nothing of real "
            "models."
        )
    return ""


def record(folder: Path, **facts: Any) -> dict[str, Any]:
    """Merge ``facts`` into ``run.json``, dictionaries key by key, and return all of them."""
    known = read_facts(folder)
    for name, value in facts.items():
        both = isinstance(value, dict) and isinstance(known.get(name), dict)
        known[name] = {**known[name], **value} if both else value
    text = json.dumps(known, indent=2, ensure_ascii=False, default=str)
    write_text(folder / "run.json", f"{leaving(text)}\n")
    return known


def read_verdict(folder: Path) -> list[dict[str, str]]:
    """Rows ``question answer`` of ``tables/verdict.csv`` ([] when there is none)."""
    # Without pandas, which takes a second to load: the index reads a verdict of every run.
    path, answers = folder / "tables" / "verdict.csv", []
    with warned_if_damaged(path):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        for row in csv.DictReader(lines, restval=""):
            if not {"question", "answer"} <= row.keys():
                raise ValueError("no columns question, answer")
            answers.append({name: row[name] for name in ("question", "answer")})
    return answers


def runs(figures: Path) -> list[dict[str, Any]]:
    """What ``run.json`` says of each run under ``figures``, and its ``folder``; newest first.

    A run that says it is running while nobody holds its lock was interrupted. Of a damaged
    ``run.json`` it warns.
    """
    found = []
    for path in figures.glob("*/*/*/run.json"):
        facts = {}
        # One damaged file must not hide all other runs.
        with warned_if_damaged(path):
            facts = {**read_facts(path.parent), "folder": path.parent}
        if "status" not in facts:
            # Left by a notebook that somebody ran by hand, cell by cell.
            continue
        if facts["status"] == "running" and not is_locked(path.with_name(".lock")):
            facts["status"] = "interrupted"
        found.append(facts)
    return sorted(found, key=lambda facts: facts["started"], reverse=True)


def latest_run(figures: Path, notebook: str, data: str) -> dict[str, Any] | None:
    """What is known of the latest finished run of ``notebook`` (its file's name) on ``data``; None
    if there is none.
    """
    for facts in runs(figures):
        asked = facts["folder"].parent.name, facts["parameters"].get("data"), facts["status"]
        if asked == (notebook, data, "finished"):
            return facts
    return None


class Run:
    """Where a notebook puts its results; see `open_run`."""

    def __init__(self, folder: str | os.PathLike, figures: Path | None = None):
        self.folder = Path(folder).resolve()
        #: Where all runs lie; the runner's layout is ``<figures>/<paper>/<notebook>/<run id>``.
        self.figures = figures or self.folder.joinpath("../../..").resolve()

    def latest_tables(self, notebook: str, data: str) -> dict[str, Any]:
        """The tables of the latest finished run of another notebook (its file's name) on ``data``;
        {} if there is none.

        ``attrs["run"]`` of each is the run's id. The runner finds this call in a notebook's code
        (``Request.reads``): that run waits for those it reads from, and is run again when their
        tables change.
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

        The index and ``attrs`` are not written; a table that is None is left out. Once programs
        were run unconfined, a column ``sandbox`` says so.
        """
        # Here, as it loads pandas, which the runner does without.
        from personagap.readable import latex

        for name, table in tables.items():
            if table is None:
                continue
            # Results of programs that could have cheated must not be taken for others.
            if sandbox.UNCONFINED.is_set():
                table = table.assign(sandbox="none")
            place = self.folder / "tables" / name
            if name in PARQUET:
                plain = table.copy(deep=False)
                # Such as how many answers were asked for: a resumed run writes the same file.
                plain.attrs = {}
                with atomic_write(place.with_suffix(".parquet")) as path:
                    plain.to_parquet(path, index=False, compression="zstd")
                continue
            with atomic_write(place.with_suffix(".csv")) as path:
                table.to_csv(path, index=False)
                write_text(place.with_suffix(".tex"), latex(table, name))

    def kept(self, name: str, make: Any) -> Any:
        """A DataFrame that takes long to make: ``make()``, or what an earlier run like this kept;
        see `tables.kept`.
        """
        from personagap.runs.tables import kept

        return kept(read_facts(self.folder), name, make)

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

        The PDF has the width of a paper's page; ``<name>_column.pdf`` and ``.svg`` have that of a
        column.

        For those who cannot see it, ``title`` and the rows of ``table`` say what it shows (see
        ``verdicts.describe``). The SVG, which the report shows (on a narrow screen that of a
        column), says the numbers of a mark where it is pointed at.
        """
        import matplotlib.pyplot as plt
        from IPython.display import Image, display

        from personagap.figures.sizes import fitted, for_paper, saving
        from personagap.runs import tooltips
        from personagap.verdicts import describe

        alt = title if table is None else describe(title, table, names, *values)
        folder = self.folder / "figures"
        bounds = fitted(fig)

        # Without dates: the same figure is the same file, which the index and git can tell.
        def write_svg(file: str) -> None:
            with saving(fig):
                svg = tooltips.svg(fig, bbox_inches=bounds, metadata={"Date": None})
            write_text(folder / file, svg)

        with atomic_write(folder / f"{name}.png") as path, saving(fig):
            fig.savefig(path, format="png", dpi=200, bbox_inches=bounds)
        write_svg(f"{name}.svg")
        for width in for_paper(fig):
            bounds = fitted(fig)
            with atomic_write(folder / f"{name}{width}.pdf") as path, saving(fig):
                fig.savefig(path, format="pdf", bbox_inches=bounds, metadata={"CreationDate": None})
            # The page's width is about that of the screen, whose SVG is there already.
            if width:
                write_svg(f"{name}{width}.svg")
        self.record(figures={name: alt})
        # Else IPython would show it again at the end of the cell.
        plt.close(fig)
        shown = {"retina": True, "alt": alt, "metadata": {"figure": name}}
        display(Image(folder / f"{name}.png", **shown))

    def record(self, **facts: Any) -> None:
        """Merge facts into ``run.json``, dictionaries key by key.

        ``model`` (what a model's ``describe()`` returns), ``data`` and ``left_out`` (what a table
        of items has in ``attrs["sources"]`` and ``attrs["left_out"]``) go to the head of the
        report, and so does the figure that ``headline`` names, beside the first answer of the
        verdict.
        """
        record(self.folder, **facts)


def open_run(output: str | os.PathLike | None = None) -> Run:
    """The run a notebook writes to.

    ``output`` is the run's folder, as ``personagap run`` passes it to the notebook's parameter of
    that name; None, as in JupyterLab, stands for ``figures/interactive/<notebook>``.
    """
    if output is None:
        name = os.environ.get("JPY_SESSION_NAME")
        return Run(FIGURES / "interactive" / (Path(name).stem if name else _executed()), FIGURES)
    return Run(output)


def _executed() -> str:
    """The notebook of this kernel: the one in the current folder that holds what was executed, or a
    hash of that.
    """
    from IPython import get_ipython

    # A kernel is told its notebook's name by JupyterLab alone; elsewhere its code must tell it.
    shell = get_ipython()
    inputs = [text for text in shell.history_manager.input_hist_raw if text] if shell else []
    found = []
    for path in Path.cwd().glob("*.ipynb"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            if {*inputs} <= {"".join(cell["source"]) for cell in cells}:
                found.append(path.stem)
    if inputs and len(found) == 1:
        return found[0]
    digest = hashlib.sha256(inputs[0].encode()).hexdigest() if inputs else ""
    return f"notebook-{digest[:8]}" if inputs else "notebook"
