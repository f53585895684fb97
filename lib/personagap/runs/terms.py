"""What a report explains at its end: the terms of the field that it uses, and the traps that it
cites.
"""

import re
from html import escape

from personagap.paths import DATA
from personagap.spelling import entries

#: Markup of a page; what it holds is prose unless it is inside one of these.
TAG = re.compile(r"""(<(?:[^<>"']|"[^"]*"|'[^']*')*>)""")
NO_PROSE = re.compile(r"<(/?)(a|code|h\d|math|nav|pre|script|style|summary|svg|title)\b")


def _explained(paper: str) -> dict[str, tuple[str, str, str]]:
    """Anchor → name, pattern and meaning: of a paper's traps by their numbers, and of the
    glossary's terms.
    """
    # Notebooks beside the papers' folders have none.
    traps = entries(f"{paper}/traps") if (DATA / paper / "traps.csv").exists() else []
    glossary = enumerate(entries("glossary"))
    return {row["trap"]: (row["trap"], rf"\b{row['trap']}\b", row["what"]) for row in traps} | {
        f"term_{number}": (row["term"], row["pattern"], row["meaning"]) for number, row in glossary
    }


def linked(html: str, paper: str) -> tuple[str, str]:
    """A page in which traps, and terms where they first occur, lead to what is meant by them; and
    the list of that.
    """
    known = _explained(paper)
    patterns = {anchor: pattern for anchor, (_, pattern, _) in known.items()}
    wanted = re.compile("|".join(f"(?P<{anchor}>{each})" for anchor, each in patterns.items()))
    seen = set()

    # Of a term the first occurrence leads to its meaning, of a trap, whose number says nothing,
    # each.
    def link(found: re.Match) -> str:
        anchor, text = str(found.lastgroup), found[0]
        if anchor in seen and anchor.startswith("term_"):
            return text
        seen.add(anchor)
        return f'<a class="term" href="#{anchor}" title="{escape(known[anchor][2])}">{text}</a>'

    # Every second part is a tag.
    parts, inside = TAG.split(html), None
    for place, part in enumerate(parts):
        if place % 2 and (tag := NO_PROSE.match(part)):
            if inside is None and not tag[1]:
                inside = tag[2]
            elif tag[1] and tag[2] == inside:
                inside = None
        elif not place % 2 and inside is None:
            parts[place] = wanted.sub(link, part)
    notes = "".join(
        f'<dt id="{anchor}">{escape(name)}</dt><dd>{escape(meaning)}</dd>'
        for anchor, (name, _, meaning) in known.items()
        if anchor in seen
    )
    return "".join(parts), notes
