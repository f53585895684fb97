"""Untrusted and damaged inputs: each is refused in one line that says what, where and how to fix
it.
"""

import json
import os
import shutil

import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from notebook_helpers import write_notebook

from personagap import datasets, errors, judges, models, personas, prompts, scores
from personagap.cli import main
from personagap.errors import UserError
from personagap.models import Sampling, loading
from personagap.paths import DEMO
from personagap.personalllm.adaptation import runlog
from personagap.runs.folder import read_facts
from personagap.runs.values import StrictYaml
from personagap.safety_utility import dpo


def refused(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result
    assert result.stderr.startswith("personagap: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def demo_copy(tmp_path):
    shutil.copytree(DEMO / "model", tmp_path / "model")
    return tmp_path / "model"


def in_config(folder, file, **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGE = {
    "weights cut short": lambda f: (f / "model.safetensors").write_bytes(
        (f / "model.safetensors").read_bytes()[:999]
    ),
    "weights of noise": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 5000),
    "tokenizer of noise": lambda f: (f / "tokenizer.json").write_text("{"),
    "tokenizer of another kind": lambda f: (f / "tokenizer.json").write_text('{"model": 3}'),
    "configuration of noise": lambda f: (f / "config.json").write_bytes(b"\0\xff"),
    "configuration of a list": lambda f: (f / "config.json").write_text("[]"),
    "endless width": lambda f: in_config(f, "config.json", hidden_size=10**30),
    "template that divides by zero": lambda f: (f / "chat_template.jinja").write_text(
        "{{ 1 / 0 }}"
    ),
    "template cut short": lambda f: (f / "chat_template.jinja").write_text("{% for"),
    "a folder for a template": lambda f: (f / "chat_template.jinja").mkdir(),
    "layers fewer than none": lambda f: in_config(f, "config.json", num_hidden_layers=-1),
    "an end that is no token": lambda f: in_config(f, "generation_config.json", eos_token_id="x"),
    "template of another kind": lambda f: (f / "chat_template.jinja").write_text(
        "{{ messages.x.y() }}"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_model_folder_is_refused(demo_copy, damage):
    DAMAGE[damage](demo_copy)
    with pytest.raises(UserError) as error:
        models.load_model(f"hf:{demo_copy}", device="cpu").generate(
            [[{"role": "user", "content": "Hi"}]], Sampling(temperature=0, max_tokens=2), [0]
        )
    assert "\n" not in str(error.value) and "model" in str(error.value)


def test_pickled_weights_are_not_loaded(demo_copy):
    (demo_copy / "model.safetensors").rename(demo_copy / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no \*\.safetensors weights"):
        models.load_model(f"hf:{demo_copy}")
    with pytest.raises(UserError, match="cannot load the judge"):
        judges.load_judge(f"hf:{demo_copy}")


def test_weights_with_nan_are_refused(demo_copy):
    """They would give every request the first of the possible answers."""
    from safetensors.torch import load_file, save_file

    weights = load_file(demo_copy / "model.safetensors")
    next(iter(weights.values()))[0] = float("nan")
    save_file(weights, demo_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError,
        match=r"cannot be loaded .*its weights are not all numbers, such as those of model",
    ):
        models.load_model(f"hf:{demo_copy}")
    labels = {str(number): f"LABEL_{number}" for number in range(6)}
    in_config(
        demo_copy, "config.json", id2label=labels, architectures=["LlamaForSequenceClassification"]
    )
    weights["score.weight"] = weights["model.norm.weight"].repeat(6, 1)
    save_file(weights, demo_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"cannot load the judge .*not all numbers"):
        judges.load_judge(f"hf:{demo_copy}")


def test_nan_in_buffers_of_a_checkpoint_is_refused_too():
    model = torch.nn.BatchNorm1d(2)
    # A non-persistent buffer is computed, not loaded.
    model.register_buffer("mask", torch.full((2,), -torch.inf), persistent=False)
    loading.check_weights(model)
    model.running_mean[0] = torch.nan
    with pytest.raises(ValueError, match="not all numbers, such as those of running_mean"):
        loading.check_weights(model)


OUR_FAULTS = {
    "a name that nothing has": "nothing",
    "an attribute that no module of ours has": "errors.nothing",
    "an attribute that no object of ours has": "Sampling().nothing",
    "a failed assert": "exec('assert False', globals())",
}


@pytest.mark.parametrize("fault", OUR_FAULTS)
def test_internal_error_is_not_reported_as_a_user_error(fault):
    module = {"__name__": "personagap.imagined", "errors": errors, "Sampling": Sampling}
    with (
        pytest.raises((NameError, AttributeError, AssertionError)),
        errors.explained("file x", "mend it"),
    ):
        eval(OUR_FAULTS[fault], module)
    message = r"file x \('int' object has no attribute 'get'\): mend it"
    with pytest.raises(UserError, match=message), errors.explained("file x", "mend it"):
        eval("(3).get()", module)  # as for a file with a number instead of an object


def test_judge_without_classification_head_is_refused(demo_copy):
    labels = {str(number): f"LABEL_{number}" for number in range(6)}
    in_config(
        demo_copy, "config.json", id2label=labels, architectures=["LlamaForSequenceClassification"]
    )
    with pytest.raises(
        UserError, match=r"cannot load the judge .*lacks 1 of its weights, such as score"
    ):
        judges.load_judge(f"hf:{demo_copy}")


@pytest.mark.parametrize(
    "model", [None, 3, ["demo"], "openai:m@http://[::1", "openai:m@http://host:99999999/v1"]
)
def test_unknown_model_is_refused(model):
    with pytest.raises(UserError) as error:
        models.load_model(model)
    assert "\n" not in str(error.value)


def test_prompt_with_an_unknown_field_is_refused():
    with pytest.raises(
        UserError,
        match=r"prompt 'Rate \{anwser\}.*data/prompts has the field \{anwser\}.*\{question\}",
    ):
        prompts.fill("Rate {anwser} to {question}", answer="a", question="q")


def test_identity_with_a_category_outside_the_order_is_refused(monkeypatch):
    nurse = {"persona": "nurse", "category": "job", "phrase": "a nurse", "hint": ""}
    table = personas._identities().copy()
    table.loc[len(table)] = nurse
    monkeypatch.setattr(personas, "_identities", lambda: table)
    assert personas.select(["nurse+woman"], controls=False)["phrase"].tolist() == [
        "a woman who is a nurse"
    ]


def annotations(folder):
    """The demo's annotation files for the first five items of each stage, all valid."""
    few = {}
    for file in sorted((DEMO / "recentering").rglob("*.jsonl")):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        few[folder / file.name] = [
            each for each in records if each.get("item_index", each.get("index")) < 5
        ]
        write_lines(folder / file.name, few[folder / file.name])
    assert all(
        len(datasets.load_judgments(stage, folder)[1]) > 50 for stage in ("extraction", "response")
    )
    return few


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize("wrong", [3, "text", [3], {"a": 1}])
def test_annotation_with_a_value_of_another_type_is_read_or_refused(tmp_path, wrong):
    """Each field of each file in turn."""
    for path, records in annotations(tmp_path).items():
        for name in records[0]:
            write_lines(path, [record | {name: wrong} for record in records])
            for stage in ("extraction", "relevance", "response"):
                try:
                    datasets.load_judgments(stage, tmp_path)
                except UserError as error:
                    assert "\n" not in str(error) and str(tmp_path) in str(error)
        write_lines(path, records)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("annotations_task4.jsonl", {"index": [3]}, "index is not a text or a number"),
        ("annotations_task6.jsonl", {"ratings": [5]}, "ratings is not an object"),
        ("task4_items.jsonl", {"source": 3}, "source is not a text"),
        ("task4_items.jsonl", {"conversations": "Hi"}, "conversations is not a list"),
        ("task6_items.jsonl", {"user_id": {"name": "ann"}}, "user_id is not a text or a number"),
        (
            "task6_items.jsonl",
            {"attributes": [{"attribute": ["tea"], "is_relevant": True}]},
            r"attributes\[0\]: not an object with .*, the attribute a text",
        ),
    ],
)
def test_annotation_of_the_wrong_type_names_file_row_and_field(tmp_path, file, values, message):
    annotations(tmp_path)
    records = [json.loads(line) for line in (tmp_path / file).read_text().splitlines()]
    write_lines(tmp_path / file, [*records[:1], records[1] | values, *records[2:]])
    with pytest.raises(UserError, match=rf"{file}, row 2: {message}"):
        for stage in ("extraction", "response"):
            datasets.load_judgments(stage, tmp_path)


@pytest.mark.parametrize(
    "line", ['{"a": ' + "9" * 5000 + "}", '{"a": "\\ud800"}', "[" * 10**5, '{"a": NaN', "3"]
)
def test_line_too_long_for_any_reader_is_refused(tmp_path, line):
    (tmp_path / "gsm8k.jsonl").write_text(line + "\n")
    with pytest.raises(
        UserError, match=r"gsm8k\.jsonl, row 1: .*: one JSON object a line"
    ) as error:
        datasets.load("gsm8k", data=tmp_path)
    assert len(str(error.value)) < 300


ODD_CELLS = {
    "no cells": [3],
    "no source": [{"cell_type": "code", "metadata": {}}],
    "source of numbers": [{"cell_type": "code", "metadata": {}, "source": [1]}],
    "no metadata": [{"cell_type": "code", "source": ""}],
    "metadata of a list": [{"cell_type": "code", "source": "", "metadata": []}],
    "tags of a number": [{"cell_type": "code", "source": "", "metadata": {"tags": 3}}],
    "cells of a text": "text",
}


@pytest.mark.parametrize("cells", ODD_CELLS)
def test_notebook_with_malformed_cells_is_refused(tmp_path, cells):
    notebook = tmp_path / "1.ipynb"
    notebook.write_text(
        json.dumps({"cells": ODD_CELLS[cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    assert "is not a notebook" in refused("run", notebook, "--figures", tmp_path)


#: Each anchor repeats the previous one nine times.
BOMB = (
    "a0: &a0 [x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    + "runs: *a8\n"
)


@pytest.mark.parametrize(
    "text",
    ["runs: &a [*a]", "runs:\n- &a {notebook: p/1.ipynb, parameters: {n: *a}}", "[" * 5000, BOMB],
)
def test_recursive_yaml_is_refused(tmp_path, text):
    write_notebook(tmp_path / "p" / "1.ipynb")
    (tmp_path / "batch.yaml").write_text(text)
    assert "not a YAML file" in refused("batch", tmp_path / "batch.yaml")
    assert yaml.safe_load("a: &x 1\nb: *x") == {"a": 1, "b": 1}  # a plain anchor is allowed
    assert "cannot read the value" in refused(
        "run", tmp_path / "p" / "1.ipynb", "-p", "n", "[&a [*a]]"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs:\n- notebook: p/1\n  parameters: {n: 1, n: 2}", "line 3: n stands twice"),
        ("runs:\n- notebook: p/1\nruns: []", "line 3: runs stands twice"),
        ("runs:\n  - notebook: a\n - b: c", "line 3: expected <block end>"),
        ("runs: *x", "line 1: found undefined alias 'x'"),
        ("runs:\n- notebook: 010", "line 2: 010 is no decimal number"),
        ("runs:\n- {notebook: p/1, parameters: {n: 1:30}}", "line 2: 1:30 is no decimal number"),
        ("runs: []\0", "line 1: a NUL character"),
        (
            f"runs:\n- {{notebook: p/1, grid: {{n: {[*range(200)]}, m: {[*range(200)]}}}}}",
            "run 1: over 10,000 runs: shorten the lists",
        ),
    ],
)
def test_yaml_error_names_its_line(tmp_path, text, message):
    (tmp_path / "batch.yaml").write_text(text)
    assert f"batch.yaml, {message}" in refused("batch", tmp_path / "batch.yaml")


def test_yaml_merge_key_may_be_overridden():
    text = "- &a {n: 1, rate: 1e-4}\n- {<<: *a, n: 2}"
    assert yaml.load(text, StrictYaml) == [{"n": 1, "rate": 0.0001}, {"n": 2, "rate": 0.0001}]


WHOLE = {
    "id": "a-1",
    "status": "finished",
    "started": "2026-01-01T00:00:00",
    "parameters": {},
    "changed": {},
}


@pytest.mark.parametrize(
    "damage",
    [
        {"seconds": "x"},
        {"seconds": float("inf")},
        {"figures": 3},
        {"figures": {"../x": 1}},
        {"title": None},
        {"unanswered": "many"},
        {"parameters": {"a": {}}},
        {},
    ],
)
def test_one_damaged_run_record_does_not_stop_the_index(tmp_path, damage):
    for name, content in (("a", WHOLE | damage), ("b", 3), ("c", "[" * 10**5)):
        folder = tmp_path / "p" / "1" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(
            content if isinstance(content, str) else json.dumps(content)
        )
    result = CliRunner().invoke(main, ["report", "--figures", str(tmp_path)])
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "index.html").exists() and "damaged" in result.stderr


QUESTION = '{"question": "1 + 1?", "answer": "#### 2"}\n'
#: Malformed files of a data set: name, content.
FILES = {
    "an empty file": ("gsm8k.jsonl", b""),
    "a missing column": ("gsm8k.jsonl", b'{"question": "1 + 1?"}\n'),
    "another encoding": ("gsm8k.jsonl", QUESTION.encode("utf-16")),
    "a line cut short": ("gsm8k.jsonl", (QUESTION + QUESTION[:20]).encode()),
    "a table without its columns": ("do_not_answer.csv", b"a,b\n1,2\n"),
    "no table": ("do_not_answer.csv", b'"a\n' * 9),
    "a test that is no assert": (
        "mbpp.jsonl",
        b'{"task_id": 1, "text": "x", "code": "x", "test_list": ["f(1) == 1"]}\n',
    ),
    "an answer without a number": ("gsm8k.jsonl", b'{"question": "1 + 1?", "answer": "two"}\n'),
    "a choice that is none": (
        "mmlu.csv",
        b"subject,question,A,B,C,D,answer\nsums,1 + 1?,1,2,3,4,E\n",
    ),
    "a setup that is no text": (
        "mbpp.jsonl",
        b'{"task_id": 1, "text": "x", "code": "x", "test_list": ["assert f(1) == 1"], '
        b'"test_setup_code": 3}\n',
    ),
    "a question that is no text": ("gsm8k.jsonl", b'{"question": {"a": 1}, "answer": "#### 2"}\n'),
    "a rater without a name": (
        "relevance_judgments.csv",
        b"prompt_id,user,attribute_index,prompt,attribute,human_1,\np,u,1,x,y,1,0\n",
    ),
    "judgments of nobody": (
        "relevance_judgments.csv",
        b"user_id,prompt_id,attribute,label\nu,p,a,maybe\n",
    ),
}


def asks(spec):
    return lambda _: models.load_model(spec)


def reads(file, content):
    def read(folder):
        (folder / file).write_bytes(content)
        name = file.partition(".")[0]
        datasets.load_relevance(folder) if "relevance" in name else datasets.load(name, data=folder)

    return read


def commands(*arguments):
    def run(folder):
        write_notebook(folder / "p" / "1.ipynb")
        result = CliRunner().invoke(main, [str(argument).format(folder) for argument in arguments])
        assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result
        raise UserError(result.stderr.strip().removeprefix("personagap: "))

    return run


def damaged(damage):
    def load(folder):
        shutil.copytree(DEMO / "model", folder / "model")
        damage(folder / "model")
        chat = [{"role": "user", "content": "Hi"}]
        models.load_model(f"hf:{folder / 'model'}", device="cpu").generate(
            [chat], Sampling(0.0, max_tokens=2), [0]
        )

    return load


def holds(name, content, read):
    def attempt(folder):
        (folder / name).write_text(content)
        read(folder / name)

    return attempt


def lists_for_prompts(folder):
    shutil.copytree(DEMO / "personalllm" / "PersonalLLM", folder / "PersonalLLM")
    for file in folder.rglob("*.parquet"):
        table = pd.read_parquet(file)
        table.assign(prompt=[["a", "b"]] * len(table)).to_parquet(file)
    datasets.load_personalllm(folder)


PAIR = '{"system": "", "question": "Hi", "chosen": "Hello.", "rejected": %s}\n'
NOTEBOOK = ("run", "{}/p/1.ipynb", "--figures", "{}/figures")
TABLE = {
    **{f"a data set: {name}": reads(*file) for name, file in FILES.items()},
    **{f"a model: {name}": damaged(damage) for name, damage in DAMAGE.items()},
    "a model that is nowhere": asks("hf:nobody/nothing"),
    "a file for a model": asks(f"gguf:{DEMO / 'README.md'}"),
    "a server that is down": asks("openai:m@http://127.0.0.1:9/v1"),
    "an address that is none": asks("openai:m@nowhere"),
    "a password in an address": asks("openai:m@http://me:secret@host/v1"),
    "an unknown persona": lambda _: personas.select(["nobody"]),
    "an unknown task": lambda _: datasets.load("nothing"),
    "a folder that is nowhere": lambda folder: datasets.load("gsm8k", data=folder / "nowhere"),
    "a judge that is none": lambda _: judges.load_judge("nobody"),
    "a notebook that is nowhere": commands("run", "{}/nowhere.ipynb"),
    "an unknown parameter": commands(*NOTEBOOK, "-p", "m", 3),
    "sampling of less than nothing": lambda _: Sampling(top_k=-1),
    "an answer of no tokens": lambda _: Sampling(max_tokens=0),
    "a device that holds nothing": lambda _: models.load_model("demo", device="meta"),
    "a judge that is no name": lambda _: judges.load_judge(None),
    "a value of thousands of digits": commands(*NOTEBOOK, "-p", "n", "9" * 5000),
    "a value of another kind": commands(*NOTEBOOK, "-p", "n", "many"),
    "a list that is none": commands(*NOTEBOOK, "-p", "n", "[1"),
    "a kernel that is nowhere": commands(*NOTEBOOK, "--kernel", "nowhere"),
    "a batch that is nowhere": commands("batch", "{}/nowhere.yaml"),
    "a notebook for a batch": commands("batch", "{}/p/1.ipynb"),
    "figures that are nowhere": commands("report", "--figures", "{}/nowhere"),
    "a number beyond all floats": commands(*NOTEBOOK, "-p", "n", "9" * 400),
    "a path that no file has": lambda _: personas.select("all", identities="a\0b"),
    "prompts of a name too long": lambda _: prompts.use("x" * 999),
    "preferences of nothing": holds(
        "pairs.jsonl", PAIR % "null", lambda file: dpo.load_pairs(str(file))
    ),
    "preferences in lists": holds(
        "pairs.jsonl", PAIR % '["No."]', lambda file: dpo.load_pairs(str(file))
    ),
    "a log of runs of noise": holds(
        "personalllm_runs.csv", "\0", lambda file: runlog.load(file.parent)
    ),
    "an empty log of runs": holds(
        "personalllm_runs.csv", "", lambda file: runlog.load(file.parent)
    ),
    "a folder for a log of runs": lambda f: ((f / "personalllm_runs.csv").mkdir(), runlog.load(f)),
    "two columns of scores": holds("s.csv", "persona,item,score,score\nnone,1,1,0\n", scores.load),
    "lists for prompts": lists_for_prompts,
}


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_input_that_is_no_regular_file_is_refused(tmp_path, kind):
    """Reading a pipe may wait for ever, and /dev/zero never ends."""
    names = (
        "gsm8k.jsonl",
        "relevance_judgments.csv",
        "personalllm_runs.csv",
        "run.json",
        "b.yaml",
        "1.ipynb",
    )
    for name in names:
        os.mkfifo(tmp_path / name) if kind == "a pipe" else (tmp_path / name).symlink_to(
            "/dev/zero"
        )
    reads = [
        lambda: datasets.load("gsm8k", data=tmp_path),
        lambda: datasets.load_relevance(tmp_path),
    ]
    for read in [*reads, lambda: runlog.load(tmp_path), lambda: read_facts(tmp_path)]:
        with pytest.raises(UserError, match="a pipe or a device, not a file"):
            read()
    assert "a pipe or a device, not a file" in refused("batch", tmp_path / "b.yaml")
    assert "a pipe or a device, not a file" in refused(
        "run", tmp_path / "1.ipynb", "--figures", tmp_path / "f"
    )


@pytest.mark.parametrize("weights", ["x", ["a", "b"], [[1.0], [0.0]], 1.0, None])
def test_user_weights_that_are_no_list_of_numbers_are_refused(tmp_path, weights):
    shutil.copytree(DEMO / "personalllm", tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "PersonalLLM_InteractionDatabase").rglob("*.parquet"):
        table = pd.read_parquet(file)
        table.assign(person_weight=[weights] * len(table)).to_parquet(file)
    with pytest.raises(UserError, match=r"row 1: .*(do not sum to one|no 'person_weight')"):
        datasets.load_interactions(tmp_path)


@pytest.mark.parametrize("given", ["", "a\0b", "loop"])
def test_invalid_path_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    notebook = write_notebook(tmp_path / "p" / "1.ipynb")
    assert refused("run", given)
    assert refused("batch", given)
    if given:
        assert "is no path" in refused("run", notebook, "--figures", given)


def test_table_of_bad_input(tmp_path):
    """``pytest tests/test_bad_input.py -k table -s`` prints what was tried and the error line."""
    lines = {}
    for number, (tried, attempt) in enumerate(TABLE.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            attempt(folder)
            lines[tried] = "NOTHING"
        except UserError as error:
            lines[tried] = str(error).replace(str(folder), "…")
            assert len(str(error)) < 1200, tried
        except Exception as error:
            lines[tried] = f"{type(error).__name__.upper()}: {error}"
        print(f"  {tried:45} {lines[tried]}")
    assert {
        tried: line for tried, line in lines.items() if "\n" in line or line.split(":")[0].isupper()
    } == {}
