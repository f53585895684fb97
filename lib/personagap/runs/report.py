"""``report.html``: an executed notebook as one page that opens offline and runs no script."""

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

from personagap.leaving import visible
from personagap.paths import abbreviate_home
from personagap.runs.files import write_text
from personagap.runs.folder import read_facts, read_verdict, simulated, unanswered
from personagap.runs.request import TITLE
from personagap.runs.terms import linked
from personagap.runs.values import format_value
from personagap.runs.vector import inline
from personagap.spelling import said

TEMPLATES = Path(__file__).parent / "templates"
#: Figures before tables, and nothing that needs a script.
FORMATS = ["image/png", "image/jpeg", "image/svg+xml", "text/html", "text/markdown", "text/plain"]
#: Markup that an output may bring; anything else in it is shown as text.
TAGS = bleach.ALLOWED_TAGS | {
    *["br", "dd", "details", "div", "dl", "dt", "h1", "h2", "h3", "h4", "hr", "img", "p", "pre"],
    *["small", "span", "sub", "summary", "sup", "u"],
    *["caption", "col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "wbr"],
}
#: Its attributes, beside links and pictures: none that runs a script, nor a style, which could draw
#: over the page.
ATTRIBUTES = ["alt", "class", "colspan", "dir", "height", "lang", "rowspan", "scope"]
ATTRIBUTES += ["title", "width"]
#: How a run's answers were had, in words.
ANSWERS = {
    "generate": "generation: texts sampled from the model, then graded",
    "likelihood": "likelihood: the probability of the right choice among the choices, no sampling",
}
#: Whose versions the head of a report tells.
TOLD = ("personagap", "python", "torch")
#: Where what a page explains goes.
NOTES = "<dt>notes</dt>"
#: Where the list of contents goes, and what it lists.
CONTENTS = "<li>contents</li>"
HEADING = re.compile("<h2>(.*?)</h2>")


class _Renderer(IPythonRenderer):
    """Markdown with its formulas as MathML, which browsers draw without a script."""

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def image(self, text: str, url: str, title: str | None = None) -> str:
        html = super().image(text, url, title)
        # A picture from elsewhere would be a request.
        return html if 'src="data:' in html else html_escape(text)


class ReportExporter(HTMLExporter):
    """nbconvert's HTML exporter with our template: no script, no request, code folded."""

    def __init__(self):
        super().__init__(template_name="report", extra_template_basedirs=[str(TEMPLATES)])
        self.config.NbConvertBase.display_data_priority = FORMATS
        for function in (sanitized, markdown_output, inline):
            self.register_filter(function.__name__, function)

    @pass_context
    def markdown2html(self, context, source):
        """A cell's text is the notebook author's, so its HTML stands."""
        path = context["resources"]["metadata"]["path"]
        attachments = context["cell"].get("attachments", {})
        how: dict[str, Any] = {"escape": False, "embed_images": True, "exclude_anchor_links": True}
        renderer = _Renderer(path=path, attachments=attachments, **how)
        return MarkdownWithMath(renderer=renderer).render(source)


def mathml(formula: str, display: str) -> str:
    """A LaTeX formula as MathML (``display`` "inline" or "block"); one that cannot be converted as
    its source.
    """
    try:
        return convert(formula, display=display)
    except Exception:
        # The converter raises whatever its parser trips over.
        return f"<code>{bleach.clean(formula, tags=set())}</code>"


def markdown_output(source: str) -> str:
    """An output of type ``text/markdown``: it may quote a model, so HTML in it is text."""
    renderer = _Renderer(escape=True, allow_harmful_protocols=False)
    return MarkdownWithMath(renderer=renderer).render(source)


def sanitized(html: str) -> str:
    """An output of type ``text/html`` without scripts, style sheets, event handlers and foreign
    pictures.
    """
    # bleach drops a tag and keeps what is in it: the rules of a style sheet would stand as text.
    html = re.sub(r"<style\b.*?</style>", "", html, flags=re.DOTALL | re.IGNORECASE)
    protocols = {"http", "https", "mailto", "data"}
    return bleach.clean(html, tags=TAGS, attributes=_allowed, protocols=protocols)


def _allowed(tag: str, name: str, value: str) -> bool:
    # Links may lead anywhere, as nothing follows them unasked; a picture must be in the page.
    if name in ("href", "src"):
        places = {"a": ("http:", "https:", "mailto:", "#"), "img": ("data:image/",)}
        return value.startswith(places.get(tag, ()))
    return name in ATTRIBUTES


def write(folder: Path, **facts: Any) -> None:
    """Render ``notebook.ipynb`` of a run folder to ``report.html``, with ``facts`` over those of
    ``run.json``.

    The page's content security policy forbids scripts and requests, so even text that slipped
    through unescaped could do neither.
    """
    # The end of the run is recorded after its report, so that a finished run always has one.
    facts = read_facts(folder) | facts
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    for cell in notebook.cells:
        # The head of the page shows it.
        if cell.cell_type == "markdown" and TITLE.search(cell.source):
            cell.source = TITLE.sub("", cell.source, count=1)
            break
    headline, details = facts.get("headline"), facts["parameters"] | facts["versions"]
    light, dark = (
        HtmlFormatter(style=style).get_style_defs(".highlight")
        for style in ("default", "github-dark")
    )
    # Pictures that its text names lie beside it.
    folder_of_notebook = Path(facts["cwd"], facts["notebook"]).parent
    resources = {
        "metadata": {"name": facts["title"], "path": str(folder_of_notebook)},
        "facts": facts,
        "where": abbreviate_home(facts["cwd"]),
        "summary": _summary(facts),
        "details": {name: said(value) for name, value in details.items()},
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
    """The page with its second-level headings numbered for links, which stand at `CONTENTS`."""
    links: list[str] = []

    def linked(heading: re.Match) -> str:
        links.append(f'<li><a href="#section-{len(links)}">{heading[1]}</a></li>')
        return f'<h2 id="section-{len(links) - 1}">{heading[1]}</h2>'

    return HEADING.sub(linked, html).replace(CONTENTS, "".join(links), 1)


def _summary(facts: dict[str, Any]) -> dict[str, str]:
    """What the head of a report says: model, data, protocol, parameters, date, versions."""
    asked, versions, model = facts["parameters"], facts["versions"], facts.get("model", {})
    changed = " ".join(f"{name}={format_value(value)}" for name, value in facts["changed"].items())
    sources = [
        f"{row['task']}: {row['rows']:,} rows, {row['source']} ({row['licence']})"
        for row in facts.get("data", [])
    ]
    lines = {
        "Model": said(model) if model else asked.get("model"),
        "Data": "; ".join(sources) or asked.get("data"),
        "Left out": "; ".join(facts.get("left_out", [])),
        "Answers": asked.get("answers") and f"by {ANSWERS.get(asked['answers'], asked['answers'])}",
        "Sandbox": facts.get("sandbox"),
        "Protocol": asked.get("protocol"),
        "Parameters": changed or "defaults",
        "Date": f"{facts['started'][:16].replace('T', ' ')} UTC, {facts['seconds']:.0f} s",
        "Versions": ", ".join(f"{name} {versions[name]}" for name in TOLD),
    }
    return {name: value for name, value in lines.items() if value}
