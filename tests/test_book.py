"""The rendered book, as a reader without a network opens it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import axe_playwright_python
import jupytext
import pytest
import yaml
from products import HTML, missing_book
from prunecast import paths
from prunecast.workflow import pages

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
PAGES = sorted(path.name for path in HTML.glob("*.html"))
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
WIDER = """Array.from(document.querySelectorAll("article table, article pre, article img")).filter(part => {
  const around = part.closest(".cell_output, .cell_input, article").getBoundingClientRect();
  const over = part.getBoundingClientRect().width - around.width;
  return Math.max(part.scrollWidth - part.clientWidth, over) > 1;
}).map(part => part.tagName + " " + (part.innerText || part.alt || "").slice(0, 60))"""
PAPER = {"width": 680, "height": 1000}  # A4 within margins of 15 mm
CUT = """Array.from(document.querySelectorAll("article table, article pre, article img, article svg")).filter(part => {
  const over = part.getBoundingClientRect().right - part.closest("article").getBoundingClientRect().right;
  return Math.max(part.scrollWidth - part.clientWidth, over) > 1;
}).map(part => part.tagName + " " + (part.innerText || part.alt || "").slice(0, 60))"""
IDENTIFIERS = """Array.from(document.querySelectorAll(".cell_output td, .cell_output th"))
  .map(cell => cell.innerText).filter(text => text.includes("_"))"""
KNOWN_KEYS = {
    "title", "author", "copyright", "only_build_toc_files", "execute", "bibtex_bibfiles", "html", "launch_buttons",
    "repository", "sphinx",
}  # fmt: skip


def test_the_configuration_has_no_key_that_would_be_silently_ignored():
    from jupyter_book.config import get_default_sphinx_config, validate_yaml  # noqa: F401

    config = yaml.safe_load((paths.ROOT / "_config.yml").read_text())
    assert set(config) <= KNOWN_KEYS
    assert config["execute"] == {"execute_notebooks": "off"}
    assert config["sphinx"]["recursive_update"] is True
    validate_yaml(config, raise_on_errors=True)


@pytest.mark.slow
def test_the_buttons_of_a_published_book_open_the_notebooks_that_binder_writes(tmp_path):
    """With the lines that CONTRIBUTING.md gives, in a book of one notebook page and one of prose."""
    config = yaml.safe_load((paths.ROOT / "_config.yml").read_text(encoding="utf-8"))
    (lines,) = re.findall(r"```yaml\n(.*?)```", (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    source = tmp_path / "source"
    shutil.copytree(paths.ROOT / "book" / "_static", source / "_static")
    (source / "references.bib").touch()
    (source / "index.md").write_text("# Prose\n", encoding="utf-8")
    (source / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n  - file: campaign\n", encoding="utf-8")
    jupytext.write(jupytext.read(paths.NOTEBOOKS / "campaign.py"), source / "campaign.ipynb")
    program, links = Path(sys.executable).with_name("jupyter-book"), []
    for settings in (config, config | yaml.safe_load(lines)):
        (source / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        subprocess.run([program, "build", "-q", "--all", "--path-output", tmp_path, source], check=True)
        html = {page: (tmp_path / "_build" / "html" / f"{page}.html").read_text() for page in ("index", "campaign")}
        links.append({page: re.findall(r'href="(https://mybinder[^"]+)"', text) for page, text in html.items()})
    without, published = links
    assert without == {"index": [], "campaign": []}
    address = "https://mybinder.org/v2/gh/OWNER/prunecast/main?urlpath=lab/tree/notebooks/campaign.ipynb"
    assert published == {"index": [], "campaign": [address]}


def test_every_page_is_in_the_table_of_contents():
    contents = yaml.safe_load((paths.ROOT / "_toc.yml").read_text())
    chapters = [chapter for part in contents["parts"] for chapter in part["chapters"]]
    named = {
        contents["root"],
        *(page["file"] for chapter in chapters for page in [chapter, *chapter.get("sections", [])]),
    }
    prose = {path.stem for path in (paths.ROOT / "book").glob("*.md")}
    assert named == prose | set(pages.pages()) | {"tables"}


def test_the_drawn_framework_links_only_to_pages_that_exist():
    text = (paths.ROOT / "book" / "framework.md").read_text()
    drawn, named = (set(re.findall(pattern, text)) for pattern in (r'href="([^"]+)\.html"', r"\{doc}`([^`]+)`"))
    assert drawn
    assert named
    assert drawn | named <= {path.stem for path in (paths.ROOT / "book").glob("*.md")} | set(pages.pages())


@pytest.mark.browser
@missing_book
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_a_network_an_error_or_a_sideways_scroll(browser, page, size):
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    tab = context.new_page()
    complaints, requested = [], []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requested.append(request.url))
    tab.goto((HTML / page).as_uri(), wait_until="load")
    tab.wait_for_timeout(300)
    assert not complaints
    assert not [url for url in requested if urlparse(url).scheme in {"http", "https"}]
    broken = "Array.from(document.images).filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
    assert tab.evaluate(broken) == []
    without_text = (
        "Array.from(document.querySelectorAll('article img')).filter(i => !i.alt || i.alt.length < 20).length"
    )
    assert tab.evaluate(without_text) == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    if size == "desktop":
        tab.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        assert tab.evaluate(WIDER) == []
        assert tab.evaluate(IDENTIFIERS) == []
    context.close()


@pytest.mark.browser
@missing_book
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("api_") or page == "api_cost.html"])
def test_a_page_has_no_serious_barrier(browser, page, scheme):
    """By axe, on the rules of WCAG 2.1 AA; of the API pages, which are made alike, one."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, offline=True)
    tab = context.new_page()
    tab.goto((HTML / page).as_uri(), wait_until="load")
    tab.wait_for_timeout(300)  # colours change gradually
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa']})")
    barriers = [
        (each["id"], each["nodes"][0]["html"])
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
    assert barriers == []
    context.close()


@pytest.mark.browser
@missing_book
@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("api_")])
def test_a_printed_page_is_the_article_alone_in_the_light_theme_and_nothing_of_it_is_cut(browser, page):
    context = browser.new_context(viewport=PAPER, color_scheme="dark", offline=True)
    tab = context.new_page()
    tab.goto((HTML / page).as_uri(), wait_until="load")
    tab.emulate_media(media="print")
    theme = "document.documentElement.dataset.theme"
    assert tab.evaluate(f"dispatchEvent(new Event('beforeprint')), {theme}") == "light"
    for left_out in (".bd-sidebar-primary", ".bd-header-article", "article details.hide", "article .sd-dropdown"):
        assert tab.locator(left_out).filter(visible=True).count() == 0, left_out
    assert tab.evaluate(CUT) == []
    assert tab.evaluate(f"dispatchEvent(new Event('afterprint')), {theme}") == "dark"
    context.close()


