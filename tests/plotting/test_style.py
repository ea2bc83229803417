import base64
import html
import re

import matplotlib as mpl
import pandas as pd
import pytest
import seaborn as sns
from prunecast.plotting import style


def test_a_page_gets_the_palette_of_seaborn_on_opaque_white() -> None:
    assert mpl.rcParams["axes.prop_cycle"].by_key()["color"][: len(style.PALETTE)] == [
        mpl.colors.to_rgb(color) for color in style.PALETTE
    ]
    assert sns.color_palette("colorblind").as_hex() == style.PALETTE
    assert mpl.colors.to_rgba(mpl.rcParams["figure.facecolor"]) == (1, 1, 1, 1)
    assert mpl.rcParams["svg.hashsalt"] == "prunecast"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sst2_minilm", "sst2 minilm"),
        ("lstm_agreement", "LSTM agreement"),
        ("nsga2", "NSGA-II"),
        ("flops", "operations"),
    ],
)
def test_names_are_said_in_words(name: str, said: str) -> None:
    assert style.words(name) == said


def test_a_table_has_words_in_place_of_names_and_keeps_its_numbers() -> None:
    index = pd.MultiIndex.from_tuples([("sst2_minilm", 1), ("cola_minilm", 2)], names=["model", "batch"])
    columns = {"chosen_by": ["at_random", None], "size_bytes": [12345678901, 6], "learning_rate": [3e-4, 5e-5]}
    columns |= {"low": [0.12345, float("nan")]}
    text = style.table(pd.DataFrame(columns, index=index), precision=2).data
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", text)
    assert [cell for cell in cells if cell and cell != "&nbsp;"] == [
        "chosen by", "size, MB", "learning rate, ten-thousandths", "low",
        "sst2 minilm", "1", "at random", f"12{style.THIN_SPACE}345.68", "3.00", "0.12",
        "cola minilm", "2", "0.00", "0.50",
    ]  # fmt: skip


def test_headers_on_two_levels_are_words_on_both() -> None:
    columns = pd.MultiIndex.from_tuples([("latency_ms_median", "at_rest"), ("latency_ms_median", "busy")])
    text = style.table(pd.DataFrame([[1.0, 2.0]], columns=columns)).data
    assert re.findall(r"<th[^>]*col_heading[^>]*>([^<]+)</th>", text) == ["latency, ms", "at rest", "busy"]


def test_numbers_too_small_for_a_unit_are_not_scaled() -> None:
    text = style.table(pd.DataFrame({"parameters": [840, 99_999], "size_bytes": [10, 100_000]}), precision=1).data
    cells = [cell for cell in re.findall(r"<t[hd][^>]*>([^<]+)</t[hd]>", text) if cell != "&nbsp;"]
    assert cells == ["parameters", "size, MB", "0", "840", "0.0", "1", f"99{style.THIN_SPACE}999", "0.1"]


@pytest.mark.parametrize(("rows", "folded"), [(20, ""), (23, "3 more rows")])
def test_rows_beyond_twenty_are_folded(rows: int, folded: str) -> None:
    text = style.table(pd.DataFrame({"value": range(rows)})).data
    assert re.findall(r"<td[^>]*>(\d+)</td>", text) == [str(row) for row in range(rows)]
    assert re.findall(r"<summary>(.*)</summary>", text) == [folded] * bool(folded)
    assert text.partition("<details>")[0].count("<td") == 20


def test_a_picture_holds_its_image_and_says_what_it_shows() -> None:
    figure = style.finish(
        style.draw_series(pd.DataFrame({"series": "a", "x": [0, 1], "y": [0, 1]}), "x", "y"), "x", "y"
    )
    text = style.picture(figure, 'a "rising" line').data
    source, said = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', text)[0]
    assert base64.b64decode(source).startswith(b"\x89PNG")
    assert html.unescape(said) == 'a "rising" line'


def test_columns_become_series_and_the_others_stay() -> None:
    table = pd.DataFrame({"model": ["a", "b"], "pruned": [1, 2], "dense": [3, 4]})
    rows = style.long_form(table, {"pruned": "after", "dense": "before"})
    assert rows.to_dict("list") == {
        "model": ["a", "b", "a", "b"],
        "series": ["after", "after", "before", "before"],
        "value": [1, 2, 3, 4],
    }


def test_a_long_legend_stays_inside_the_figure() -> None:
    names = [f"a series with a long name, number {number}" for number in range(6)]
    rows = pd.DataFrame({"series": names, "x": range(6), "y": range(6)})
    figure = style.finish(style.draw_series(rows, "x", "y", kind="scatter"), "x", "y")
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
