"""The task registry: a new task is one file, an unknown one an error, never NaN; a new paper is a
folder.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import personagap
from personagap import ask, datasets, judges, personas, tasks
from personagap.errors import UserError
from personagap.paths import DATA, NOTEBOOKS
from personagap.runs.costs import cost
from personagap.runs.request import Request
from personagap.tasks._items import read

NOTEBOOK = NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb"

SIXTH = '''
"""Claims, each true or not."""

from personagap._reading import Rule, read_csv
from personagap.tasks._task import Grader, Hub, Task, filled, first_line, position

CORRECTED = Grader(
    extract=lambda row: next((word for word in ("yes", "no") if word in row.text), None),
    mark=lambda found, row: found == row.answer,
)

TASK = Task(
    name="claims",
    dimension="utility",
    order=1000,
    n_items=120,
    licence="CC0",
    hub=Hub("somebody/claims", None, "test"),
    files={"claims*.csv": read_csv},
    schema={"claim": filled("question"), "answer": Rule(lambda text: text != "", "no answer")},
    items=lambda table: {
        "item": position(table),
        "question": table["claim"],
        "answer": table["answer"],
    },
    choices=("yes", "no"),
    graders={"corrected": CORRECTED, "paper": CORRECTED, "code": CORRECTED},
    discrepancies={"S8 cut at the first line break": first_line(CORRECTED)},
)
'''

#: A data set of one row that only the fourth paper has.
FOURTH = """
import pandas as pd


def load(folder):
    table = pd.DataFrame({"pun": ["none"]})
    table.attrs["sources"] = [{"rows": 1, "file": "puns.csv", "licence": "CC0"}]
    return table


LOADERS = {"puns": load}
"""

#: Uses the sixth task as a run does, and the fourth paper.
USE = """
import json, sys
from pathlib import Path
import pandas as pd
from personagap import datasets, doctor, tasks
from personagap.runs.costs import cost
from personagap.runs.request import Request
from personagap.tasks._items import read
from personagap.runs.terms import linked

