"""Prompts and the graders of both protocols. Test names give the trap (S-number) that they guard
against.
"""

import json

import pandas as pd
import pytest

from personagap import datasets, judges, sandbox, tasks
from personagap.errors import UserError
from personagap.tasks import gsm8k, mbpp, mmlu

pytestmark = pytest.mark.usefixtures("allow_unconfined")


def make_items(**columns):
    blank = {
        "question": "Why?",
        "choices": None,
        "answer": None,
        "tests": None,
        "setup": "",
        "group": "",
    }
    return pd.DataFrame([{"item": "1", **blank, **columns}])


MMLU = make_items(task="mmlu", choices=list("1234"), answer="C")
GSM8K = make_items(task="gsm8k", answer="18")
MBPP = make_items(task="mbpp", tests=["assert f(2) == 4", "assert f(0) == 0", "assert f(12) == 24"])
SAFETY = make_items(task="strongreject")


def respond(items, texts, finish_reason="stop"):
    first = {
        "model": "m",
        "persona": "none",
        "template": "paper",
        "task": items["task"][0],
        "item": "1",
    }
    answers = {"run": range(len(texts)), "text": texts, "finish_reason": finish_reason}
    return pd.DataFrame(first | answers)


def reference(items, texts):
    """One answer to each item."""
    first = {
        "model": "m",
        "persona": "none",
        "template": "paper",
        "run": 0,
        "finish_reason": "stop",
    }
    return items[["task", "item"]].assign(text=texts, **first)


def marks(items, texts, protocol="corrected", **arguments):
    """(score, valid) of each text; None for the score of an answer that could not be extracted."""
    scores = tasks.grade(respond(items, texts), items, protocol, **arguments).sort_values("run")
    return [
        score if valid else None
        for score, valid in zip(scores["score"], scores["valid"], strict=True)
    ]


# --- prompts


def test_prompts_contain_every_field_of_the_item():
    items = datasets.load("all", items_per_task=3, graded=False)
    for item in items.itertuples():
        text = tasks.prompt(item)
        assert item.question in text
        assert all(part in text for part in [*(item.choices or []), *(item.tests or [])])
        assert (text == item.question) == (item.task in tasks.SAFETY)
    braces = make_items(task="mmlu", question="Is {x} a set?", choices=["{1}", "2", "3", "4"]).iloc[
        0
    ]
    assert "(A) {1} (B) 2" in tasks.prompt(braces) and "{x}" in tasks.prompt(braces)


# --- MMLU

LETTERS = {
    "Therefore, the answer is (C).": "C",
    "The answer is:\n\n(C)": "C",
    "The correct answer is option (d).": "D",
    "The final answer is therefore **(D)**.": "D",
    "**(B)**": "B",
    "Answer: C": "C",
    "**Answer:** C) Lima": "C",
    "Answer: A\nExplanation: it is.": "A",
    "The answer is A because Lima is far.": "A",
    r"Hence $\boxed{\text{C}}$": "C",
    "I choose B.": "B",
    "Option C is correct.": "C",
    "(B) is the right answer; (A) is wrong.": "B",
    "C. Lima": "C",
    "It is Lima, so the correct choice must be Lima (C).": "C",
    "The answer is (A). Wait, no. The answer is (B).": "B",
    "The answer is either (A) or (B). I go with (B)": "B",
    # none, or several at once
    "The answer is (A) or (B).": None,
    "The answer is A and C.": None,
    "A) Tokyo\nB) Lima": None,
    "The answer is not (A).": None,
    "Therefore (A) cannot be right": None,
    "": None,
    # S6: letters in prose
    "the answer is a bit unclear": None,
    "Answer: A Democrat would say so": None,
    "The answer is C major": None,
    "So the answer is D.C. law": None,
    "As a man, A": None,
    "I think so. A is for apple": None,
}


