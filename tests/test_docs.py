"""The documentation is complete, its links work, and its pages send no request to other hosts."""

import inspect
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from explorer_helpers import chromium, needs_chromium

from personagap import effects, gap
from personagap.cli import main
from personagap.paths import NOTEBOOKS, ROOT
from personagap.runs.request import Request
from personagap.runs.values import parse_value

SITE = ROOT / "build" / "docs"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
#: Attributes whose address a browser fetches by itself.
FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("link", "href"),
    ("iframe", "src"),
    ("source", "src"),
}


class Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.fetched, self.strong = set(), [], [], set()
        self._tag = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            if (tag, name) in FETCHED:
                self.fetched.append(value)
            elif name == "href":
                self.links.append(value)

    def handle_data(self, data):
        if self._tag == "strong":
            self.strong |= set(data.split(", "))


@pytest.fixture(scope="module")
def site():
    built = SITE / "index.html"
    sources = [*PAGES, *(ROOT / "docs").glob("*.py"), *(ROOT / "lib").rglob("*.py")]
    if not built.exists() or built.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        pytest.skip("no documentation of these sources in build/docs: make docs builds it")
    return {path: Page(path) for path in SITE.rglob("*.html")}


def functions(package):
    found = {name: value for name, value in vars(package).items() if inspect.isfunction(value)}
    return {
        name: value for name, value in found.items() if value.__module__.startswith("personagap")
    }


def described(function):
    """The parameters that a docstring documents."""
    section = re.search(
        r"Parameters\n-+\n(.+?)(\n\n\w+\n---|\Z)", inspect.getdoc(function) or "", re.DOTALL
    )
    lines = re.findall(r"^([*\w, ]+) : ", section[1], re.MULTILINE) if section else []
    return {name for line in lines for name in line.split(", ")}


def test_every_link_works(site):
    lost = []
    for path, page in site.items():
        for link in page.links:
            if re.match(r"https?://[\w.-]+\.\w+(/|$)", link):
                continue  # other hosts: only the syntax is checked, offline
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path
            known = target.exists() and (not anchor or anchor in site[target].ids)
            lost += [] if known else [f"{path.relative_to(SITE)} -> {link}"]
    assert lost == []


def test_no_page_requests_another_host(site):
    asked = {
        link for page in site.values() for link in page.fetched if not link.startswith("data:")
    }
    assert asked and not {link for link in asked if re.match(r"(\w+:)?//", link)}
    styles = [path.read_text(encoding="utf-8") for path in SITE.rglob("*.css")]
    assert styles
    assert not [text for text in styles if re.search(r"""(@import|url\()\s*["']?(\w+:)?//""", text)]


@needs_chromium
def test_pages_are_accessible_on_a_narrow_screen(site):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="install axe-playwright-python"
    )
    found = {}
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        for name in ("index", "costs", "howto/notebooks", "statistics/which", "reference/effects"):
            page.goto((SITE / f"{name}.html").as_uri())
            violations = axe.Axe().run(page).response["violations"]
            found[name] = [
                rule["id"] for rule in violations if rule["impact"] in ("serious", "critical")
            ]
    assert not any(found.values()), found


@needs_chromium
def test_pages_are_as_wide_as_the_window(site):
    with chromium() as browser:
        page = browser.new_page()
        for width in (390, 768, 1024, 1100, 1280, 1366, 1440, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            for name in ("index", "tutorial/persona_effects", "reference/effects"):
                page.goto((SITE / f"{name}.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("package", [effects, gap], ids=["effects", "gap"])
def test_reference_has_every_function_with_its_parameters(site, package):
    name = package.__name__.split(".")[-1]
    page = site[SITE / "reference" / f"{name}.html"]
    assert {f"{package.__name__}.{function}" for function in functions(package)} <= page.ids
    parameters = {each for function in functions(package).values() for each in described(function)}
    assert len(parameters) > 10 and parameters <= page.strong


def test_statistics_pages_say_when_to_use_each_function():
    text = "".join(path.read_text() for path in (ROOT / "docs" / "statistics").glob("*.md"))
    named = set(re.findall(r"\{func\}`~personagap\.(\w+\.\w+)`", text))
    there = {f"effects.{name}" for name in functions(effects)} | {
        f"gap.{name}" for name in functions(gap)
    }
    helpers = {
        "effects.simulate_scores",
        "gap.simulate_ratings",
        "gap.simulate_relevance",
        "gap.confusion_metrics",
    }
    assert named == there - helpers


def commands():
    """The commands in shell blocks with their location; a trailing backslash continues a line."""
    for page in [ROOT / "README.md", *PAGES]:
        for block in re.findall(
            r"^ *```sh\n(.+?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            for line in block.replace("\\\n", " ").splitlines():
                yield page, shlex.split(line, comments=True)


def test_every_command_is_valid():
    found = [(page, words) for page, words in commands() if words[:1] in (["personagap"], ["make"])]
    assert len(found) > 20
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    notebooks = {path.stem: path for path in NOTEBOOKS.rglob("*.ipynb")}
    for page, (program, *words) in found:
        if program == "make":
            assert set(words) <= targets, page
            continue
        command = main
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options, _, _ = command.make_parser(
            command.make_context("", [], resilient_parsing=True)
        ).parse_args(words)
        if notebook := notebooks.get(Path(options.get("notebook") or "").stem):
            # Its parameters exist, and the values have their types:
            Request(
                notebook, {name: parse_value(value) for name, value in options.get("given") or []}
            )
