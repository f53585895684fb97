"""Result tables as people read them. The saved CSV keeps the names and all digits.

``data/columns.csv`` says how a column is called and in which unit it is, here and in the explorer.
"""

import functools
import re

import numpy as np
import pandas as pd

from personagap.leaving import escaped
from personagap.results import correction, quantities
from personagap.spelling import MISSING, entries, number, plain, words

#: Rows shown of a long table; all of them are in its CSV.
ROWS = 30
#: Columns whose values are themselves names of columns.
NAMES = ("metric", "measure", "quantity")
#: Columns that count something, though a missing value may have made them floats.
COUNTS = re.compile("n(_|$)|clusters")
#: Where intervals of one column differ in width by more than this, each has digits of its own.
ALIKE = 20
#: What pdflatex cannot read as it stands.
LATEX = {
    **{"<": "$<$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$", "×": r"$\times$", "±": r"$\pm$"},
    **{"α": r"$\alpha$", "κ": r"$\kappa$", "ρ": r"$\rho$", "χ": r"$\chi$", "ε": r"$\epsilon$"},
    **{"²": "$^2$", "∞": r"$\infty$"},
}
#: A cell that is a number, with or without its interval, share or order.
NUMBER = re.compile(r"(< )?[+−]?[\d∞][\d,.∞]*( ?%)?( \[.*\])?|\[[\d,.−∞ ]+\]|–")


@functools.cache
def _columns() -> dict[str, tuple[str, str]]:
    return {row["column"]: (row["label"], row["unit"]) for row in entries("columns")}


def label(column: str) -> str:
    """What readers call a column, without unit; one not listed, by its name without underscores.

    Examples
    --------
    >>> [label(column) for column in ("p_adjusted", "yes_rate", "response_model")]
    ['p (Holm)', 'share of yes', 'response model']
    """
    return _columns().get(column, (plain(column), ""))[0]


def named(names: pd.Series) -> pd.Series:
    """Names of rows as readers see them: a metric by its label, another without underscores.

    Examples
    --------
    >>> named(pd.Series(["f1", "top_share"], name="metric")).tolist()
    ['F1', 'top share']
    """
    return names.map(label if names.name in NAMES else words, na_action="ignore")


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `named` metrics."""
    return table.assign(**{name: named(table[name]) for name in NAMES if name in table})


def told_correction(family: str) -> str:
    """`results.correction` of a family whose tables, tasks and metrics have their plain labels."""
    return re.sub(r"\w+", lambda name: label(name[0]), correction(family))


def readable(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """A table as text to be read, and what is the same in all its rows.

    Every value stands with its interval in one column, "5.9 [4.4, 7.6]", with as many digits as the
    interval allows; an index that has a name or is no number becomes columns, another is left out,
    and so is what is empty.

    Examples
    --------
    >>> rows = [["mmlu", 5.9971, 4.432, 7.601, 60], ["gsm8k", 1.2, -0.31, 2.6, 60]]
    >>> readable(pd.DataFrame(rows, columns=["task", "estimate", "ci_low", "ci_high", "n_items"]))
    (    task         estimate
    0   mmlu   6.0 [4.4, 7.6]
    1  gsm8k  1.2 [−0.3, 2.6], {'in brackets': '95 % interval', 'items': '60'})
    """
    table = _joined(_flat(table))
    pairs = quantities(table)
    ends = {end for pair in pairs.values() for end in pair}
    unit = _unit(table)
    # Two one-sided tests at 5 % go with an interval of 90 %.
    told = "90 % interval" if "equivalent" in table else "95 % interval"
    # Of what was timed, the lowest and the highest.
    told = "range of repeats" if "repeats" in table else told
    shown, same = {}, {"in brackets": told} if pairs else {}
    # Where a page is too narrow, what is cut off at its end is no number.
    for name in sorted(table.columns.difference(ends, sort=False), key="family".__eq__):
        column, text = table[name], _texts(table, name, pairs.get(name))
        if column.isin(["", None]).all() or column.isna().all() or (name == "unit" and unit):
            continue
        if len(table) > 1 and len(set(text)) == 1 and name not in pairs:
            same[head(name, table)] = text.iloc[0]
            continue
        shown[head(name, table)] = text
    # All rows are alike: a table that repeats itself says more than none.
    if not shown:
        shown, same = {name: pd.Series(value, table.index) for name, value in same.items()}, {}
    return pd.DataFrame(shown, index=table.index), same


def row_names(table: pd.DataFrame, key: list[str]) -> pd.Series:
    """A name for every row from its ``key`` columns; a number comes with its column's name."""
    numbers = table.select_dtypes("number").columns
    parts = (
        (f"{name} " if name in numbers else "") + table[name].map(number).astype("str")
        for name in key
    )
    # Also of no rows.
    return pd.Series(map(" · ".join, zip(*parts, strict=True)), table.index, dtype="str")


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, every value with its interval in one column: "0.480 [0.410, 0.550]"."""
    shown, pairs = table.map(number).astype("str").mask(table.isna(), ""), quantities(table)
    for name in shown.columns[shown.columns.str.startswith("p_")]:
        shown[name] = shown[name].mask(table[name] < 0.001, "< 0.001")
    for name, (low, high) in pairs.items():
        interval = " [" + shown[low] + ", " + shown[high] + "]"
        shown[name] += interval.where(shown[low] != "", "")
    return shown.drop(columns=[end for ends in pairs.values() for end in ends])


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The table without an index, and with one row of heads."""
    index = table.index.to_frame(index=False)
    # Numbers without a name only count the rows.
    told = [
        (name or " " * (level + 1), index.iloc[:, level])
        for level, name in enumerate(table.index.names)
        if name or (len(table) and not pd.api.types.is_integer_dtype(index.iloc[:, level]))
    ]
    table = table.reset_index(drop=True)
    if table.columns.nlevels > 1:
        heads = ([str(part) for part in parts if part != ""] for parts in table.columns)
        table.columns = list(map(" · ".join, heads))
    table = pd.concat([*(level.rename(name) for name, level in told), table], axis=1)
    return table.loc[:, ~table.columns.duplicated()].rename(columns=str)


