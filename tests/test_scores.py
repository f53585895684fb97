"""Scores from the logs of other tools: lm-evaluation-harness, Inspect, and plain tables."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from personagap import ask, datasets, effects, personas, scores, tasks
from personagap.errors import UserError
from personagap.models import Sampling

#: Logs of lm-evaluation-harness and inspect_ai with the demo model, made by `logs/make_logs.py`.
LOGS = Path(__file__).parent / "logs"
WHO = ["none", "assistant", "woman", "minor", "bisexual", "gay"]
CELL = ["persona", "item"]


@pytest.fixture(scope="module")
def ours(demo_lm, tmp_path_factory):
    """The project's own answers of the demo model to the same items, by likelihood and greedily."""
    from personagap import responses

    logged = scores.from_lm_eval(LOGS / "lm_eval", {"item": "item"})["item"].unique()
    items = datasets.load("mmlu")
    items = items[items["item"].isin(logged)]
    who = personas.select(WHO)
    store = {"store": responses.ResponseStore(demo_lm.id, tmp_path_factory.mktemp("store"))}
    weighed = tasks.grade(ask.ask(demo_lm, who, items, answers="likelihood", **store), items)
    greedy = ask.ask(
        demo_lm, who, items, runs=1, sampling=Sampling(temperature=0, max_tokens=40), **store
    )
    return {
        "letters": weighed.assign(score=weighed["accuracy"]),
        "written": tasks.grade(greedy, items),
    }


def assert_same(theirs, ours):
    theirs, ours = (table.sort_values(CELL, ignore_index=True) for table in (theirs, ours))
    alike = [*CELL, "template", "run", "score", "valid"]
    pd.testing.assert_frame_equal(theirs[alike], ours[alike], check_dtype=False)
    bias, expected = (
        effects.personalization_bias(table.assign(task="mmlu", model="demo"))
        for table in (theirs, ours)
    )
    pd.testing.assert_frame_equal(bias, expected)
    assert bias["pb"].iloc[0] > 15


@pytest.mark.parametrize("task", ["letters", "written"])
def test_lm_eval_logs_give_the_bias_of_our_own_answers(ours, task):
    theirs = scores.from_lm_eval(LOGS / "lm_eval", {"item": "item"}).query("task == @task")
    assert list(theirs) == scores.COLUMNS and set(theirs["model"]) == {"demo-model"}
    assert_same(theirs, ours[task])


def test_inspect_logs_give_the_bias_of_our_own_answers(ours):
    """Five are ``.eval``, one ``.json``."""
    theirs = scores.from_inspect(LOGS / "inspect")
    assert_same(theirs, ours["written"])
    assert set(theirs["task"]) == {"letters"} and not theirs["truncated"].any()


def test_json_log_equals_the_eval_log():
    log = (
        scores.from_inspect(LOGS / "inspect").query("persona == 'assistant'").assign(persona="none")
    )
    as_json = scores.from_inspect(LOGS / "inspect.json", control="assistant")
    log, as_json = (table.sort_values("item", ignore_index=True) for table in (log, as_json))
    pd.testing.assert_frame_equal(log, as_json)


@pytest.mark.parametrize(
    ("read", "log", "field"),
    [(scores.from_lm_eval, "lm_eval", "file"), (scores.from_inspect, "inspect", "persona")],
)
def test_persona_is_read_from_the_system_prompt_the_file_or_a_field(read, log, field):
    by_prompt = read(LOGS / log)
    assert set(by_prompt["persona"]) == set(WHO)
    pd.testing.assert_frame_equal(read(LOGS / log, {"persona": field}), by_prompt)


def test_metric_of_several_filters_and_one_of_several_tasks_can_be_selected():
    read = {"columns": {"score": "exact_match,loose"}, "task": "mmlu"}
    with pytest.raises(
        UserError, match=r"samples_letters.* no metric 'exact_match,loose': choose from acc,none"
    ):
        scores.from_lm_eval(LOGS / "lm_eval", **read)
    table = scores.from_lm_eval(LOGS / "lm_eval", task="mmlu")
    assert table["item"].nunique() == 24
    assert set(table["item"].str.split("/").str[0]) == {
        "letters",
        "written",
    }
    written = sorted((LOGS / "lm_eval").rglob("samples_written*"))
    assert (
        len(
            scores.from_lm_eval(
                written[0], {**read["columns"], "persona": "file"}, control=written[0].stem
            )
        )
        == 12
    )


