"""Benchmark items: upstream formats, choice of files, and errors for malformed ones."""

import gzip
import json
import sys
import types

import pandas as pd
import pytest

from personagap import datasets
from personagap.errors import UserError
from personagap.tasks import TASKS

MMLU = "subject,question,A,B,C,D,answer\n"
GSM8K = '{"question": "How many?", "answer": "1 + 1 = 2\\n#### %s"}\n'
#: The tasks with demo data.
FIVE = ["mmlu", "gsm8k", "mbpp", "do_not_answer", "strongreject"]


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_csv", ".csv").replace("_jsonl", ".jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_demo_has_all_tasks_with_the_promised_columns():
    items = datasets.load()
    assert list(items.columns) == [
        "task",
        "item",
        "question",
        "choices",
        "answer",
        "tests",
        "setup",
        "group",
    ]
    assert items.groupby("task").size().ge(60).to_dict() == dict.fromkeys(sorted(FIVE), True)
    assert not items.duplicated(["task", "item"]).any()
    by_task = {task: rows.iloc[0] for task, rows in items.groupby("task")}
    assert by_task["mmlu"].answer in "ABCD" and len(by_task["mmlu"].choices) == 4
    assert float(by_task["gsm8k"].answer) and by_task["gsm8k"].choices is None
    assert by_task["mbpp"].tests[0].startswith("assert ") and by_task["mbpp"].setup == ""
    assert by_task["strongreject"].answer is None and by_task["strongreject"].tests is None
    assert [source["task"] for source in items.attrs["sources"]] == FIVE
    assert {"source", "licence", "file", "rows"} <= set(items.attrs["sources"][0])


def test_upstream_mmlu_layouts_agree(tmp_path):
    flat = write(tmp_path / "flat", mmlu_csv=MMLU + 'law,"Is it, so?",None,NA,3,4,B\n')
    dev = write(tmp_path / "dev", mmlu__dev__law_dev_csv='"Is it, so?",None,NA,3,4,B\n')
    test = "question,choice0,choice1,choice2,choice3,answer\n" + '"Is it, so?",None,NA,3,4,1\n'
    test = write(tmp_path / "test", mmlu__test__law_test_csv=test)
    expected = datasets.load("mmlu", flat)
    assert expected.loc[0, ["item", "group", "answer"]].tolist() == ["law/0", "law", "B"]
    assert expected.loc[0, "choices"] == ["None", "NA", "3", "4"]  # text, not missing values
    for folder in [dev, test]:
        pd.testing.assert_frame_equal(datasets.load("mmlu", folder), expected)
    write(dev, mmlu__dev__art_dev_csv="What?,1,2,3,4,A\nWhy?,1,2,3,4,B\n")
    assert datasets.load("mmlu", dev)["item"].tolist() == ["art/0", "art/1", "law/0"]
    (dev / "mmlu/dev/art_dev.csv").unlink()
    write(dev, mmlu__test__law_test_csv="Other?,1,2,3,4,A\n")
    pd.testing.assert_frame_equal(datasets.load("mmlu", dev), expected)  # dev is preferred


def test_t4_gsm8k_labels_lose_commas_and_keep_signs(tmp_path):
    answers = zip(["2,125", "-5", " 0.5"], ["one", "two", "three"], strict=True)
    write(
        tmp_path,
        gsm8k_test_jsonl="".join(
            (GSM8K % answer).replace("many", name) for answer, name in answers
        ),
    )
    assert datasets.load("gsm8k", tmp_path)["answer"].tolist() == ["2125", "-5", "0.5"]


def test_absent_tasks_are_skipped_with_a_warning_unless_requested(tmp_path, capsys):
    write(
        tmp_path,
        gsm8k_jsonl=GSM8K % 1,
        strongreject_dataset_csv="category,source,forbidden_prompt\nx,y,z\n",
    )
    items = datasets.load("all", tmp_path)
    left_out = [line.partition(":")[0] for line in items.attrs["left_out"]]
    assert left_out == [task for task in TASKS if task not in ("gsm8k", "strongreject")]
    assert "mbpp: no mbpp*.jsonl" in capsys.readouterr().out
    assert items[["task", "item", "group"]].to_numpy().tolist() == [
        ["gsm8k", "0", ""],
        ["strongreject", "0", "x"],
    ]
    with pytest.raises(UserError, match="mbpp"):
        datasets.load(["gsm8k", "mbpp"], tmp_path)


