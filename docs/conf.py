"""The documentation: Markdown, docstrings, and pages with code that is run each time they are
built.
"""

import csv
import re
from pathlib import Path

import latex2mathml.converter
from docutils import nodes

import personagap

DATA = Path(__file__).parents[1] / "data"

project = "personagap"
release = personagap.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "personagap"
html_static_path = ["_static"]
html_css_files, html_js_files = ["site.css"], ["accessible.js"]
html_show_copyright = html_show_sphinx = html_copy_source = False
html_math_renderer = "mathml"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_ipywidgets_js = {}  # would be fetched from elsewhere; no page has widgets
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
default_role = "py:obj"
maximum_signature_line_length = 80
autodoc_typehints = "none"  # signatures say them; types of pandas and numpy are long
napoleon_use_param = napoleon_use_rtype = False
napoleon_custom_sections = [("Returns", "free text")]


def described(app, what, name, obj, options, lines):
    """What follows the colon of a parameter is its description; the numpy style takes it for the
    type.
    """
    text = re.sub(
        r"^([*\w][\w*]*(?:, [*\w]+)*) : (.+)$", r"\1\n    \2", "\n".join(lines), flags=re.M
    )
    # **how is not bold.
    lines[:] = re.sub(r"(?<!`)\*\*(?=\w+\b(?!\*))", r"\\*\\*", text).splitlines()


def glossary(app, name, source):
    """What reports explain too: the terms of ``data/glossary.csv``, and the traps of each paper."""
    if name == "glossary":
        with (DATA / "glossary.csv").open(encoding="utf-8", newline="") as file:
            terms = [f"{row['term']}\n  {row['meaning']}\n" for row in csv.DictReader(file)]
        source[0] += "\n```{glossary}\n" + "\n".join(terms) + "```\n"
    if name == "reference/traps":
        for file in sorted(DATA.glob("*/traps.csv")):
            table = (
                f":file: ../../data/{file.parent.name}/traps.csv\n:header-rows: 1\n:widths: 8 92"
            )
            source[0] += f"\n## {file.parent.name}\n\n```{{csv-table}}\n{table}\n```\n"


def formula(self, node):
    """MathML, which browsers draw without a script."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    self.body.append(latex2mathml.converter.convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app):
    app.connect("autodoc-process-docstring", described, priority=400)  # before napoleon
    app.connect("source-read", glossary)
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
