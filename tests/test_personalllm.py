"""PersonalLLM and OpinionQA: the Hub's schema, from a folder and a fake Hub, and the demo
bundle.
"""

import http.server
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

from personagap import datasets, personalllm
from personagap.datasets.personalllm import REWARD_MODELS
from personagap.demo import personalllm as demo
from personagap.errors import UserError

#: Like the Hub's, not sorted by name (P2).
HUB_ORDER = [*REWARD_MODELS][::-1]


def wide(n=3):
    rng = np.random.default_rng(0)
    columns = {"prompt": [f"Why {row}?" for row in range(n)], "subset": "x", "prompt_id": 7}
    for i in range(1, 9):
        columns |= {
            f"response_{i}": [f"text {row}/{i}" for row in range(n)],
            f"response_{i}_model": f"org/m{i}",
        }
        columns |= {f"response_{i}_{name}": rng.normal(size=n) for name in HUB_ORDER}
    return pd.DataFrame(columns)


def people(n=2, interactions=5, **extra):
    row = {"person_id": 1, "person_weight": [0.1] * 10}
    for j in range(1, interactions + 1):
        row |= {
            f"prompt_{j}": "p",
            f"response_{j}_a": "x",
            f"response_{j}_b": "y",
            f"chosen_{j}": "a",
        }
    return pd.DataFrame([row | extra] * n)


def folder(tmp_path, **tables):
    for name, table in tables.items():
        name, _, split = name.partition("__")
        path = tmp_path / name / "data" / f"{split or 'train'}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)
    return tmp_path


def test_rows_are_responses_and_reward_models_are_matched_by_name(tmp_path):
    both = {"PersonalLLM__train": wide(3), "PersonalLLM__test": wide(2)}
    table = datasets.load_personalllm(folder(tmp_path, **both))
    assert table.attrs["reward_models"] == list(REWARD_MODELS) == sorted(HUB_ORDER)  # P2
    key = table[["split", "prompt", "response"]]
    assert key.equals(key.sort_values(list(key), ignore_index=True))
    row = table[(table["split"] == "train") & (table["response"] == 4)].iloc[1]
    expected = wide().iloc[1]
    assert (row["text"], row["response_model"], row["prompt_text"]) == (
        "text 1/5",
        "org/m5",
        "Why 1?",
    )
    assert all(row[name] == expected[f"response_5_{name}"] for name in REWARD_MODELS)


def broken(table, column, value, row=1):
    table = table.astype({column: object})
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (wide().drop(columns="response_3"), "no column 'response_3'"),
        (
            wide().rename(columns={"response_5_gemma_2b": "response_5_gemma2b"}),
            "no column 'response_5_gemma_2b'",
        ),
        (
            wide().drop(columns=[f"response_{i}_beaver_7b" for i in range(1, 9)]),
            "of reward model beaver_7b: give",
        ),
        (
            broken(wide(), "response_2_gemma_7b", None),
            "row 2: a gemma_7b reward is not a finite number",
        ),
        (
            broken(wide(), "response_2_gemma_7b", "high").astype("str"),
            "row 2: a gemma_7b reward is not a finite",
        ),
        (wide()[["prompt"]], "of reward model beaver_7b"),
        (wide(0), "no rows"),
        (wide().assign(response_9="more"), "more than eight responses to a prompt"),
    ],
)
def test_invalid_table_is_a_one_line_error_with_its_place(tmp_path, table, message):
    with pytest.raises(UserError, match=message) as error:
        datasets.load_personalllm(folder(tmp_path, PersonalLLM=table))
    assert str(tmp_path / "PersonalLLM") in str(error.value) and "\n" not in str(error.value)


def test_damaged_file_and_empty_folder_are_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"no PersonalLLM/\*\*/\*\.parquet"):
        datasets.load_personalllm(tmp_path)
    (
        folder(tmp_path, PersonalLLM=wide()) / "PersonalLLM/data/train-00000-of-00001.parquet"
    ).write_text("no parquet")
    with pytest.raises(UserError, match="not whole Parquet files"):
        datasets.load_personalllm(tmp_path)


