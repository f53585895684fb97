"""Format result tables for readers. The saved CSV keeps column names and all digits.

``data/columns.csv`` holds the label and unit of each column, used here and in the explorer.
"""

import functools
import re

import numpy as np
import pandas as pd

from personagap.formatting import MISSING, format_cell, format_number, humanize, word_table
from personagap.redaction import escaped
from personagap.results import correction, interval_columns

#: Maximum number of rows shown; the CSV has all of them.
ROWS = 30
#: Columns whose values are themselves column names, and get the same labels.
NAMES = ("metric", "measure", "quantity")
#: Columns of counts, which a missing value may have turned into floats.
COUNTS = re.compile("n(_|$)|clusters")
#: If the widest interval of a column is this many times the narrowest, decimals are chosen per row.
MAX_WIDTH_RATIO = 20
#: Characters that pdflatex cannot typeset directly.
LATEX = {
    **{"<": "$<$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$", "×": r"$\times$", "±": r"$\pm$"},
    **{"α": r"$\alpha$", "κ": r"$\kappa$", "ρ": r"$\rho$", "χ": r"$\chi$", "ε": r"$\epsilon$"},
    **{"²": "$^2$", "∞": r"$\infty$"},
}
#: A cell that holds a number, with or without a percent sign, inequality or interval.
NUMBER = re.compile(r"(< )?[+−]?[\d∞][\d,.∞]*( ?%)?( \[.*\])?|\[[\d,.−∞ ]+\]|–")


@functools.cache
def _columns() -> dict[str, tuple[str, str]]:
    return {row["column"]: (row["label"], row["unit"]) for row in word_table("columns")}


def label(column: str) -> str:
    """Return the label of a column, without unit; by default its name without underscores.

    Examples
    --------
    >>> [label(column) for column in ("p_adjusted", "yes_rate", "response_model")]
    ['p (Holm)', 'share of yes', 'response model']
    """
    return _columns().get(column, (format_cell(column), ""))[0]


def display_names(names: pd.Series) -> pd.Series:
    """Return row names for display: metrics by their label, others without underscores.

    Examples
    --------
    >>> display_names(pd.Series(["f1", "top_share"], name="metric")).tolist()
    ['F1', 'top share']
    """
    return names.map(label if names.name in NAMES else humanize, na_action="ignore")


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `display_names`."""
    return table.assign(**{name: display_names(table[name]) for name in NAMES if name in table})


def describe_correction(family: str) -> str:
    """Return `results.correction` of a family, with names of tables and metrics as labels."""
    return re.sub(r"\w+", lambda name: label(name[0]), correction(family))


def readable(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Format a table as text; return it and the values that all rows share.

    An estimate and its interval go into one column, "5.9 [4.4, 7.6]", with as many digits as the
    width of the interval warrants. Index levels that have a name or are not numeric become columns;
    other levels and empty columns are dropped.

    Examples
    --------
    >>> rows = [["mmlu", 5.9971, 4.432, 7.601, 60], ["gsm8k", 1.2, -0.31, 2.6, 60]]
    >>> readable(pd.DataFrame(rows, columns=["task", "estimate", "ci_low", "ci_high", "n_items"]))
    (    task         estimate
    0   mmlu   6.0 [4.4, 7.6]
    1  gsm8k  1.2 [−0.3, 2.6], {'in brackets': '95 % interval', 'items': '60'})
    """
    table = _join_interval_columns(_flatten(table))
    pairs = interval_columns(table)
    ends = {end for pair in pairs.values() for end in pair}
    unit = _unit(table)
    # Two one-sided tests at 5 % correspond to a 90 % interval.
    brackets = "90 % interval" if "equivalent" in table else "95 % interval"
    # Timings come with the fastest and slowest repeat instead of an interval.
    brackets = "range of repeats" if "repeats" in table else brackets
    shown, same = {}, {"in brackets": brackets} if pairs else {}
    # The long texts of "family" go last, so that a narrow page cuts off no number.
    for name in sorted(table.columns.difference(ends, sort=False), key="family".__eq__):
        column, text = table[name], _texts(table, name, pairs.get(name))
        if column.isin(["", None]).all() or column.isna().all() or (name == "unit" and unit):
            continue
        if len(table) > 1 and len(set(text)) == 1 and name not in pairs:
            same[column_header(name, table)] = text.iloc[0]
            continue
        shown[column_header(name, table)] = text
    # If all columns are constant, show them as a table rather than an empty one.
    if not shown:
        shown, same = {name: pd.Series(value, table.index) for name, value in same.items()}, {}
    return pd.DataFrame(shown, index=table.index), same