@pytest.mark.parametrize("text", LETTERS)
def test_corrected_letter(text):
    assert mmlu.letter(text) == LETTERS[text]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Quito", "C"), ("The answer is **Bogotá**.", "B"), ("\\boxed{\\text{Quito}}", "C"),
        ("La respuesta es Quito.", "C"), ('{"answer": "quito"}', "C"),
        ("Quito, as it is high.", "C"),
        ("Answer: La Paz, Bolivia\n\nLima is in Peru.", "D"),
        ("The answer is (B), not Quito.", "B"),
        ("The highest of them is Quito.", "C"), ("It's Bogota!", "B"),
        ("Both lie inland.\nSo the coastal one is Lima.", "A"),
        ("The answer is Quito, at 2,850 m.", "C"), ("The answer is Quito, or Lima.", None),
        ("I am not sure that it is Lima.", None), ("Higher than Lima is Quito.", None),
        ("Lima is coastal.\nThe highest is Quito.", None),
        ("Quito is the correct choice, as it is high.", "C"), ("C Quito", "C"), ("C)Quito", "C"),
        ("Answer: Quito (in the Andes)", "C"), ("Answer: Quito (or Lima)", None),
        ("C)Quito\nD)La Paz, Bolivia", None),
        ("Not Quito.", None), ("The answer is not Quito.", None), ("Quito or Lima", None),
        ("Lima is in Peru.", None), ("", None),
    ],
)  # fmt: skip
def test_the_text_of_a_choice_is_as_good_as_its_letter(text, letter):
    assert mmlu.choice(text, ["Lima", "the Bogotá", "Quito", "La Paz, Bolivia"]) == letter


def test_choices_that_are_fractions_or_sentences_are_read_as_such():
    fractions = ["1/2", "2/3", "30%", "3/4"]
    texts = [r"\boxed{\frac{2}{3}}", "The answer is 30 percent.", "So the share is 3/4."]
    assert [mmlu.choice(text, fractions) for text in texts] == ["B", "C", "D"]
    sentences = ["It rises", "It falls", "Both hold", "Neither holds"]
    texts = ["Prices rise. So both hold.", "The answer is that neither holds."]
    assert [mmlu.choice(text, sentences) for text in texts] == ["C", "D"]


def test_t6_ignorecase_letter_in_prose():
    texts = [
        "the answer is based on (C)",
        "**(C)**",
        "Answer: C",
        "The answer is (C)",
        "Option (C) fits",
    ]
    assert [mmlu.paper_letter(text) for text in texts] == ["b", None, None, "C", "C"]
    assert marks(MMLU, texts, "paper") == [0, None, None, 1, 1]
    assert marks(MMLU, texts) == [1, 1, 1, 1, None]


def test_t6_paper_takes_the_first_answer_and_corrected_the_last():
    texts = ["The answer is (A). No: the answer is (C)."]
    assert (marks(MMLU, texts, "paper"), marks(MMLU, texts)) == ([0], [1])


# --- GSM8K

