"""Write the demo items that follow a pattern: word problems and one-line functions.

The items of the other three tasks are short hand-written lists.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from writing import target, write_lines, write_table

SEED = 0
NAMES = [
    *("Ana", "Ben", "Chloe", "Dev", "Emre", "Fatima", "Grace"),
    *("Hugo", "Ines", "Jun", "Kofi", "Lena", "Mia", "Noor"),
]
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine"]

#: A word problem, its solution, and the range of its two numbers.
PROBLEMS = [
    ("{name} has {a} boxes with {b} pens in each. How many pens is that?", "{a} * {b}", (3, 9)),
    (
        "{name} had {a} coins and found {b} more. How many coins are there now?",
        *("{a} + {b}", (11, 40)),
    ),
    (
        "{name} read {a} pages on Monday and {b} on Tuesday. How many pages is that?",
        *("{a} + {b}", (11, 40)),
    ),
    ("{name} plants {a} rows of {b} trees. How many trees is that?", "{a} * {b}", (3, 9)),
    ("A bus with {a} seats has {b} people on it. How many seats are free?", "{a} - {b}", (12, 60)),
    ("{name} pays {a} coins for bread and {b} for milk. What is the sum?", "{a} + {b}", (11, 40)),
    ("{name} works {a} hours a day for {b} days. How many hours is that?", "{a} * {b}", (3, 9)),
    (
        "A rope of {a} metres is cut and {b} metres are taken away. How many are left?",
        *("{a} - {b}", (12, 60)),
    ),
]

#: What a function does, its name, and the right and wrong expression of its argument n; K stands
#: for a number.
FUNCTIONS = [
    ("add {word} to a number", "add_{word}", "n + K", "n - K"),
    ("take {word} away from a number", "take_{word}", "n - K", "n + K"),
    ("multiply a number by {word}", "times_{word}", "n * K", "n + K"),
    ("divide a number by {word}, rounding down", "part_{word}", "n // K", "n * K"),
    ("find the remainder after division by {word}", "rest_{word}", "n % K", "n // K"),
    ("check if a number is above {word}", "above_{word}", "n > K", "n < K"),
    ("check if a number is below {word}", "below_{word}", "n < K", "n > K"),
    ("check if a number is equal to {word}", "is_{word}", "n == K", "n != K"),
]


def gsm8k() -> pd.DataFrame:
    """Write 64 word problems with two-digit answers: ``question answer``."""
    rng = np.random.default_rng(SEED)
    rows = {}
    while len(rows) < 64:
        pattern, solution, (low, high) = PROBLEMS[len(rows) % len(PROBLEMS)]
        a, b = sorted(rng.integers(low, high + 1, size=2).tolist(), reverse=True)
        solution = solution.format(a=a, b=b)
        result = eval(solution)  # our own arithmetic, two numbers and an operator
        if 10 <= result <= 99:
            question = pattern.format(name=rng.choice(NAMES), a=a, b=b)
            rows[question] = f"{solution} = {result}\n#### {result}"
    return pd.DataFrame({"question": rows.keys(), "answer": rows.values()})


def mbpp() -> pd.DataFrame:
    """Write 64 one-line functions in the columns of MBPP, each with a ``wrong`` solution as well.

    The wrong solution has another operator and fails every assert, so that scores by assert and by
    item agree.
    """
    rows = []
    for what, name, right, wrong in FUNCTIONS:
        for number, word in enumerate(NUMBERS, start=2):
            call = name.format(word=word)
            bodies = [body.replace("K", str(number)) for body in (right, wrong)]
            code, wrong_code = (f"def {call}(n):\n    return {body}" for body in bodies)
            value, wrong_value = (eval(f"lambda n: {body}") for body in bodies)
            usable = [n for n in range(1, 21) if value(n) != wrong_value(n)]
            middle = number if number in usable[1:-1] else usable[len(usable) // 2]
            shown = (usable[0], middle, usable[-1])
            rows.append({
                "text": f"Write a function to {what.format(word=word)}.", "code": code,
                "task_id": len(rows) + 1,
                "test_list": [f"assert {call}({n}) == {value(n)}" for n in shown],
                "test_setup_code": "", "challenge_test_list": [], "wrong": wrong_code,
            })  # fmt: skip
    return pd.DataFrame(rows)


def write(folder: Path) -> None:
    """Write the items, and the two programs with which the demo model answers each of mbpp."""
    programs = mbpp()
    write_lines(folder / "gsm8k.jsonl", gsm8k().to_dict("records"))
    write_lines(folder / "mbpp.jsonl", programs.drop(columns="wrong").to_dict("records"))
    solutions = programs[["task_id", "code", "wrong"]].set_axis(["item", "right", "wrong"], axis=1)
    write_table(folder / "mbpp_solutions.csv", solutions)


if __name__ == "__main__":
    write(target())