def test_prompts_with_a_failed_response_are_dropped_and_counted(tmp_path):
    table = broken(wide(), "response_8", "!!!ERROR: FILTER THIS ROW OUT LATER!!!")  # P16
    loaded = datasets.load_personalllm(folder(tmp_path, PersonalLLM=table))
    assert loaded["prompt"].nunique() == 2 and loaded.attrs["sources"][0]["failed"] == 1


def test_duplicate_rows_are_dropped_and_counted(tmp_path):
    """Otherwise a file concatenated with itself would shrink every interval."""
    once = datasets.load_personalllm(folder(tmp_path, PersonalLLM=wide()))
    twice = datasets.load_personalllm(
        folder(tmp_path / "twice", PersonalLLM=pd.concat([wide(), wide()]))
    )
    pd.testing.assert_frame_equal(twice, once)
    assert twice.attrs["sources"][0]["repeated"] == len(wide())
    assert once.attrs["sources"][0]["repeated"] == 0


EVALUATION = {
    "user_history_length": 3.0,
    "test_prompt": "t",
    "best_response": "b",
    "best_response_model": "m",
}
EVALUATION |= {"best_response_reward": 0.1, "gpt4o_response": "g", "gpt4o_reward": -0.4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"person_weight": [0.2] * 10}, "row 1: the weights are negative or do not sum to one"),
        ({"person_weight": [-0.1, 1.1]}, "row 1: the weights are negative"),
        ({"chosen_2": "c"}, "row 1: chosen_2 is neither a nor b"),
        ({"response_3_b": None}, "row 1: no 'response_3_b'"),
    ],
)
def test_users_have_their_histories(tmp_path, change, message):
    data = folder(
        tmp_path,
        PersonalLLM_InteractionDatabase=people(),
        PersonalLLM_Eval__test=people(**EVALUATION),
    )
    assert len(datasets.load_interactions(data)) == 2 == len(datasets.load_evaluation(data))
    # Histories end after 3–5 interactions (P27).
    short = people(**EVALUATION, prompt_4=None, chosen_4=None)
    assert len(datasets.load_evaluation(folder(tmp_path, PersonalLLM_Eval__test=short))) == 2
    for load, name in (
        (datasets.load_interactions, "InteractionDatabase"),
        (datasets.load_evaluation, "Eval__test"),
    ):
        with pytest.raises(UserError, match=message):
            load(folder(tmp_path, **{f"PersonalLLM_{name}": people(**EVALUATION | change)}))


def test_data_are_loaded_from_the_hub(tmp_path):
    """The documented files over HTTP on loopback, read in another process by the Hub's own
    client.
    """
    repo, sha = "namkoong-lab/PersonalLLM", "0382e87" + "0" * 33
    root = folder(tmp_path, PersonalLLM__train=wide(3), PersonalLLM__test=wide(2)) / "PersonalLLM"
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")}

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.partition("?")[0].partition(f"/resolve/{sha}/")[2]
            tree = [
                {"type": "file", "path": file, "size": len(files[file]), "oid": "0"}
                for file in files
            ]
            body = (
                files.get(name)
                or json.dumps(tree if "/tree/" in self.path else {"id": repo, "sha": sha}).encode()
            )
            self.send_response(200 if f"datasets/{repo}/" in self.path else 404)
            for header in (
                ("ETag", f'"{len(body)}"'),
                ("X-Repo-Commit", sha),
                ("Content-Length", str(len(body))),
            ):
                self.send_header(*header)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET
        log_message = lambda *_: None  # noqa: E731

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
    environment |= {"PERSONAGAP_CACHE": str(tmp_path / "cache")}
    ask = (
        "from personagap import datasets as d; print(len(d.load_personalllm('hub'))); "
        "d.load_interactions('hub')"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, timeout=120
    )
    server.shutdown()
    assert done.stdout.splitlines() == ["40"], done.stderr
    last = done.stderr.splitlines()[-1]
    assert "UserError: cannot download namkoong-lab/PersonalLLM_InteractionDatabase" in last