def _joined(table: pd.DataFrame) -> pd.DataFrame:
    """Ends that are no value's, such as those of a simultaneous interval, in one column."""
    ends = {end for pair in quantities(table).values() for end in pair}
    for low in [name for name in table.columns if name.endswith("_low") and name not in ends]:
        name, high = low.removesuffix("_low"), low.removesuffix("_low") + "_high"
        if high in table and _numeric(table[low]) and _numeric(table[high]):
            interval, _ = _interval(table, low, high)
            table = table.drop(columns=high).rename(columns={low: name})
            table[name] = interval.where(table[name].notna())
    return table


def _unit(table: pd.DataFrame) -> str:
    """The unit of all rows, "" if they differ."""
    units = set(table.get("unit", []))
    return next(iter(units)) if len(units) == 1 else ""


def head(name: str, table: pd.DataFrame) -> str:
    """A column's `label` and its unit, which the rows tell of an estimate.

    Examples
    --------
    >>> head("estimate", pd.DataFrame({"unit": ["points"], "estimate": [1.0]}))
    'estimate (points)'
    """
    told = _unit(table) if name in ("estimate", "value") else ""
    unit = told or _columns().get(name, ("", ""))[1]
    return f"{label(name)} ({unit})" if unit else label(name)


def _texts(table: pd.DataFrame, name: str, ends: tuple[str, str] | None) -> pd.Series:
    """The cells of a column as text."""
    column = table[name]
    if name in NAMES:
        return column.map(lambda value: label(value) if isinstance(value, str) else plain(value))
    if name == "family":
        return column.map(told_correction).where(column.fillna("") != "", MISSING)
    if COUNTS.match(name) and _numeric(column):
        column = column.astype("Int64") if (column.dropna() % 1 == 0).all() else column
    if ends is None:
        text = column.map(plain).where(column.notna(), MISSING).astype(str)
        is_p = re.match("p(_|$)", name) and _numeric(column)
        return text.mask(column < 0.001, "< 0.001") if is_p else text
    interval, decimals = _interval(table, *ends)
    known = table[list(ends)].notna().all(axis=1)
    text = pd.Series(map(_rounded, column, decimals), table.index)
    return (text + (" " + interval).where(known, "")).where(column.notna(), MISSING)