folder, notebook = sys.argv[1], Path(sys.argv[2])
items = datasets.load("all", folder)
item = next(items.itertuples())
first = {"model": "m", "persona": "none", "template": "paper", "task": "claims", "item": "0"}
texts = ["It is\\nyes", "no"]
responses = pd.DataFrame(first | {"run": [0, 1], "text": texts, "finish_reason": "stop"})
scores = tasks.grade(responses, items, protocol="paper")
text = json.dumps({"yes": -1.0, "no": -2.0})
likely = responses.head(1).assign(text=text, finish_reason=tasks.LIKELIHOOD)
traps = tasks.discrepancies(responses, items)
costs = {
    data: cost(Request(notebook, {"data": data, "tasks": ["claims"], "runs": 1}))
    for data in (folder, "hub")
}
print(json.dumps({
    "tasks": list(tasks.TASKS),
    "utility": list(tasks.UTILITY),
    "read": [source["task"] for source in items.attrs["sources"]],
    "prompt": tasks.prompt(item),
    "begun": tasks.likelihood_prompt(item, True)[-1],
    "scores": scores["score"].tolist(),
    "accuracy": tasks.grade(likely, items)["accuracy"].tolist(),
    "dimension": tasks.by_dimension(scores)[["task", "item"]].to_numpy().tolist(),
    "traps": traps.groupby("persona")["score"].mean().to_dict(),
    "present": [check.name for check in doctor.data_sets(folder) if check.present],
    "generations": [cost["generations"] for cost in costs.values()],
    "explained": linked("<p>as in (W1)</p>", "puns"),
}))
"""


@pytest.fixture(scope="module")
def with_a_sixth(tmp_path_factory):
    """Run code in the project with a sixth task, its prompts and its data."""
    root = tmp_path_factory.mktemp("project")
    here, lib = Path(personagap.__file__).parent, root / "lib" / "personagap"
    shutil.copytree(here, lib, ignore=shutil.ignore_patterns("__pycache__"))
    (lib / "tasks" / "claims.py").write_text(SIXTH)
    (root / "data").mkdir()
    for file in DATA.iterdir():
        if file.name not in ("prompts", "cache"):
            (root / "data" / file.name).symlink_to(file)
    prompts = shutil.copytree(DATA / "prompts", root / "data" / "prompts")
    (prompts / "claims.txt").write_text("True? {question}")
    (prompts / "claims_begun.txt").write_text("It is: ")
    paper, its_data = lib / "puns", root / "data" / "puns"
    paper.mkdir()
    shutil.copy(here / "recentering" / "__init__.py", paper)
    (paper / "data_sets.py").write_text(FOURTH)
    its_data.mkdir()
    header = (DATA / "recentering" / "published.csv").read_text().splitlines()[0]
    (its_data / "published.csv").write_text(header)
    (its_data / "traps.csv").write_text("trap,what\nW1,Words mean two things.\n")
    (root / "mine").mkdir()
    (root / "mine" / "claims.csv").write_text("claim,answer\nWater is wet.,yes\nIce is hot.,no\n")
    command = [sys.executable, "-c", USE, str(root / "mine"), str(NOTEBOOK)]
    how = {"env": os.environ | {"PYTHONPATH": str(root / "lib")}, "cwd": root, "timeout": 300}
    done = subprocess.run(command, capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_sixth_task_is_one_file(with_a_sixth):
    found = with_a_sixth
    assert found["tasks"] == [*tasks.TASKS, "claims"]
    assert found["utility"] == [*tasks.UTILITY, "claims"]
    assert found["read"] == ["claims"] and "claims" in found["present"]
    assert (found["prompt"], found["begun"]) == ("True? Water is wet.", ["assistant", "It is: "])
    assert found["scores"] == [1, 0] and found["accuracy"] == [1]
    assert found["dimension"] == [["utility", "claims/0"]] * 2
    traps = {"corrected": 0.5, "paper": 0.5, "code": 0.5, "S8 cut at the first line break": 0}
    assert found["traps"] == traps


def test_fourth_paper_is_a_folder_with_its_data_and_traps(with_a_sixth):
    assert "puns" in with_a_sixth["present"]
    page, notes = with_a_sixth["explained"]
    assert 'href="#W1"' in page and "Words mean two things." in notes


def test_sixth_task_is_priced_with_and_without_its_data(with_a_sixth):
    request = Request(NOTEBOOK, {"data": "hub", "tasks": ["gsm8k"], "runs": 1})
    limit = request.parameters["items_per_task"] or np.inf
    askings = cost(request)["generations"] / min(limit, tasks.find("gsm8k").n_items)
    assert with_a_sixth["generations"] == [askings * 2, askings * min(limit, 120)]


def test_tasks_have_a_fixed_order_and_the_names_of_their_files():
    """Results depend on the order, as random numbers are drawn task by task."""
    assert list(tasks.TASKS)[:5] == ["mmlu", "gsm8k", "mbpp", "do_not_answer", "strongreject"]
    assert {*tasks.UTILITY} | {*tasks.SAFETY} == {*tasks.TASKS}
    for name, task in tasks.TASKS.items():
        assert importlib.import_module(f"personagap.tasks.{name}").TASK is task
        assert (DATA / "prompts" / f"{name}.txt").exists()
        assert task.judged or {*task.graders} == {*tasks.PROTOCOLS}
    assert [name for name, task in tasks.TASKS.items() if task.programs] == ["mbpp"]


def test_incomplete_task_definition_is_refused():
    given = {**vars(tasks.find("gsm8k"))}
    with pytest.raises(ValueError, match="gsm8k: a dimension is one of utility, safety"):
        tasks.Task(**given | {"dimension": "speed"})
    with pytest.raises(ValueError, match="gsm8k: graders are needed for corrected, paper, code"):
        tasks.Task(**given | {"graders": {"paper": given["graders"]["paper"]}})


def test_task_without_a_hub_data_set_is_absent_there():
    ours = tasks.Task(**{**vars(tasks.find("gsm8k"))} | {"hub": None})
    assert read(ours, "hub") is None and len(read(ours, "demo")) == 64


def _unknown():
    """An item, an answer and a score of an unknown task."""
    items = datasets.load("gsm8k", items_per_task=1).assign(task="chess")
    cell = {"model": "m", "persona": "none", "template": "paper", "run": 0}
    answers = items[["task", "item"]].assign(text="18", finish_reason="stop", **cell)
    return items, answers


def _likely(answers):
    return answers.assign(finish_reason=tasks.LIKELIHOOD)


ON_THE_HUB = {"tasks": ["chess"], "data": "hub"}
UNKNOWN = {
    "load": lambda items, answers: datasets.load("chess"),
    "select": lambda items, answers: tasks.select(["mmlu", "chess"]),
    "prompt": lambda items, answers: tasks.prompt(items.iloc[0]),
    "likelihood prompt": lambda items, answers: tasks.likelihood_prompt(items.iloc[0], True),
    "ask": lambda items, answers: ask.ask(None, personas.select("religion"), items),
    "grade": lambda items, answers: tasks.grade(answers, items),
    "grade by likelihood": lambda items, answers: tasks.grade(_likely(answers), items),
    "discrepancies": lambda items, answers: tasks.discrepancies(answers, items),
    "dimension": lambda items, answers: tasks.by_dimension(answers.assign(score=1.0)),
    "judgments": lambda items, answers: judges.judgments(answers, items, []),
    "cost": lambda items, answers: cost(Request(NOTEBOOK, {"tasks": ["chess"]})),
    "cost on the Hub": lambda items, answers: cost(Request(NOTEBOOK, ON_THE_HUB)),
}


@pytest.mark.parametrize("where", UNKNOWN)
def test_unknown_task_is_an_error_everywhere(where):
    message = "^unknown task 'chess': choose from mmlu, gsm8k, mbpp, do_not_answer, strongreject"
    with pytest.raises(UserError, match=message):
        UNKNOWN[where](*_unknown())


def test_score_without_a_task_has_no_dimension():
    scores = pd.DataFrame({"task": ["mmlu", None], "item": ["1", "2"], "score": 1.0})
    with pytest.raises(UserError, match="unknown task nan"):
        tasks.by_dimension(scores)
