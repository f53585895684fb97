"""``report.html``: an executed notebook as one page that works offline and without scripts."""

import re
from html import escape as html_escape
from pathlib import Path
from typing import Any

import bleach
import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from personagap.formatting import to_text
from personagap.paths import abbreviate_home
from personagap.redaction import visible
from personagap.runs.files import write_text
from personagap.runs.folder import read_facts, read_verdict, simulated, unanswered
from personagap.runs.request import TITLE
from personagap.runs.terms import linked
from personagap.runs.values import format_value
from personagap.runs.vector import inline

TEMPLATES = Path(__file__).parent / "templates"
#: Formats of outputs in order of preference: figures before tables, and none that needs a script.
FORMATS = ["image/png", "image/jpeg", "image/svg+xml", "text/html", "text/markdown", "text/plain"]
#: Tags that an output may contain; all others are shown as text.
TAGS = bleach.ALLOWED_TAGS | {
    *["br", "dd", "details", "div", "dl", "dt", "h1", "h2", "h3", "h4", "hr", "img", "p", "pre"],
    *["small", "span", "sub", "summary", "sup", "u"],
    *["caption", "col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "wbr"],
}
#: Their attributes, besides those of links and pictures: none that runs a script, and no styles,
#: which could draw over the page.
ATTRIBUTES = ["alt", "class", "colspan", "dir", "height", "lang", "rowspan", "scope"]
ATTRIBUTES += ["title", "width"]
#: Descriptions of how a run's answers were obtained.
ANSWERS = {
    "generate": "generation: texts sampled from the model, then graded",
    "likelihood": "likelihood: the probability of the right choice among the choices, no sampling",
}
#: Packages whose versions the head of a report shows.
SHOWN_VERSIONS = ("personagap", "python", "torch")
#: The placeholder of the explanations of terms.
NOTES = "<dt>notes</dt>"
#: The placeholder of the table of contents, and the headings that it lists.
CONTENTS = "<li>contents</li>"
HEADING = re.compile("<h2>(.*?)</h2>")


class _Renderer(IPythonRenderer):
    """Renders Markdown with formulas as MathML, which browsers draw without a script."""

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def image(self, text: str, url: str, title: str | None = None) -> str:
        html = super().image(text, url, title)
        # A picture from elsewhere would make the page send a request.
        return html if 'src="data:' in html else html_escape(text)


class ReportExporter(HTMLExporter):
    """nbconvert's HTML exporter with our template: no scripts, no requests, and code folded."""

    def __init__(self):
        super().__init__(template_name="report", extra_template_basedirs=[str(TEMPLATES)])
        self.config.NbConvertBase.display_data_priority = FORMATS
        for function in (sanitized, markdown_output, inline):
            self.register_filter(function.__name__, function)

    @pass_context
    def markdown2html(self, context, source):
        """Render a Markdown cell; its HTML is kept, since the notebook's author wrote it."""
        path = context["resources"]["metadata"]["path"]
        attachments = context["cell"].get("attachments", {})
        how: dict[str, Any] = {"escape": False, "embed_images": True, "exclude_anchor_links": True}
        renderer = _Renderer(path=path, attachments=attachments, **how)
        return MarkdownWithMath(renderer=renderer).render(source)


def mathml(formula: str, display: str) -> str:
    """Return a LaTeX formula as MathML (``display`` "inline" or "block"), or its source if it
    cannot be converted.
    """
    try:
        return convert(formula, display=display)
    except Exception:
        # The converter raises many kinds of exceptions.
        return f"<code>{bleach.clean(formula, tags=set())}</code>"


def markdown_output(source: str) -> str:
    """Render an output of type ``text/markdown``; HTML in it, perhaps of a model, is escaped."""
    renderer = _Renderer(escape=True, allow_harmful_protocols=False)
    return MarkdownWithMath(renderer=renderer).render(source)


def sanitized(html: str) -> str:
    """Return an output of type ``text/html`` without scripts, style sheets, event handlers and
    external pictures.
    """
    # bleach removes tags but keeps their content: the rules of a style sheet would remain as text.
    html = re.sub(r"<style\b.*?</style>", "", html, flags=re.DOTALL | re.IGNORECASE)
    protocols = {"http", "https", "mailto", "data"}
    return bleach.clean(html, tags=TAGS, attributes=_is_allowed, protocols=protocols)


def _is_allowed(tag: str, name: str, value: str) -> bool:
    # Links may lead anywhere, since only readers follow them; pictures must be part of the page.
    if name in ("href", "src"):
        prefixes = {"a": ("http:", "https:", "mailto:", "#"), "img": ("data:image/",)}
        return value.startswith(prefixes.get(tag, ()))
    return name in ATTRIBUTES


def write(folder: Path, **facts: Any) -> None:
    """Render ``notebook.ipynb`` of a run's folder to ``report.html``; ``facts`` take precedence
    over those of ``run.json``.

    The page's content security policy forbids scripts and requests, as a second barrier in case any
    text is not escaped.
    """
    # A run's end is recorded after its report is written, so that every finished run has a report.
    facts = read_facts(folder) | facts
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    for cell in notebook.cells:
        # The head of the page shows the title.
        if cell.cell_type == "markdown" and TITLE.search(cell.source):
            cell.source = TITLE.sub("", cell.source, count=1)
            break
    headline, details = facts.get("headline"), facts["parameters"] | facts["versions"]
    light, dark = (
        HtmlFormatter(style=style).get_style_defs(".highlight")
        for style in ("default", "github-dark")
    )
    # Pictures in the notebook's text are relative to its folder.
    notebook_folder = Path(facts["cwd"], facts["notebook"]).parent
    resources = {
        "metadata": {"name": facts["title"], "path": str(notebook_folder)},
        "facts": facts,
        "where": abbreviate_home(facts["cwd"]),
        "summary": _summary(facts),
        "details": {name: to_text(value) for name, value in details.items()},
        "verdict": read_verdict(folder),
        "folder": folder,
        "headline": inline(folder, headline, facts.get("figures", {}).get(headline, "")),
        "simulated": simulated(facts),
        "unanswered": unanswered(facts),
        "style": (TEMPLATES / "style.css").read_text(encoding="utf-8"),
        "highlight": {"light": light, "dark": dark},
    }
    html, _ = ReportExporter().from_notebook_node(notebook, resources)
    html, notes = linked(html, facts["paper"])
    html = with_contents(html.replace(NOTES, notes, 1))
    write_text(folder / "report.html", visible(html))


def with_contents(html: str) -> str:
    """Return the page with ids in its second-level headings, and links to them at `CONTENTS`."""
    links: list[str] = []

    def add_id(heading: re.Match) -> str:
        links.append(f'<li><a href="#section-{len(links)}">{heading[1]}</a></li>')
        return f'<h2 id="section-{len(links) - 1}">{heading[1]}</h2>'

    return HEADING.sub(add_id, html).replace(CONTENTS, "".join(links), 1)


def _summary(facts: dict[str, Any]) -> dict[str, str]:
    """Return the head of a report: model, data, protocol, parameters, date, versions."""
    parameters, versions = facts["parameters"], facts["versions"]
    model, answers = facts.get("model", {}), parameters.get("answers")
    changed = " ".join(f"{name}={format_value(value)}" for name, value in facts["changed"].items())
    sources = [
        f"{row['task']}: {row['rows']:,} rows, {row['source']} ({row['licence']})"
        for row in facts.get("data", [])
    ]
    lines = {
        "Model": to_text(model) if model else parameters.get("model"),
        "Data": "; ".join(sources) or parameters.get("data"),
        "Left out": "; ".join(facts.get("left_out", [])),
        "Answers": answers and f"by {ANSWERS.get(answers, answers)}",
        "Sandbox": facts.get("sandbox"),
        "Protocol": parameters.get("protocol"),
        "Parameters": changed or "defaults",
        "Date": f"{facts['started'][:16].replace('T', ' ')} UTC, {facts['seconds']:.0f} s",
        "Versions": ", ".join(f"{name} {versions[name]}" for name in SHOWN_VERSIONS),
    }
    return {name: value for name, value in lines.items() if value}