def test_demo_rewards_can_be_recomputed_from_the_texts():
    table = datasets.load_personalllm()
    assert table["prompt"].nunique() == 300 and table.attrs["reward_models"] == sorted(demo.REWARDS)
    for name in demo.REWARDS:
        np.testing.assert_allclose(table[name], [demo.reward(text, name) for text in table["text"]])
    assert sum(path.stat().st_size for path in demo.FOLDER.rglob("*.*") if path.is_file()) < 600_000
    users = datasets.load_interactions()
    assert np.allclose(np.stack(users["person_weight"]).sum(axis=1), 1)
    assert {
        "chosen_5",
        "prompt_1",
    } <= set(users)


SURVEY = "qkey,attribute,group,model_name,ordinal,D_H,D_M\n"
ROW = "Q1,Overall,Overall,m,[1. 2. 1.5],[0.5 0.5 0. ],[1. 0. 0.]\n"


@pytest.mark.parametrize(
    ("survey", "answers", "message"),
    [
        (SURVEY.replace("D_H", "human") + ROW, None, "no column 'D_H'"),
        (SURVEY, None, "no rows"),
        (
            SURVEY + ROW.replace("0.5 0.5", "0.5 0.6"),
            None,
            "row 2: the shares of D_H are negative or do not sum to one",
        ),
        (
            SURVEY + ROW.replace("[1. 0. 0.]", "[1. 0.]"),
            None,
            "row 2: D_M has not one share per option",
        ),
        (SURVEY + ROW.replace("[1. 2.", "[one 2."), None, "row 2: ordinal holds no numbers"),
        (
            SURVEY + ROW,
            "question,reward_model,answer\nW26/Q1,rm,3\n",
            "row 2: the answer is no option's ordinal",
        ),
        (SURVEY + ROW, "question,reward_model,answer\nQ1,rm,1\n", "row 2: no such question"),
        (
            SURVEY + ROW,
            "question,reward_model,answer\nW26/Q1,rm,1\nW26/Q1,rm,2\n",
            "row 3: this reward model's second answer",
        ),
        (SURVEY + ROW.replace("[0.5 0.5", "[1.5 -0.5"), None, "row 2: the shares of D_H are neg"),
        (SURVEY + ROW + ROW.replace("[1. 2.", "[2. 1."), None, "row 3: ordinal is not that of"),
        (SURVEY + ROW.replace("[1. 2. 1.5]", "[1. 1. 1.]"), None, "row 2: ordinal has one place"),
    ],
)
def test_opinionqa_files_are_read(tmp_path, survey, answers, message):
    (tmp_path / "opinionqa").mkdir()
    path = tmp_path / "opinionqa/American_Trends_Panel_W26_default_combined.csv"
    path.write_text(SURVEY + ROW)
    opinions = datasets.load_opinions(tmp_path)
    assert opinions.people["question"].tolist() == ["W26/Q1"] and opinions.answers is None
    path.write_text(survey)
    if answers:
        (tmp_path / "opinionqa/reward_model_answers.csv").write_text(answers)
    with pytest.raises(UserError, match=message):
        datasets.load_opinions(tmp_path)
    with pytest.raises(UserError, match=r"no opinionqa/\*_default"):
        datasets.load_opinions(tmp_path / "opinionqa")


def test_published_personas_are_compared_with_the_corrected_bins():
    personas = personalllm.published.persona_prompting().set_index(["measure", "bin"])["estimate"]
    # Includes the bar that the paper omits (P3).
    assert personas["distinct_winners"].sum() == pytest.approx(1)
    assert personas["top_share", "≤50%"] == pytest.approx(0.1415)
