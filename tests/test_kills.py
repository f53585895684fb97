"""A batch killed twenty times repeats no answered request, and its tables are the same."""

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
#: Each run asks 60 questions that all runs share, and 60 of its own.
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


def kill_all(process: subprocess.Popen) -> None:
    """Kill the runner and all its children at once."""
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.communicate()


def read_tables(folder) -> dict[str, pd.DataFrame]:
    """All tables of the runs, by name and the run's ``n``."""
    found = {}
    for path in folder.glob("figures/p/*/*/tables/*.csv"):
        facts = json.loads((path.parents[1] / "run.json").read_text())
        found[f"{path.stem} {facts['parameters'].get('n')}"] = pd.read_csv(path)
    return found


def batch_starter(folder, url):
    """Write a batch of `RUNS` runs and one that reads their tables; return a function to start
    it.
    """
    parameters = f'model = "openai:m@{url}"\ndata = "demo"\nn = 1\noutput = None'
    write_notebook(folder / "p" / "1.ipynb", ASKS, parameters=parameters)
    write_notebook(folder / "p" / "2.ipynb", READS, parameters='data = "demo"\noutput = None')
    entries = [
        {"notebook": "p/2.ipynb"},
        {"notebook": "p/1.ipynb", "grid": {"n": [*range(1, RUNS + 1)]}},
    ]
    (folder / "batch.yaml").write_text(yaml.safe_dump({"runs": entries}))
    command = [*COMMAND, "batch", "batch.yaml", "--jobs", "2", "--figures", "figures"]
    environment = os.environ | {"PERSONAGAP_CACHE": str(folder / "cache")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return lambda: subprocess.Popen(command, cwd=folder, env=environment, **pipes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_repeat_only_requests_in_flight(tmp_path):
    results = {}
    for name, kills in (("undisturbed", 0), ("killed", KILLS)):
        (tmp_path / name).mkdir()
        with counting_server("question", seconds=0.25) as (url, asked):
            start = batch_starter(tmp_path / name, url)
            for number in range(kills):
                process = start()
                goal = len(asked) + random.Random(number).randint(1, 30)
                wait_for(lambda: len(asked) >= goal or process.poll() is not None, 300)  # noqa: B023
                assert process.poll() is None, process.communicate()[0]
                kill_all(process)
            output, _ = start().communicate(timeout=900)
        assert f"{RUNS + 1} of {RUNS + 1} runs finished, 0 failed" in output.decode()
        distinct = len({*asked})
        print(
            f"{name}: {kills} kills, {len(asked)} requests asked, {distinct} distinct, "
            f"{len(asked) - distinct} lost"
        )
        assert distinct == 60 + 60 * RUNS
        assert len(asked) <= distinct + 32 * kills  # a kill repeats at most the requests in flight
        results[name] = read_tables(tmp_path / name)
    assert len(results["killed"]) == RUNS + 1
    assert results["killed"].keys() == results["undisturbed"].keys()
    for name, table in results["killed"].items():
        pd.testing.assert_frame_equal(table, results["undisturbed"][name])
    (stages,) = (table for name, table in results["killed"].items() if name.startswith("stages"))
    assert stages["rows"].tolist() == [120]
