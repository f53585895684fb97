"""Twenty kills while a batch asks: nothing that was answered is asked again, and its tables are
those of no kill.
"""

import json
import os
import random
import signal
import subprocess

import pandas as pd
import psutil
import pytest
import yaml
from notebook_helpers import COMMAND, wait_for, write_notebook
from servers import counting_server

KILLS, RUNS = 20, 6
#: Of each run 60 questions that all ask, and 60 of its own.
ASKS = """
import pandas as pd
import personagap as pg
from personagap import ask, models
names = [f"question {i}" for i in range(60)] + [f"question {n} {i}" for i in range(60)]
texts = ask.texts(models.load_model(model), names, 0.0, 0)
pg.runs.open_run(output).save(answers=pd.DataFrame({"question": names, "text": texts}))
"""
#: Reads the tables of the latest of those runs.
READS = """
import pandas as pd
import personagap as pg
run = pg.runs.open_run(output)
found = run.latest_tables("1", data).get("answers", pd.DataFrame())
run.save(stages=pd.DataFrame({"rows": [len(found)]}))
"""


def killed(process: subprocess.Popen) -> None:
    """The runner and all that it started, at once."""
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.communicate()


def tables(place) -> dict[str, pd.DataFrame]:
    found = {}
    for path in place.glob("figures/p/*/*/tables/*.csv"):
        facts = json.loads((path.parents[1] / "run.json").read_text())
        found[f"{path.stem} {facts['parameters'].get('n')}"] = pd.read_csv(path)
    return found


def batch(place, url):
    parameters = f'model = "openai:m@{url}"\ndata = "demo"\nn = 1\noutput = None'
    write_notebook(place / "p" / "1.ipynb", ASKS, parameters=parameters)
    write_notebook(place / "p" / "2.ipynb", READS, parameters='data = "demo"\noutput = None')
    entries = [
        {"notebook": "p/2.ipynb"},
        {"notebook": "p/1.ipynb", "grid": {"n": [*range(1, RUNS + 1)]}},
    ]
    (place / "batch.yaml").write_text(yaml.safe_dump({"runs": entries}))
    command = [*COMMAND, "batch", "batch.yaml", "--jobs", "2", "--figures", "figures"]
    environment = os.environ | {"PERSONAGAP_CACHE": str(place / "cache")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return lambda: subprocess.Popen(command, cwd=place, env=environment, **pipes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_cost_at_most_what_was_under_way(tmp_path):
    seen = {}
    for name, kills in (("undisturbed", 0), ("killed", KILLS)):
        (tmp_path / name).mkdir()
        with counting_server("question", seconds=0.25) as (url, asked):
            start = batch(tmp_path / name, url)
            for number in range(kills):
                process = start()
                goal = len(asked) + random.Random(number).randint(1, 30)
                wait_for(lambda: len(asked) >= goal or process.poll() is not None, 300)  # noqa: B023
                assert process.poll() is None, process.communicate()[0]
                killed(process)
            said, _ = start().communicate(timeout=900)
        assert f"{RUNS + 1} of {RUNS + 1} runs finished, 0 failed" in said.decode()
        distinct = len({*asked})
        print(
            f"{name}: {kills} kills, {len(asked)} requests asked, {distinct} distinct, "
            f"{len(asked) - distinct} lost"
        )
        assert distinct == 60 + 60 * RUNS and len(asked) <= distinct + 32 * kills
        seen[name] = tables(tmp_path / name)
    assert len(seen["killed"]) == RUNS + 1
    assert seen["killed"].keys() == seen["undisturbed"].keys()
    for name, table in seen["killed"].items():
        pd.testing.assert_frame_equal(table, seen["undisturbed"][name])
    (stages,) = (table for name, table in seen["killed"].items() if name.startswith("stages"))
    assert stages["rows"].tolist() == [120]