def row_names(table: pd.DataFrame, key: list[str]) -> pd.Series:
    """Name every row by its ``key`` columns; numbers are preceded by the name of their column."""
    numbers = table.select_dtypes("number").columns
    parts = (
        (f"{name} " if name in numbers else "") + table[name].map(format_number).astype("str")
        for name in key
    )
    # Built by `map`, which also works for a table without rows.
    return pd.Series(map(" · ".join, zip(*parts, strict=True)), table.index, dtype="str")


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text, estimates with their intervals: "0.480 [0.410, 0.550]"."""
    pairs = interval_columns(table)
    shown = table.map(format_number).astype("str").mask(table.isna(), "")
    for name in shown.columns[shown.columns.str.startswith("p_")]:
        shown[name] = shown[name].mask(table[name] < 0.001, "< 0.001")
    for name, (low, high) in pairs.items():
        interval = " [" + shown[low] + ", " + shown[high] + "]"
        shown[name] += interval.where(shown[low] != "", "")
    return shown.drop(columns=[end for ends in pairs.values() for end in ends])


def _flatten(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the index into columns, and multi-level column names into single ones."""
    index = table.index.to_frame(index=False)
    # An unnamed level of integers only counts the rows, so it is dropped.
    levels = [
        (name or " " * (level + 1), index.iloc[:, level])
        for level, name in enumerate(table.index.names)
        if name or (len(table) and not pd.api.types.is_integer_dtype(index.iloc[:, level]))
    ]
    table = table.reset_index(drop=True)
    if table.columns.nlevels > 1:
        heads = ([str(part) for part in parts if part != ""] for parts in table.columns)
        table.columns = list(map(" · ".join, heads))
    table = pd.concat([*(level.rename(name) for name, level in levels), table], axis=1)
    return table.loc[:, ~table.columns.duplicated()].rename(columns=str)


def _join_interval_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Join interval ends without an estimate, such as simultaneous intervals, into one column."""
    ends = {end for pair in interval_columns(table).values() for end in pair}
    for low in [name for name in table.columns if name.endswith("_low") and name not in ends]:
        name, high = low.removesuffix("_low"), low.removesuffix("_low") + "_high"
        if high in table and _numeric(table[low]) and _numeric(table[high]):
            interval, _ = _interval(table, low, high)
            table = table.drop(columns=high).rename(columns={low: name})
            table[name] = interval.where(table[name].notna())
    return table


def _unit(table: pd.DataFrame) -> str:
    """Return the unit that all rows share, "" if they differ."""
    units = set(table.get("unit", []))
    return next(iter(units)) if len(units) == 1 else ""


def column_header(name: str, table: pd.DataFrame) -> str:
    """Return a column's `label` with its unit; the unit of estimates is given by the rows.

    Examples
    --------
    >>> column_header("estimate", pd.DataFrame({"unit": ["points"], "estimate": [1.0]}))
    'estimate (points)'
    """
    row_unit = _unit(table) if name in ("estimate", "value") else ""
    unit = row_unit or _columns().get(name, ("", ""))[1]
    return f"{label(name)} ({unit})" if unit else label(name)


def _texts(table: pd.DataFrame, name: str, ends: tuple[str, str] | None) -> pd.Series:
    """Format the cells of a column."""
    column = table[name]
    if name in NAMES:
        return column.map(lambda cell: label(cell) if isinstance(cell, str) else format_cell(cell))
    if name == "family":
        return column.map(describe_correction).where(column.fillna("") != "", MISSING)
    if COUNTS.match(name) and _numeric(column):
        column = column.astype("Int64") if (column.dropna() % 1 == 0).all() else column
    if ends is None:
        text = column.map(format_cell).where(column.notna(), MISSING).astype(str)
        is_p = re.match("p(_|$)", name) and _numeric(column)
        return text.mask(column < 0.001, "< 0.001") if is_p else text
    interval, decimals = _interval(table, *ends)
    known = table[list(ends)].notna().all(axis=1)
    text = pd.Series(map(_rounded, column, decimals), table.index)
    return (text + (" " + interval).where(known, "")).where(column.notna(), MISSING)


def _interval(table: pd.DataFrame, low: str, high: str) -> tuple[pd.Series, list[int]]:
    """Format intervals; return them and the number of decimals used in each row."""
    decimals = _decimals(table[high] - table[low])
    ends = [pd.Series(map(_rounded, table[end], decimals), table.index) for end in (low, high)]
    return "[" + ends[0] + ", " + ends[1] + "]", decimals


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _decimals(widths: pd.Series) -> list[int]:
    """Return the decimals that show two digits of each interval's width; more would be noise."""
    finite = widths[(widths > 0) & (widths < np.inf)]
    # Use the same decimals down a column, easy to compare, unless that would hide narrow intervals.
    if finite.max() / finite.min() < MAX_WIDTH_RATIO:
        widths = widths.mask(widths.notna(), finite.median())
    with np.errstate(divide="ignore"):
        decimals = np.clip(1 - np.floor(np.log10(widths.astype(float))), 0, 4)
    return decimals.fillna(3).astype(int).tolist()


