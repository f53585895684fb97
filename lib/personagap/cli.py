"""The ``personagap`` command."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import TextIO

import click

import personagap as pg
from personagap._one_line import OneLine, echo_safely
from personagap.errors import UserError
from personagap.paths import FIGURES, RESPONSES, absolute, display_path, find_notebook, notebooks

# Modules that load pandas, torch or papermill are imported in the commands that need them, and
# those of ``pg`` when they are first used, so that --help is quick.


class _Path(click.Path):
    """An absolute path, since a Dask worker has another current folder."""

    def convert(self, value, param, ctx):
        try:
            return absolute(str(super().convert(value, param, ctx)))
        except (ValueError, RuntimeError) as error:
            # Characters that no file name or no UTF-8 may contain, or a loop of symbolic links.
            self.fail(f"{value!r} is no path ({error})", param, ctx)


path = _Path(path_type=Path)
figures_option = click.option("--figures", type=path, default=FIGURES, help="Folder of all runs.")
force_option = click.option("--force", is_flag=True, help="Run again even if finished.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print plan and cost; run nothing.")
VALUES = """Set a parameter to a number, true, false, null, text, or a list: '["mmlu", "gsm8k"]'."""


def _require_folder(_, __, folder: str) -> str:
    if folder not in ("demo", "hub") and not Path(folder).is_dir():
        raise UserError(f"no folder {folder}: give the one that holds your data sets")
    return folder


folder_argument = click.argument("folder", default="demo", callback=_require_folder)


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pg.__version__)
def main() -> None:
    """Persona effects and the synthetic-human gap in language models, with honest error bars.

    Runs live in figures/PAPER/NOTEBOOK/RUN/: notebook.ipynb, report.html, tables, figures …

    Shell completion: eval "$(_PERSONAGAP_COMPLETE=bash_source personagap)" in ~/.bashrc (or
    zsh_source in ~/.zshrc); for fish, _PERSONAGAP_COMPLETE=fish_source personagap | source.
    """


def _complete_notebook(_, __, start: str) -> list[str]:
    return [path.stem for path in notebooks() if path.stem.startswith(start)]


@main.command()
@click.argument("notebook", shell_complete=_complete_notebook)
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help=VALUES)
@click.option("--kernel", help="Jupyter kernel to run on (see `personagap kernels`).")
@dry_run_option
@force_option
@figures_option
def run(
    notebook: str, given: tuple, kernel: str | None, dry_run: bool, force: bool, figures: Path
) -> None:
    """Run NOTEBOOK (a file, or a notebook of the project by name: 2_relevance), write its report.

    The same notebook with the same parameters is the same run. If it is finished it is skipped,
    unless the notebook, the prompts or the data it names have changed, or requests are unanswered.
    If it was interrupted it resumes with the stored answers. Relative paths in parameters are
    relative to the current folder.

    Exit status: 0 finished; 1 the run failed; 2 a mistake in the command; 3 finished, but some
    requests are unanswered: the same command sends them again.
    """
    from personagap.runs import execute
    from personagap.runs.request import Request
    from personagap.runs.values import parse_values
    from personagap.runs.watch import watching

    parameters = parse_values(given)
    file = find_notebook(path.convert(notebook, None, None), notebook)
    request = Request(file, parameters, kernel, figures)
    if dry_run:
        _print_plan([request], force)
        return
    with watching([request.folder]):
        facts = execute.run(request, force=force)
    echo_safely(execute.describe(facts, request.folder), err=facts["status"] != "finished")
    sys.exit(execute.exit_status(facts))


@main.command()
@click.argument("file", type=path)
@click.option(
    "--jobs",
    default=2,
    type=click.IntRange(1),
    help="Number of parallel runs on this machine (default 2).",
)
@click.option("--dask", metavar="ADDRESS", help='Scheduler of a Dask cluster to use, or "local".')
@dry_run_option
@force_option
@figures_option
def batch(
    file: Path, jobs: int, dask: str | None, dry_run: bool, force: bool, figures: Path
) -> None:
    """Run the notebooks × parameter grids of FILE (YAML).

    Finished runs are skipped, so an interrupted batch continues where it stopped. A failed run
    does not stop the others.

    Exit status: 0 all finished; 1 some failed; 2 a mistake in FILE; 3 none failed, but some
    requests are unanswered: the same command sends them again.
    """
    from tqdm import tqdm

    from personagap.runs import batch, execute
    from personagap.runs.watch import watching

    requests = batch.read(file, figures)
    _print_plan(requests, force)
    if dry_run:
        return
    ended, folders = [], {request.id: request.folder for request in requests}
    run_all = partial(batch.run_on_dask, address=dask) if dask is not None else batch.run_here
    try:
        with watching([*folders.values()]):
            # The generator gets no name of its own: a reference would keep it, and its runs, alive
            # after an error here, which must stop them.
            for facts in run_all(requests, jobs=jobs, force=force):
                ended.append(facts)
                with tqdm.external_write_mode():
                    # Printed above the status lines of the runs, which move down.
                    echo_safely(execute.describe(facts, folders[facts["id"]]))
    except UserError as error:
        # The cluster is unreachable: the runs that ended before are reported all the same.
        echo_safely(f"personagap: {error}", err=True)
    failed = sum(facts["status"] != "finished" for facts in ended)
    lost = len(requests) - len(ended)
    codes = [execute.exit_status(facts) for facts in ended] + [1] * lost
    more = f", {lost} did not come to an end" if lost else ""
    more += f"; {codes.count(3)} with unanswered requests: run again" if 3 in codes else ""
    click.echo(f"{len(ended) - failed} of {len(requests)} runs finished, {failed} failed{more}")
    # A failed run needs attention; unanswered requests only need the same command again.
    sys.exit(1 if 1 in codes else max(codes, default=0))


def _format_amount(number: float) -> str:
    return "unknown" if number == math.inf else "–" if math.isnan(number) else f"{number:,.0f}"


def _print_plan(requests: list, force: bool) -> None:
    """Print what each run would do and what it would cost."""
    from personagap.runs import batch

    plan = batch.plan(requests, force)
    # Without an earlier run of the same model these two columns are empty.
    paced = plan["pace"].notna().any()
    table = plan if paced else plan.drop(columns=["seconds", "pace"])
    table = table.assign(**table.select_dtypes("number").map(_format_amount))
    # No two scores differ by more.
    table["detectable"] = table["detectable"].mask(plan["detectable"] > 100, "none")
    echo_safely(table.to_string(index=False, na_rep="–", max_colwidth=60))
    runs, to_do = f"{len(plan)} run{'s' * (len(plan) != 1)}", sum(plan["state"] == "to do")
    # If the tokens of one run are unknown, the sum of the others is not an upper bound for all.
    unknown = plan["generations"].notna() & plan["tokens"].isna()
    totals = plan["generations"].sum(), math.inf if unknown.any() else plan["tokens"].sum()
    generations, tokens = (
        "an unknown number of" if total == math.inf else _format_amount(total) for total in totals
    )
    click.echo(
        f"{runs}, {to_do} to do: at most {generations} generations and {tokens} tokens, "
        "less what is stored.\ndetectable: the smallest difference from the control, in points, "
        "that the smallest\ntask can show with 80 % power, at worst (likelihood: see the verdict)."
    )
    # A blank line separates the plan from the lines of the runs.
    click.echo("seconds: of the requests, at the speed of the run under pace.\n" if paced else "")


@main.command()
@figures_option
def index(figures: Path) -> None:
    """Rebuild figures/index.html, the page of all runs."""
    from personagap.runs import index

    click.echo(display_path(index.write(figures)))


# The former name of `index`, which scripts may still use.
settings: dict = {"params": index.params, "callback": index.callback, "help": index.help}
main.add_command(click.Command("report", hidden=True, **settings))


@main.command()
@click.argument("run", type=path)
def cite(run: Path) -> None:
    """Print how to cite RUN (its folder): a sentence for the methods section, and BibTeX."""
    from personagap.runs import cite

    click.echo(cite.text(run))


@main.command()
@click.option(
    "--prefix", help="Folder that holds share/jupyter/kernels (default: this environment)."
)
def kernels(prefix: str | None) -> None:
    """Install a Jupyter kernel for the CPU and one for each GPU."""
    from personagap.runs import kernels

    for name, folder in kernels.install(prefix).items():
        click.echo(f"{name}: {folder}")


@main.command()
@folder_argument
@click.option(
    "--template",
    type=click.Choice(["extraction", "relevance", "response"]),
    help="Write example judgments into FOLDER (default: here) and explain their columns.",
)
def data(folder: str, template: str | None) -> None:
    """List the data sets, their licences, and whether FOLDER (default: the demo) holds them."""
    if template:
        from personagap.datasets import examples

        # "demo" is the default for reading; files are written to the current folder.
        written, columns = examples.write(template, "." if folder == "demo" else folder)
        click.echo(f"{columns}\n\n{display_path(written)}")
        return
    _print_checks(pg.doctor.data_sets(folder))


@main.command()
@folder_argument
def doctor(folder: str) -> None:
    """Check this machine, and the data sets in FOLDER; say how to add what is missing."""
    _print_checks(pg.doctor.machine() + pg.doctor.data_sets(folder))


@main.group()
def store() -> None:
    """Count stored answers, and move them from one cache to another."""


@store.command()
def size() -> None:
    """List the models with their number of stored answers and megabytes."""
    from personagap.store import cache

    for name, answers, size in cache.sizes(RESPONSES):
        click.echo(f"{answers:12,} {size / 1e6:10,.1f} MB  {name}")


@store.command()
# Lazy, so that an error in the store does not leave an empty file behind.
@click.argument("file", type=click.File("w", lazy=True), default="-")
def export(file: TextIO) -> None:
    """Write all answers to FILE (default: the terminal) as JSON lines."""
    from personagap.store import cache

    click.echo(f"{cache.export(RESPONSES, file):,} answers", err=True)


@store.command("import")
# Text that is not UTF-8 is rejected with its line number, like any other malformed line.
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"))
def import_answers(file: TextIO) -> None:
    """Add the answers in FILE, as written by `export` ("-": standard input)."""
    from personagap.store import cache

    click.echo(f"{cache.import_answers(RESPONSES, file):,} new answers")


@store.command()
@click.argument("folders", type=path, nargs=-1)
def merge(folders: tuple[Path, ...]) -> None:
    """Add the answers of other caches: FOLDERS like data/cache/responses.

    Without FOLDERS, move what the machines of a cluster wrote to files of their own into the
    database of their shared folder, while nothing is running.
    """
    from personagap.store import cache

    click.echo(f"{cache.merge(RESPONSES, list(folders)):,} new answers")


def _print_checks(checks: list) -> None:
    for name, present, text in checks:
        echo_safely(f"{'present' if present else 'absent':9}{name:15}{text}")


if __name__ == "__main__":
    main(prog_name="personagap")
