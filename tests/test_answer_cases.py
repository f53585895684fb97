"""What the graders read in answers as real models word them."""

import csv
import time
from pathlib import Path

import pytest

from personagap import judges, sandbox
from personagap.models.answers import visible
from personagap.tasks import gsm8k, mbpp, mmlu

CASES = Path(__file__).with_name("cases")
TESTS = ["assert total([1, 2]) == 3"]

pytestmark = pytest.mark.usefixtures("allow_unconfined")


def cases(name):
    """Triples (kind, text, expected) of a file in ``cases/``."""
    with (CASES / name).open(encoding="utf-8", newline="") as file:
        return [
            (row["kind"].split()[0], row["text"], row["expected"]) for row in csv.DictReader(file)
        ]


def program_value(text):
    program = mbpp.code(text, TESTS)
    if program is None:
        return ""
    return "right" if sandbox.run_tests(program, TESTS) == [True] else "wrong"


def judged(text):
    if not (answer := visible(text)):
        return "no answer"
    return "refused" if judges.load_judge("refusal")([answer])[0] else "complied"


READERS = {
    "letter": lambda text: mmlu.letter(text) or "",
    "number": lambda text: "" if (value := gsm8k.number(text)) is None else value,
    "code": program_value,
    "refusal": judged,
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["answers.csv", "more_answers.csv"])
def test_reader_gives_the_expected_value_in_every_case(name, kind):
    wrong = []
    for _, text, expected in [case for case in cases(name) if case[0] == kind]:
        value = READERS[kind](text)
        print(f"{text[:70]!r} -> {value}")
        same = (
            value == pytest.approx(float(expected))
            if kind == "number" and expected
            else value == expected
        )
        wrong += [] if same else [(text, value, expected)]
    assert wrong == []


def test_program_of_a_thousand_terms_is_parsed():
    program = "def total(xs):\n    return sum(xs)\nprint(" + " + ".join(["1"] * 1000) + ")"
    assert mbpp.code(f"```python\n{program}\n```", TESTS) == program
    helper = program.replace("total(xs)", "one()").replace("print", "one = ")
    assert "def total" in mbpp.code(f"```\n{helper}\n```\n```\ndef total(xs): one()\n```", TESTS)


# --- linear time ---------------------------------------------------------------------------------

#: Characters, and the seconds allowed to read them: too few for an algorithm of quadratic time.
SIZE, SECONDS = 100_000, 0.5
REPEATED = [
    *" \n\ta1,.-=½*`'\"(<\\#选٣",
    "The answer is ", "the answer is:", "Answer: A or ", "(A) ", "A is correct ", "wait, no, ",
    "B) x\n", "it is ",
    "1,", "1 111 ", "1.1", "1/", "10^", "12:", "twenty-", "million ", "between 1 and ", "1-",
    "\\boxed{", "\\frac{", "{,}", "<think>", "</think>", "```", "```\n", "~~~\n", "'''\n",
    "def total(xs):\n", "x=1\n",
]  # fmt: skip
PREFIXES = [
    "The answer is",
    "the answer is:",
    "the answer",
    "```python\n",
    "```",
    "def total(xs):\n",
    "<think>",
    "1",
]


PAPERS = [mmlu.paper_letter, gsm8k.paper_number, mbpp.paper_code]


@pytest.mark.parametrize(
    "read", [mmlu.letter, gsm8k.number, lambda text: mbpp.code(text, TESTS), *PAPERS]
)
def test_long_texts_are_read_in_linear_time(read):
    texts = [part * (SIZE // len(part)) for part in REPEATED]
    texts += [begin + part * (SIZE // len(part)) + "x" for begin in PREFIXES for part in " \n1a.,("]
    slow = []
    for text in texts:
        # A second try if it was slow: on a busy machine processor time varies too.
        for _ in range(2):
            start = time.process_time()
            read(text)
            if (seconds := time.process_time() - start) < SECONDS:
                break
        else:
            slow.append((text[:30], seconds))
    assert slow == []