def test_without_a_sandbox_program_tasks_are_skipped_with_a_warning_unless_requested(
    no_sandbox, monkeypatch, tmp_path, capsys
):
    items = datasets.load(items_per_task=2)
    assert {*items["task"]} == {*FIVE} - {"mbpp"}
    line, *others = items.attrs["left_out"]
    assert len(others) == len(TASKS) - len(FIVE)
    assert capsys.readouterr().out.startswith(f"{line}, task skipped\n")
    assert line.startswith(
        "mbpp: no sandbox for programs that a model wrote (bubblewrap of the system"
    )
    for tasks in ["mbpp", ["mmlu", "mbpp"]]:
        with pytest.raises(
            UserError, match=r"mbpp: no sandbox .*: leave mbpp out, or set PERSONAGAP_UNSAFE_EXEC=1"
        ):
            datasets.load(tasks)
    mbpp = {"task_id": 1, "text": "x", "test_list": ["assert f(1) == 1"]}
    with pytest.raises(UserError, match=r"no benchmark data to use in .*mbpp: no sandbox"):
        datasets.load("all", write(tmp_path / "data", mbpp_jsonl=json.dumps(mbpp)))
    assert len(datasets.load("mbpp", graded=False)) >= 60
    monkeypatch.setenv("PERSONAGAP_UNSAFE_EXEC", "1")
    assert {*datasets.load(items_per_task=2)["task"]} == {*FIVE}


def test_sample_is_seeded_nested_and_in_order():
    draw = lambda n, seed=0: datasets.load("mmlu", items_per_task=n, seed=seed)["item"].tolist()  # noqa: E731
    everything = draw(None)
    assert draw(10) == draw(10) and draw(10) != draw(10, seed=1)
    assert set(draw(10)) < set(draw(20))
    assert draw(10) == [item for item in everything if item in draw(10)]
    assert draw(10_000) == everything