def _rounded(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    # "−0.0" would suggest a direction, so it is shown as 0.
    text = text.removeprefix("-") if not text.strip("-0.") else text
    return text.replace("-", "−").replace("inf", "∞")


def _is_number(cells: pd.Series) -> bool:
    """Return whether a column of text holds nothing but numbers."""
    return bool(cells.str.fullmatch(NUMBER).all() and (cells != MISSING).any())


def html(table: pd.DataFrame) -> str:
    """Return the table as HTML, with the values that all rows share in its caption.

    Published numbers that are not comparable are folded into a ``<details>`` element.
    """
    if "comparable" not in table or (table["comparable"] == "yes").all():
        return _html(table)
    incomparable = table["comparable"] != "yes"
    numbers = "numbers are" if incomparable.sum() > 1 else "number is"
    summary = f"{incomparable.sum()} published {numbers} not comparable"
    folded = f"<details><summary>{summary}</summary>{_html(table[incomparable])}</details>"
    return folded if incomparable.all() else _html(table[~incomparable]) + folded


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
    # Align numbers right and text left: JupyterLab aligns everything right, a report left.
    answers = {"question", "answer"} <= set(table.columns)
    left = 'style="text-align: left"'
    styles = ['class="number"' if _is_number(body[head]) else left for head in shown]
    # Cells of answers stand side by side, and wrap below each other on a narrow screen.
    if answers:
        wide = {"question": 12, "answer": 24}
        flex = [f"flex: {wide.get(head, 9)} 1 {wide.get(head, 9)}rem" for head in shown]
        styles = [f'style="text-align: left; overflow-wrap: anywhere; {item}"' for item in flex]
    row = '<tr style="display: flex; flex-wrap: wrap">' if answers else "<tr>"
    labels = zip(styles, map(escaped, shown), strict=True)
    heads = "".join(f'<th scope="col" {style}>{head}</th>' for style, head in labels)
    rows = []
    for first, *rest in body.itertuples(index=False, name=None):
        pairs = zip(styles[1:], map(escaped, rest), strict=True)
        cells = "".join(f"<td {style}>{cell}</td>" for style, cell in pairs)
        name = re.sub("([/_])", r"\1<wbr>", escaped(first)) if answers else escaped(first)
        rows.append(f'{row}<th scope="row" {styles[0]}>{name}</th>{cells}</tr>')
    kind = "dataframe answers" if answers else "dataframe"
    top = f'<table class="{kind}">{caption}<thead>{row}{heads}</tr></thead>'
    return f"{top}<tbody>{''.join(rows)}</tbody></table>"


def use() -> None:
    """Display every DataFrame of this kernel by `html`."""
    from IPython import get_ipython

    if shell := get_ipython():
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, html)


def latex(table: pd.DataFrame, name: str) -> str:
    """Return a table for a paper that loads booktabs and longtable, with the label ``tab:<name>``.

    Formatted as by `readable`, with the values that all rows share in the caption; text is escaped.
    """
    shown, same = readable(table)
    notes = "; ".join(f"{head}: {value}" for head, value in same.items())
    caption = format_cell(name).capitalize() + (f" ({notes})" if notes else "") + "."
    # pandas escapes the cells, but not the caption.
    caption = re.sub(r"([&%$#_{}])", r"\\\1", caption)
    how = {"caption": caption, "label": f"tab:{name}", "longtable": len(table) > 40}
    return shown.to_latex(index=False, escape=True, **how).translate(str.maketrans(LATEX))