NUMBERS = {
    "Therefore, the answer is 18.": 18,
    "Therefore, the answer is **\\$1,250.50**.": 1250.5,
    "The answer is: $ 15": 15,
    "the answer is -$5.": -5,
    "−7": -7,
    "10-3": 3,
    "The answer is 10 - 3 = 7.": 7,
    "The answer is 3 1/2 cups.": 3.5,
    r"\boxed{\frac{3}{4}}": 0.75,
    "The answer is .5": 0.5,
    "50%": 50,
    "#### 2,125": 2125,
    "The answer is\n\n42": 42,
    "The answer is 10 apples and 3 pears": 10,
    "The answer is 20 minutes.\n\nAnswer: none": 20,
    "First 3, then 12": 12,
    "wait...5": 5,
    "9" * 5000: None,  # beyond Python's limit for integers, and beyond floats
    "1/0": None,
    "none": None,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_corrected_number(text):
    assert gsm8k.number(text) == NUMBERS[text]


def test_t4_labels_are_compared_as_numbers():
    """The released code compares a float with a string, which is never equal."""
    for protocol, right in [("corrected", 1), ("paper", 1), ("code", 0)]:
        assert marks(GSM8K, ["The answer is 18.0", "The answer is 19", "None"], protocol) == [
            right,
            0,
            None,
        ]
    thousands = make_items(task="gsm8k", answer="2125")
    assert marks(thousands, ["The answer is 2,125", "It is 2125.00"]) == [1, 1]


def test_t5_last_number_and_lost_sign():
    texts = ["The answer is 18. He rests in 2 days", "It is -18", "36/2", "The answer is 18"]
    assert marks(GSM8K, texts, "paper") == [0, 1, 0, 1]
    assert marks(GSM8K, texts) == [1, 0, 1, 1]
    negative = make_items(task="gsm8k", answer="-18")
    assert (marks(negative, ["-18"], "paper"), marks(negative, ["-18"])) == ([0], [1])


# --- MBPP

DOUBLE = "def f(n):\n    return n * 2"


def test_corrected_code():
    fenced = f"Here:\n```python\n{DOUBLE}\n```\nDone"
    wrong, usage = "```python\ndef f(n): return 0\n```", "```\nprint(f(2))\n```"
    texts = {
        fenced: 1,
        f"```py\n{DOUBLE}\n```": 1,
        f"```\r\n{DOUBLE}": 1,  # unclosed
        "```def f(n): return n * 2```": 1,
        f"{fenced}\n{usage}": 1,  # the usage does not define f
        f"{wrong}\nBetter:\n{fenced}": 1,
        f"{fenced}\n{wrong}": 0,
        DOUBLE: 1,  # no fence at all
        "I cannot write this.": None,
        "```python\ndef f(n) return\n```": 0,  # extracted, but no program
    }
    assert marks(MBPP, list(texts)) == list(texts.values())


def test_t7_fence_eats_digits_and_language_tags():
    eaten = "```python\ndef f(n): return n * 2```"
    assert mbpp.paper_code(eaten).endswith("n * ") and mbpp.code(eaten, ["f(1)"]).endswith("n * 2")
    assert mbpp.paper_code("```py\nx = 1\n```").startswith("py\n")
    assert mbpp.paper_code("```python\nx = input()\ny = 1\n```") == "# x = input()\ny = 1\n"
    assert marks(MBPP, [eaten, "no block"], "paper") == [0, None]
    assert marks(MBPP, [eaten, "no block"]) == [1, None]


def test_t7_t20_paper_scores_the_share_of_asserts_and_corrected_all_or_nothing():
    """The released code compares programs with 1, which is never equal; the paper says per
    assert.
    """
    texts = ["```python\ndef f(n): return n * 2 if n < 10 else 0\n```", f"```python\n{DOUBLE}\n```"]
    assert marks(MBPP, texts, "paper") == [pytest.approx(2 / 3), 1]
    assert marks(MBPP, texts) == [0, 1]
    assert marks(MBPP, texts, "code") == [0, 0]


def test_programs_cannot_cheat_the_grader():
    texts = ["```python\nimport os; os._exit(0)\n```", "```python\nprint('True')\n```"]
    for protocol in tasks.PROTOCOLS:
        assert marks(MBPP, texts, protocol) == [0, 0]


def test_each_trap_is_attributed_separately_on_the_same_answers():
    """S4–S8 and S20: `discrepancies` attributes to each what the tests above show of it."""
    items = pd.concat([MMLU, GSM8K, MBPP], ignore_index=True)
    texts = {
        "mmlu": ["Answer: C", "Let me see.\nThe answer is (C)."],
        "gsm8k": ["The answer is 18.", "The answer is 18. He rests in 2 days"],
        "mbpp": [
            "```python\ndef f(n): return n * 2```",
            "```python\ndef f(n): return n * 2 if n < 10 else 0\n```",
        ],
    }
    answers = pd.concat(
        [respond(items[items["task"] == task].reset_index(), texts[task]) for task in texts]
    )
    scores = (
        tasks.discrepancies(answers, items)
        .groupby(["task", "persona"])["score"]
        .mean()
        .round(3)
        .to_dict()
    )
    assert {name: score for (task, name), score in scores.items() if task == "mmlu"} == {
        "corrected": 1, "paper": 0.5, "code": 0.5, "S6 first match, in any case": 0.5,
        "S8 cut at the first line break": 0.5,
    }  # fmt: skip
    assert {name: score for (task, name), score in scores.items() if task == "gsm8k"} == {
        "corrected": 1, "paper": 0.5, "code": 0, "S4 number compared with text": 0,
        "S5 last number, without its sign": 0.5, "S8 cut at the first line break": 1,
    }  # fmt: skip
    assert {name: score for (task, name), score in scores.items() if task == "mbpp"} == {
        "corrected": 0.5, "paper": 0.333, "code": 0, "S7 fence that eats digits": 0,
        "S7 program compared with 1": 0, "S8 cut at the first line break": 0,
        "S20 share of asserts": 0.833,
    }  # fmt: skip


# --- safety, and all tasks


def test_safety_score_is_that_of_the_judge():
    judge = judges.load_judge("refusal")
    texts = ["I cannot help with that.", "Sure, here is how.", " "]
    scores = tasks.grade(respond(SAFETY, texts), SAFETY, judge=judge)
    # A missing text is not harmless but missing
    assert scores["score"].fillna(-1).tolist() == [1, 0, -1]
    assert scores["valid"].tolist() == [True, True, False]
    with pytest.raises(UserError, match="strongreject needs a judge"):
        tasks.grade(respond(SAFETY, texts), SAFETY)


def test_failed_requests_are_missing_not_wrong_and_truncation_is_reported():
    answers = pd.concat(
        [
            respond(GSM8K, ["The answer is 18"]),
            respond(GSM8K, ["So 18, as"], "length").assign(run=1),
            respond(GSM8K, [None], "error").assign(run=2),
            respond(GSM8K, [None], "length").assign(run=3),
        ]
    )
    scores = tasks.grade(answers, GSM8K)
    assert list(scores.columns) == [
        "model",
        "persona",
        "template",
        "task",
        "item",
        "run",
        "score",
        "valid",
        "truncated",
        "outcome",
    ]
    assert scores[["run", "score", "valid", "truncated"]].fillna(-1).to_numpy().tolist() == [
        [0, 1, True, False],
        [1, 1, True, True],
        [3, -1, False, True],  # no text: neither right nor wrong
    ]
    assert scores["outcome"].tolist() == ["answered", "truncated", "empty"]
    # Empty answers.
    assert list(tasks.grade(answers.iloc[2:3], GSM8K).columns) == list(scores.columns)


@pytest.mark.parametrize("cut", ["The answer is 18", "The answer is \\(\\boxed{18.", "It is 18,"])
def test_number_at_the_token_limit_is_not_read(cut):
    # The start of 185, 18.5 or 18,000.
    answers = pd.concat([respond(GSM8K, [cut]), respond(GSM8K, [cut], "length").assign(run=1)])
    assert tasks.grade(answers, GSM8K)["valid"].tolist() == [True, False]
    assert tasks.grade(answers, GSM8K, protocol="paper")["valid"].all()


def test_choice_at_the_token_limit_is_not_read():
    # A 0.5 B model was cut off while it discussed the choices.
    listed = "- **Option A (many species)**: not consistent with the findings.\n\n- **Option B"
    whole = "Therefore, the answer is (B)."
    answers = [
        respond(MMLU, [text], "length").assign(run=run) for run, text in enumerate([listed, whole])
    ]
    assert tasks.grade(pd.concat(answers), MMLU)["valid"].tolist() == [False, True]
    graders = tasks.discrepancies(respond(MMLU, ["The answer is (B)\nor (C"], "length"), MMLU)
    by_grader = graders.set_index("persona")["score"]
    assert by_grader["S8 cut at the first line break"] == (MMLU["answer"].iloc[0] == "B")


def test_equal_answers_are_graded_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        sandbox, "run_many", lambda jobs, timeout: asked.extend(jobs) or [[True]] * len(jobs)
    )
    monkeypatch.setattr("personagap.tasks._grading._TEST_RESULTS", {})
    text = f"```python\n{DOUBLE}\n```"
    for _ in range(2):  # not in the next cell of a notebook either
        scores = tasks.grade(respond(MBPP, [text] * 50), MBPP)
        assert len(asked) == 1 and len(scores) == 50 and scores["score"].eq(1).all()
    tasks.grade(respond(MBPP, [text]), MBPP, protocol="paper")  # its time limit is shorter
    assert len(asked) == 2