def _interval(table: pd.DataFrame, low: str, high: str) -> tuple[pd.Series, list[int]]:
    """Intervals as text, and how many decimals each value in one has."""
    decimals = _decimals(table[high] - table[low])
    ends = [pd.Series(map(_rounded, table[end], decimals), table.index) for end in (low, high)]
    return "[" + ends[0] + ", " + ends[1] + "]", decimals


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _decimals(widths: pd.Series) -> list[int]:
    """Decimals that show intervals with two digits, as more would be noise."""
    known = widths[(widths > 0) & (widths < np.inf)]
    # Alike down a column, to be compared at a glance, where that hides no narrow one.
    if known.max() / known.min() < ALIKE:
        widths = widths.mask(widths.notna(), known.median())
    with np.errstate(divide="ignore"):
        decimals = np.clip(1 - np.floor(np.log10(widths.astype(float))), 0, 4)
    return decimals.fillna(3).astype(int).tolist()


def _rounded(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    # "−0.0" is 0, and no effect in either direction.
    text = text.removeprefix("-") if not text.strip("-0.") else text
    return text.replace("-", "−").replace("inf", "∞")


def _is_number(cells: pd.Series) -> bool:
    """Whether a column of text holds nothing but numbers."""
    return bool(cells.str.fullmatch(NUMBER).all() and (cells != MISSING).any())


def html(table: pd.DataFrame) -> str:
    """The table as HTML: what is the same in all rows in its caption, a row's name in its first
    column. Published numbers that are not comparable are folded.
    """
    if "comparable" not in table or (table["comparable"] == "yes").all():
        return _html(table)
    apart = table["comparable"] != "yes"
    numbers = "numbers are" if apart.sum() > 1 else "number is"
    told = f"{apart.sum()} published {numbers} not comparable"
    folded = f"<details><summary>{told}</summary>{_html(table[apart])}</details>"
    return folded if apart.all() else _html(table[~apart]) + folded


def _html(table: pd.DataFrame) -> str:
    shown, same = readable(table)
    if shown.columns.empty:
        return (
            f"<p>{len(shown)} rows without anything in them</p>" if len(shown) else "<p>no rows</p>"
        )
    body = shown.head(ROWS)
    notes = [f"{name}: {value}" for name, value in same.items()]
    if len(shown) > len(body):
        notes.insert(0, f"the first {len(body)} of {len(shown)} rows")
    caption = f"<caption>{escaped('; '.join(notes))}</caption>" if notes else ""
    # Numbers right, text left: by default JupyterLab sets all to the right, a report to the left.
    answers = {"question", "answer"} <= set(table.columns)
    left = 'style="text-align: left"'
    sides = ['class="number"' if _is_number(body[head]) else left for head in shown]
    # Beside each other, or below each other on a narrow screen.
    if answers:
        wide = {"question": 12, "answer": 24}
        flex = [f"flex: {wide.get(head, 9)} 1 {wide.get(head, 9)}rem" for head in shown]
        sides = [f'style="text-align: left; overflow-wrap: anywhere; {each}"' for each in flex]
    row = '<tr style="display: flex; flex-wrap: wrap">' if answers else "<tr>"
    named = zip(sides, map(escaped, shown), strict=True)
    heads = "".join(f'<th scope="col" {side}>{head}</th>' for side, head in named)
    rows = []
    for first, *rest in body.itertuples(index=False, name=None):
        pairs = zip(sides[1:], map(escaped, rest), strict=True)
        cells = "".join(f"<td {side}>{cell}</td>" for side, cell in pairs)
        name = re.sub("([/_])", r"\1<wbr>", escaped(first)) if answers else escaped(first)
        rows.append(f'{row}<th scope="row" {sides[0]}>{name}</th>{cells}</tr>')
    kind = "dataframe answers" if answers else "dataframe"
    top = f'<table class="{kind}">{caption}<thead>{row}{heads}</tr></thead>'
    return f"{top}<tbody>{''.join(rows)}</tbody></table>"


def use() -> None:
    """In this kernel, show every DataFrame so."""
    from IPython import get_ipython

    if shell := get_ipython():
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, html)


def latex(table: pd.DataFrame, name: str) -> str:
    """A table for a paper that loads booktabs and longtable, with the label ``tab:<name>``.

    As `readable` has it: what is the same in all rows goes into the caption. Texts are escaped.
    """
    shown, same = readable(table)
    told = "; ".join(f"{head}: {value}" for head, value in same.items())
    caption = plain(name).capitalize() + (f" ({told})" if told else "") + "."
    # pandas escapes the cells, but not this.
    caption = re.sub(r"([&%$#_{}])", r"\\\1", caption)
    how = {"caption": caption, "label": f"tab:{name}", "longtable": len(table) > 40}
    return shown.to_latex(index=False, escape=True, **how).translate(str.maketrans(LATEX))