@pytest.mark.browser
@missing_book
def test_no_link_inside_the_book_is_broken():
    identifiers = {page: set(re.findall(r'\bid="([^"]+)"', (HTML / page).read_text())) for page in PAGES}
    for page in PAGES:
        for link in re.findall(r'<a [^>]*href="([^"]+)"', (HTML / page).read_text()):
            parts = urlparse(link)
            if parts.scheme:
                continue
            target = page if not parts.path else unquote(parts.path)
            assert (HTML / target).exists(), f"{page} links to {link}"
            if parts.fragment and target in identifiers:
                assert unquote(parts.fragment) in identifiers[target] | {"", "top"}, f"{page} links to {link}"


@pytest.mark.browser
@missing_book
def test_the_headline_figures_are_those_of_the_tables():
    import pandas as pd

    index = " ".join(re.sub(r"<[^>]+>", "", (HTML / "index.html").read_text()).split())
    tables = paths.ROOT / "runs" / "laptop" / "tables"
    sweeps = pd.read_csv(tables / "sweeps.csv")
    assert f"{sweeps['model'].nunique()} models were trained here" in index
    speed = pd.read_csv(paths.MEASURED / "benchmarks" / "speed.csv").set_index(["scope", "engine"])["ratio"]
    assert f"{speed['global', 'adaptive']:.0f} times less than the common way in global scope" in index
    forecasts = pd.read_csv(paths.MEASURED / "campaign" / "predictions.csv.gz")
    wanted = ["points", "leave_one_model_out", "leave_one_architecture_out"]
    judged = (forecasts["surrogate"] == "lstm") & forecasts["protocol"].isin(wanted) & forecasts["measured"]
    predictions = forecasts[judged]
    keys = [predictions[name] for name in ("protocol", "model", "scope")]
    by_curve = (predictions["predicted"] - predictions["accuracy"]).abs().groupby(keys).mean()
    for error in by_curve.groupby("protocol").mean():
        assert f"{error:.4f}" in index


@pytest.mark.browser
@missing_book
def test_no_path_of_the_machine_is_in_the_book():
    for path in (*HTML.glob("*.html"), *HTML.glob("_sources/*")):
        assert str(Path.home()) not in path.read_text(errors="replace")
        assert str(paths.ROOT) not in path.read_text(errors="replace")