DNA = "id,types_of_harm,question\n"
BAD = {
    "missing column": (
        "mmlu",
        {"mmlu_csv": "subject,question,A,B,C,answer\nx,y,1,2,3,A\n"},
        "no column 'D'",
    ),
    "answer letter": (
        "mmlu",
        {"mmlu_csv": MMLU + "x,y,1,2,3,4,A\nx,y,1,2,3,4,E\n"},
        "row 3: the answer",
    ),
    "ragged": ("mmlu", {"mmlu_csv": MMLU + "x,y,1,2,3,4,A,B,C\n"}, "row 2: 9 fields instead of 7"),
    "subject fields": ("mmlu", {"mmlu__dev__law_dev_csv": "a,b,c\n"}, "row 1: 3 fields"),
    "empty": ("gsm8k", {"gsm8k_jsonl": " \n"}, "empty"),
    "no rows": ("mmlu", {"mmlu_csv": MMLU}, "no rows"),
    "encoding": (
        "do_not_answer",
        {"do_not_answer_csv": DNA.encode() + b"1,x,caf\xe9\n"},
        "not UTF-8",
    ),
    "packed": ("do_not_answer", {"do_not_answer_csv": gzip.compress(DNA.encode())}, "unpack it"),
    "spreadsheet": ("mmlu", {"mmlu_csv": b"PK\3\4\xff"}, "save the sheet as CSV"),
    "pointer": (
        "mmlu",
        {"mmlu_csv": "version https://git-lfs.github.com/spec/v1\nsize 12\n"},
        "git lfs pull",
    ),
    "web page": ("gsm8k", {"gsm8k_jsonl": "\n<!DOCTYPE html><p>404"}, "a web page, not text"),
    "UTF-16 without its mark": (
        "do_not_answer",
        {"do_not_answer_csv": (DNA + "1,x,How?\n").encode("utf-16-le")},
        "line 1: a NUL character",
    ),
    "NUL": ("do_not_answer", {"do_not_answer_csv": DNA + "1,x,a\0\n"}, "line 2: a NUL character"),
    "two headers": (
        "do_not_answer",
        {"do_not_answer_csv": (DNA + "1,x,How?\n") * 2},
        "row 3: repeats the header",
    ),
    "comment above the header": (
        "do_not_answer",
        {"do_not_answer_csv": "sep=,\n" + DNA + "1,x,How?\n"},
        r"row 2: 3 fields instead of 2: correct the first row \(1\), with which none agrees",
    ),
    "column in capitals": (
        "do_not_answer",
        {"do_not_answer_csv": DNA.replace("types_of_harm", " Types of Harm") + "1,x,How?\n"},
        "no column 'types_of_harm', but ' Types of Harm'",
    ),
    "duplicate": (
        "do_not_answer",
        {"do_not_answer_csv": DNA + "1,x,a\n1,x,b\n"},
        "row 3: an id used before",
    ),
    "no question": (
        "do_not_answer",
        {"do_not_answer_csv": DNA + "1,x, \n"},
        "row 2: an empty question",
    ),
    "JSON": ("gsm8k", {"gsm8k_jsonl": GSM8K % 1 + '{"question": \n'}, "row 2: not JSON"),
    "no object": ("gsm8k", {"gsm8k_jsonl": "[1]\n"}, "row 1: not a JSON object"),
    "no field": (
        "gsm8k",
        {"gsm8k_jsonl": GSM8K % 1 + '{"answer": "#### 1"}'},
        "row 2: no 'question'",
    ),
    "open quote at the end": (
        "do_not_answer",
        {"do_not_answer_csv": 'id,types_of_harm,question\n1,x,"How\n2,x,Why?\n'},
        "close every quote",
    ),
    "open quote": ("mmlu", {"mmlu_csv": MMLU + 'x,"' + "y" * 200_000}, "close every quote"),
    "semicolons": ("mmlu", {"mmlu_csv": MMLU.replace(",", ";") + "1,5;2\n"}, "separated by ';'"),
    "tabs": ("mmlu", {"mmlu_csv": MMLU.replace(",", "\t")}, "save it with commas"),
    "no number": ("gsm8k", {"gsm8k_jsonl": GSM8K % "two"}, "row 1: the answer does not end"),
    "tests": (
        "mbpp",
        {"mbpp_jsonl": '{"task_id": 1, "text": "x", "test_list": ["f(1)"]}'},
        "row 1: test_list",
    ),
    "column twice": (
        "mmlu",
        {"mmlu_csv": MMLU.replace("answer", "D,answer") + "x,y,1,2,3,4,5,A\n"},
        "two columns 'D'",
    ),
    "two names": (
        "mmlu",
        {"mmlu_csv": MMLU.replace("answer", "choice0,answer") + "x,y,1,2,3,4,5,A\n"},
        "two columns 'A'",
    ),
    "no choice": (
        "mmlu",
        {"mmlu_csv": MMLU + "x,y,1,2,3,4,A\nx,z,1, ,3,4,A\n"},
        "row 3: an empty choice",
    ),
    "deep": (
        "gsm8k",
        {"gsm8k_jsonl": GSM8K % 1 + "[" * 200_000 + "\n"},
        "row 2: nested too deeply",
    ),
    "folder": ("mmlu", {"mmlu_csv__x": "a"}, "cannot be read"),
    "two files": (
        "gsm8k",
        {"gsm8k_a_jsonl": GSM8K % 1, "gsm8k_b_jsonl": GSM8K % 1},
        "several files for gsm8k",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_input_names_file_row_and_fix(case, tmp_path):
    task, files, message = BAD[case]
    write(tmp_path, **files)
    with pytest.raises(UserError, match=message) as raised:
        datasets.load(task, tmp_path)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chess",), "unknown task 'chess'"),
        ((["mmlu", 3],), "unknown task 3"),
        (([],), r"tasks are \[\]: give 'all' or a list"),
        ((5,), "tasks are 5"),
        (("mmlu", "no/such/folder"), "no folder"),
        (("mmlu", "demo", 0), "items_per_task is 0"),
        (("mmlu", "demo", "abc"), "items_per_task is 'abc'"),
        (("mmlu", "demo", 2, -1), "seed is -1"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        datasets.load(*arguments)


def test_broken_symlink_is_a_one_line_error(tmp_path):
    (tmp_path / "mmlu.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"mmlu.csv: no such file: correct the path"):
        datasets.load("mmlu", tmp_path)


def test_repeated_question_is_an_error(tmp_path, capsys):
    rows = "law,Which?,1,2,3,4,A\nlaw,Which?,1,2,3,5,A\nlaw,Why?,1,2,3,4,B\n"
    rows += "law,Which?,1,2,3,4,A\nlaw,How?,1,2,3,4,C\n"
    write(tmp_path, mmlu_csv=MMLU + rows, gsm8k_jsonl=(GSM8K % 1) * 2)
    items = datasets.load("all", tmp_path)
    assert len(items) == 5 + 2
    assert [source["repeated"] for source in items.attrs["sources"]] == [1, 1]
    assert "mmlu.csv: 1 repeated questions (first: row 5)" in capsys.readouterr().out


def test_no_data_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no benchmark data"):
        datasets.load("all", tmp_path)


def test_items_are_loaded_from_the_hub(monkeypatch):
    """From a fake with the columns of the Hub copies; no network."""
    rows = {
        "cais/mmlu": [
            {"question": "q", "subject": "law", "choices": ["1", "2", "3", "4"], "answer": 2}
        ],
        "openai/gsm8k": [{"question": "q", "answer": "#### 7"}],
        "google-research-datasets/mbpp": [
            {"task_id": 9, "text": "q", "test_list": ["assert f(1) == 1"], "test_setup_code": ""}
        ],
        "LibrAI/do-not-answer": [{"id": 4, "types_of_harm": "x", "question": "q"}],
        "walledai/StrongREJECT": [{"prompt": "q", "category": "x"}],
    }

    def load_dataset(name, configuration, split):
        return types.SimpleNamespace(to_pandas=lambda: pd.DataFrame(rows[name]))

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    items = datasets.load(FIVE, "hub")
    assert items["item"].tolist() == ["law/0", "0", "9", "4", "0"]
    assert items["answer"].tolist() == ["C", "7", None, None, None]
    del rows["cais/mmlu"]
    with pytest.raises(UserError, match="cannot load cais/mmlu"):
        datasets.load("mmlu", "hub")


def test_real_files_are_loaded(real_data):
    sizes = datasets.load("all", real_data).groupby("task").size().to_dict()
    assert sizes == {"mmlu": 285, "gsm8k": 300, "mbpp": 120, "do_not_answer": 300}, json.dumps(
        sizes
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("test_list", ["assert f("], "not one assert statement"),
        ("test_list", ["assert f(1) == 10**10**8"], "takes more than 1 s"),
        ("test_list", ["assert f(1)\nx = 2"], "not one assert statement"),
        ("test_setup_code", "import no_such_module", "which is not installed"),
        ("test_setup_code", "x = (", "setup code does not compile"),
    ],
)
def test_invalid_tests_are_refused_with_their_row(field, value, message, tmp_path):
    good = {"task_id": 1, "text": "x", "test_list": ["assert f(1) == 1; assert f(2) == 4"]}
    lines = [json.dumps(good), json.dumps({**good, "task_id": 2, field: value})]
    (tmp_path / "mbpp.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"mbpp\.jsonl, row 2: .*{message}"):
        datasets.load("mbpp", tmp_path, graded=False)
    (tmp_path / "mbpp.jsonl").write_text(lines[0])
    (item,) = datasets.load("mbpp", tmp_path, graded=False).itertuples()
    assert item.tests == ["assert f(1) == 1", "assert f(2) == 4"]
