"""Explanations at the end of a report: the technical terms that it uses and the traps it cites."""

import re
from html import escape

from personagap.formatting import word_table
from personagap.paths import DATA

#: An HTML tag, and the elements whose text is not prose.
TAG = re.compile(r"""(<(?:[^<>"']|"[^"]*"|'[^']*')*>)""")
NO_PROSE = re.compile(r"<(/?)(a|code|h\d|math|nav|pre|script|style|summary|svg|title)\b")


def _explanations(paper: str) -> dict[str, tuple[str, str, str]]:
    """Return anchor → (name, pattern, meaning) for a paper's traps and the glossary's terms."""
    # Notebooks outside the papers' folders have no traps.
    traps = word_table(f"{paper}/traps") if (DATA / paper / "traps.csv").exists() else []
    glossary = enumerate(word_table("glossary"))
    return {row["trap"]: (row["trap"], rf"\b{row['trap']}\b", row["what"]) for row in traps} | {
        f"term_{number}": (row["term"], row["pattern"], row["meaning"]) for number, row in glossary
    }


def linked(html: str, paper: str) -> tuple[str, str]:
    """Return a page with links from its terms and traps to their explanations, and the list of
    these explanations.
    """
    explanations = _explanations(paper)
    groups = (f"(?P<{anchor}>{pattern})" for anchor, (_, pattern, _) in explanations.items())
    any_term, linked_anchors = re.compile("|".join(groups)), set()

    # Of a term only the first occurrence is linked; of a trap, whose number is cryptic, each one.
    def link(match: re.Match) -> str:
        anchor, text = str(match.lastgroup), match[0]
        if anchor in linked_anchors and anchor.startswith("term_"):
            return text
        linked_anchors.add(anchor)
        title = escape(explanations[anchor][2])
        return f'<a class="term" href="#{anchor}" title="{title}">{text}</a>'

    # Text and tags alternate: parts with odd indices are tags.
    parts, inside = TAG.split(html), None
    for i, part in enumerate(parts):
        if i % 2 and (tag := NO_PROSE.match(part)):
            if inside is None and not tag[1]:
                inside = tag[2]
            elif tag[1] and tag[2] == inside:
                inside = None
        elif not i % 2 and inside is None:
            parts[i] = any_term.sub(link, part)
    notes = "".join(
        f'<dt id="{anchor}">{escape(name)}</dt><dd>{escape(meaning)}</dd>'
        for anchor, (name, _, meaning) in explanations.items()
        if anchor in linked_anchors
    )
    return "".join(parts), notes