def test_repeated_log_is_a_second_run_and_an_unscored_sample_is_missing(tmp_path):
    log = json.loads((LOGS / "inspect.json").read_text())
    log["samples"][0] |= {"scores": None, "error": {"message": "timed out"}}
    log["samples"][1]["scores"]["pattern"] |= {"value": "I", "answer": None}
    log["samples"][1]["output"]["choices"][0]["stop_reason"] = "max_tokens"
    (tmp_path / "b.json").write_text(json.dumps(log))
    (tmp_path / "other.json").write_text("{}")
    shutil.copy(LOGS / "inspect.json", tmp_path / "a.json")
    table = scores.from_inspect(tmp_path, control="assistant")
    assert table["run"].value_counts().to_dict() == {0: 12, 1: 11}
    bad = table.query("run == 1 and not valid")
    assert bad["score"].tolist() == [0] and bad["truncated"].tolist() == [True]


def test_another_control_can_be_chosen():
    table = scores.from_inspect(LOGS / "inspect", control="gay")
    expected = {"none", "no system prompt", "assistant", "woman", "minor", "bisexual"}
    assert set(table["persona"]) == expected and len(table) == 72
    assert table.groupby("persona")["score"].mean()["none"] == 1


def test_controls_have_the_phrasing_of_the_identities(tmp_path):
    log = json.loads((LOGS / "inspect.json").read_text())
    for name, system in {
        "a": None,
        "b": "You are a helpful assistant. The user is a nurse.",
        "c": "One\nTwo",
    }.items():
        for sample in log["samples"]:
            messages = [each for each in sample["messages"] if each["role"] != "system"]
            sample["messages"] = [
                *([{"role": "system", "content": system}] if system else []),
                *messages,
            ]
        (tmp_path / f"{name}.json").write_text(json.dumps(log))
    table = scores.from_inspect(tmp_path)
    assert set(table["persona"]) == {
        "none",
        "You are a helpful assistant. The user is a nurse.",
        "One Two",
    }
    (tmp_path / "b.json").write_text(
        (tmp_path / "b.json").read_text().replace("a nurse", "a Hindu person")
    )
    (tmp_path / "c.json").unlink()
    table = scores.from_inspect(tmp_path)
    assert set(table["persona"]) == {"none", "hindu"} and set(table["template"]) == {"user_is"}


def test_generic_table_is_read(tmp_path):
    file = tmp_path / "answers.csv"
    file.write_text(
        "user,question,correct,try\nnobody,q1,true,a\nnobody,q1,no,b\nnurse,q1,0.5,a\nnurse,q1,,b\n"
    )
    columns = {"persona": "user", "item": "question", "score": "correct"}
    table = scores.from_csv(file, columns, control="nobody")
    assert table[["persona", "run", "score"]].to_numpy().tolist() == [
        ["none", 0, 1],
        ["none", 1, 0],
        ["nurse", 0, 0.5],
    ]
    assert set(table["task"]) == {"answers"} and table.attrs["sources"][0]["rows"] == 3
    for name, text in {"none": "item,score\nq1,1\n", "nurse": "item,score\nq1,0\n"}.items():
        (tmp_path / "each").mkdir(exist_ok=True)
        (tmp_path / "each" / f"{name}.csv").write_text(text)
    each = scores.from_csv(tmp_path / "each", {"persona": "file"}, task="quiz")
    assert each["persona"].tolist() == ["none", "nurse"] and set(each["task"]) == {"quiz"}


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        (
            "user,item,score\na,1,1\n",
            {},
            "no column 'persona' for persona: say which of user, item, score",
        ),
        ("persona,item,score\na,1,7\n", {}, "row 2: score is '7', no score between 0 and 1"),
        (
            "persona,item,score\na,1,1\n",
            {},
            "no persona 'none', which others are compared with: .* 'a'",
        ),
        (
            "persona,item,score\na,1,1\n",
            {"columns": {"who": "persona"}},
            "scores have no column 'who'",
        ),
        ("persona,item,score\na,1,\n", {}, "no graded answers"),
        ("persona,item,score\na,,1\n", {}, "row 2: no item: fill it in"),
        ("persona,task,item,score\na,,q,1\n", {}, "row 2: no task: fill it in"),
        # Row numbers count empty rows, as in a spreadsheet; R writes NA for missing values.
        ("persona,item,score\n\na,q,NA\n", {}, "row 3: .* leave out what was not answered"),
    ],
)
def test_invalid_table_is_a_one_line_error(tmp_path, text, how, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        scores.from_csv(tmp_path / "a.csv", **how)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("a.eval", b"PK", scores.from_inspect),
        ("a.json", b"[1]", scores.from_inspect),
        ("a.json", b'{"eval": 3, "samples": [{}]}', scores.from_inspect),
        ("samples_a.jsonl", b'{"doc": 3}\n', scores.from_lm_eval),
        ("samples_a.jsonl", b'{"doc": {}, "metrics": 3, "filter": "none"}\n', scores.from_lm_eval),
        ("a.txt", b"", scores.from_lm_eval),
    ],
)
def test_damaged_log_is_a_one_line_error(tmp_path, name, content, read):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
