"""How every verdict words its numbers."""

import pandas as pd


def table(answers: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(answers, columns=["question", "answer"])


def p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
