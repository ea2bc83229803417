"""The explorer of the rendered book: the surrogate in JavaScript, its controls, and files of a reader's own."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from products import HTML, missing_book
from prunecast import paths, tables
from prunecast.forecasting import pretrained, report
from prunecast.surrogates import features

pytestmark = [pytest.mark.browser, missing_book]
LINE = "document.querySelector('#forecast-explorer .forecast').getAttribute('points')"
DOCUMENT: dict[str, Any] = {
    "format": report.FORMAT, "checkpoint": "my_model", "dense_accuracy": 0.9, "majority_accuracy": 0.5, "warnings": [],
    "curve": [
        {"scope": "layer", "sparsity": at / 10, "predicted": 0.9 - 0.04 * at, "lower": 0.4, "upper": 0.95}
        for at in range(11)
    ],
}  # fmt: skip


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.goto((HTML / "explorer.html").as_uri())
    tab.wait_for_selector("#forecast-explorer .forecast")
    yield tab
    context.close()


def _said(page: Any) -> str:
    return str(page.inner_text("#forecast-explorer [role=status]"))


def _give(page: Any, content: str, name: str = "own.json") -> None:
    page.set_input_files("#explorer-file", {"name": name, "mimeType": "application/json", "buffer": content.encode()})
    page.wait_for_timeout(100)


def test_the_script_forecasts_and_recommends_what_the_package_does(page: Any) -> None:
    trained, study = pretrained.load(), paths.MEASURED / "after_freeze"
    models, sweeps, signals = (tables.read(name, study) for name in ("models", "sweeps", "signals"))
    truth = features.curves_on("percentile", sweeps, models, signals)
    hidden = truth.knowing(np.zeros(truth.accuracy.shape, bool))
    predicted = dict(zip(truth.names, trained.surrogate.predict(hidden).predicted, strict=True))
    answers = page.evaluate("prunecast.curves.map(c => [c.model, c.scope, prunecast.forecast(c)])")
    assert len(answers) == len(truth.names) >= 20
    for model, scope, forecast in answers:
        np.testing.assert_allclose(forecast, predicted[model, scope], atol=1e-5)
    for epsilon in (0.005, 0.013, 0.05, 0.1):
        script = (
            f"prunecast.curves.map(c => [c.model, c.scope, prunecast.recommended(c, prunecast.forecast(c), {epsilon})])"
        )
        recommended = dict(zip(truth.names, trained.recommended(hidden, epsilon), strict=True))
        for model, scope, ratio in page.evaluate(script):
            assert ratio == pytest.approx(recommended[model, scope], abs=1e-5)


def test_the_controls_work_by_keyboard_alone_and_answer_within_50_ms(page: Any) -> None:
    page.keyboard.press("Tab")
    for _ in range(200):
        if page.evaluate("document.activeElement.id") == "explorer-epsilon":
            break
        page.keyboard.press("Tab")
    before, line = _said(page), "document.querySelector('#forecast-explorer .recommended').getAttribute('x1')"
    place = float(page.evaluate(line))
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert _said(page) != before
    assert float(page.evaluate(line)) > place
    taken = page.evaluate(
        "(() => { const input = document.getElementById('explorer-epsilon'), start = performance.now();"
        "for (let i = 0; i < 10; i++) { input.value = 0.01 + i / 200; input.dispatchEvent(new Event('input')); }"
        "return (performance.now() - start) / 10; })()"
    )
    assert taken < 50


def test_another_model_and_another_number_of_classes_change_the_forecast(page: Any) -> None:
    lines = [page.evaluate(LINE)]
    page.select_option("#explorer-model", index=2)
    lines.append(page.evaluate(LINE))
    page.evaluate("document.querySelectorAll('#forecast-explorer details').forEach(details => details.open = true)")
    page.fill("#explorer-classes", "100")
    lines.append(page.evaluate(LINE))
    assert len(set(lines)) == 3
    assert "Warning: classes is outside 2 to 77" in _said(page)
    page.fill("#explorer-classes", "0")
    assert _said(page) == "Classes and layers are numbers of at least one."
    assert page.evaluate(LINE) == lines[-1]


def test_a_forecast_of_ones_own_is_drawn_with_its_table(page: Any) -> None:
    _give(page, json.dumps(DOCUMENT))
    assert _said(page).startswith("my model, layer scope: to lose at most 0.010")
    cells = page.evaluate("Array.from(document.querySelectorAll('#forecast-explorer td'), cell => cell.textContent)")
    assert len(cells) == 2 * 5
    assert cells[5:7] == ["100 %", "0.500"]
    page.select_option("#explorer-scope", "global")
    assert _said(page) == "This file holds no forecast in that scope."


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is no JSON"),
        ("[]", "it holds no forecast of prunecast predict"),
        (json.dumps(DOCUMENT | {"format": 99}), "it is of format 99, and this page reads format 1"),
        (json.dumps(DOCUMENT | {"dense_accuracy": "high"}), "it holds a value that is no number"),
        (json.dumps(DOCUMENT | {"curve": []}), "it holds no forecast of prunecast predict"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence_and_the_picture_stays(page: Any, content: str, why: str) -> None:
    before = page.evaluate(LINE)
    _give(page, content, "other.json")
    assert _said(page) == f"other.json was not read: {why}."
    assert page.evaluate(LINE) == before


def test_without_javascript_the_page_says_so_and_shows_a_figure(browser: Any) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    tab = context.new_page()
    tab.goto((HTML / "explorer.html").as_uri())
    assert "The explorer needs JavaScript" in tab.inner_text("#forecast-explorer")
    assert tab.locator("article img").count() == 1
    context.close()