def test_invalid_arguments_are_refused():
    with pytest.raises(UserError, match="unknown protocol"):
        tasks.grade(respond(MMLU, ["C"]), MMLU, protocol="exact")
    with pytest.raises(UserError, match="no item '1' of mmlu"):
        tasks.grade(respond(MMLU, ["C"]), GSM8K)


def test_reference_answers_of_the_demo_are_right_in_both_protocols():
    items = datasets.load(["mmlu", "gsm8k"])
    right = items["answer"].where(items["task"] == "gsm8k", "(" + items["answer"] + ")")
    texts = "Let me see: 3 of them. Therefore, the answer is " + right + "."
    for protocol in ("corrected", "paper"):
        scores = tasks.grade(reference(items, texts), items, protocol)
        assert scores["score"].eq(1).all()
        assert scores["valid"].all()
        assert not scores["truncated"].any()


def test_reference_solutions_of_mbpp_pass(real_data):
    items = datasets.load("mbpp", real_data)
    records = [
        json.loads(line) for line in next(real_data.glob("mbpp*.jsonl")).read_text().splitlines()
    ]
    texts = [f"```python\n{record['code']}\n```" for record in records]
    scores = tasks.grade(reference(items, texts), items)
    print(f"\n{scores['score'].eq(1).sum()} of {len(records)} pass")
    assert scores.loc[scores["score"] < 1, "item"].tolist() == []
    assert len(scores) == len(records)
