"""Make the logs beside this file: two other tools put items of the demo to the demo model.

    python tests/logs/make_logs.py lm_eval lm-eval
    python tests/logs/make_logs.py inspect python

the second word being the command of the first tool, or the Python that has the second:
lm-evaluation-harness 0.4.13 and inspect_ai 0.3.285 were used. The project needs neither. What the
results files of the first tell of the machine is taken out, and the events from the one log as
JSON; all else is as the tools wrote it.
"""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
#: Items on which identities make the demo model choose other letters, and such identities.
ITEMS, PERSONAS = 12, ["none", "assistant", "woman", "minor", "bisexual", "gay"]
#: What is kept of a results file.
KEPT = [
    "results",
    "n-samples",
    "date",
    "lm_eval_version",
    "model_source",
    "model_name",
    "system_instruction",
]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: items.jsonl}}
test_split: train
doc_to_text: prompt
"""
CHOICE = """
output_type: multiple_choice
gen_prefix: "Therefore, the answer is ("
target_delimiter: ""
doc_to_choice: [A, B, C, D]
doc_to_target: answer
metric_list: [{metric: acc}]
"""
WRITTEN = """
output_type: generate_until
generation_kwargs: {until: [], max_gen_toks: 40, do_sample: false}
doc_to_target: answer
metric_list: [{metric: exact_match}]
filter_list:
  - name: strict
    filter:
      - {function: regex, regex_pattern: "the answer is \\\\(([A-D])\\\\)"}
      - {function: take_first}
  - name: loose
    filter: [{function: regex, regex_pattern: "([A-D])\\\\W*$"}, {function: take_first}]
"""
INSPECT = """
import json
import sys

from inspect_ai import Task, eval
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.log import read_eval_log, write_eval_log
from inspect_ai.scorer import pattern
from inspect_ai.solver import generate, system_message

def letters(persona, system):
    fields = FieldSpec(input="prompt", target="answer", id="item", metadata=["subject"])
    items = json_dataset("items.jsonl", fields)
    asks = [system_message(system)] if system else []
    scorer = pattern(r"the answer is \\(([A-D])\\)")
    how = {"metadata": {"persona": persona}, "name": "letters"}
    return Task(items, solver=[*asks, generate()], scorer=scorer, **how)

folder, system = sys.argv[1], json.loads(sys.argv[2])
how = {"log_dir": folder, "log_format": "eval", "display": "plain", "max_tasks": 1}
how["temperature"] = 0.0
logs = eval([letters(*each) for each in system.items()], "openai-api/demo/demo-model", **how)
whole = read_eval_log(logs[1].location)
for sample in whole.samples:  # most of its size
    sample.events, sample.attachments = [], {}
write_eval_log(whole, folder + ".json")
"""


def items() -> pd.DataFrame:
    """Those on which the demo model is least sure, as ``load`` reads them."""
    from personagap import datasets
    from personagap.demo.planted import planted_parts

    base = (
        planted_parts().query("task == 'mmlu' and part == 'item'").nsmallest(ITEMS, "value")["name"]
    )
    table = datasets.load("mmlu")
    return table[table["item"].isin(base)].reset_index(drop=True)


def prepare() -> dict[str, str]:
    """Put the items and the model into the current folder; the system prompt of each persona."""
    from personagap import personas, tasks
    from personagap.paths import DEMO

    rows = (
        {"item": row.item, "subject": row.group, "prompt": tasks.prompt(row), "answer": row.answer}
        for row in items().itertuples()
    )
    Path("items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(DEMO / "model", "demo-model")
    return {name: personas.system_prompt(name) for name in PERSONAS}


def run(command: str, *arguments: str, **environment: str) -> None:
    subprocess.run([*shlex.split(command), *arguments], env=os.environ | environment, check=True)


def ask_lm_eval(command: str) -> None:
    system = prepare()
    for name, kind in (("letters", CHOICE), ("written", WRITTEN)):
        Path(f"{name}.yaml").write_text(TASK.format(name=name) + kind)
    for name, text in system.items():
        given = ["--system_instruction", text] if text else []
        run(command, "run", "--model", "hf", "--model_args", "pretrained=demo-model,dtype=float32",
        "--device", "cpu",
            "--tasks", "letters,written", "--include_path", ".", "--apply_chat_template",
            "--log_samples",
            "--output_path", name, *given)  # fmt: skip
    for file in Path().glob("*/demo-model/*.json*"):
        text = file.read_text()
        if file.name.startswith("results"):
            told = json.loads(text)
            text = (
                json.dumps({name: told[name] for name in KEPT}, indent=1, ensure_ascii=False) + "\n"
            )
        place = HERE / "lm_eval" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def ask_inspect(command: str) -> None:
    sys.path.insert(0, str(HERE.parent))
    from servers import transformers_serve

    system = prepare()
    with transformers_serve(Path("demo-model"), Path()) as url:
        run(
            command,
            "-c",
            INSPECT,
            str(HERE / "inspect"),
            json.dumps(system),
            DEMO_API_KEY="none",
            DEMO_BASE_URL=url,
        )


if __name__ == "__main__":
    tool, command = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        {"lm_eval": ask_lm_eval, "inspect": ask_inspect}[tool](command)
