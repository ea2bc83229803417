from dataclasses import astuple

import numpy as np
import pandas as pd
from grids import table
from prunecast.landscape.regimes import cells, learn, with_agreement
from prunecast.plotting import landscape


def _texts(panel) -> list[str]:
    return [text.get_text() for text in panel.texts]


def test_a_diagram_shows_every_figure_and_a_line_between_regimes() -> None:
    found = with_agreement(table(), 0)
    figure = landscape.draw_diagram(found, "epochs")
    error, lmc, cka, regime = figure.axes
    assert _texts(error) == [
        f"{value:.2f}" for value in found.pivot(index="rank", columns="density", values="test_error").to_numpy().flat
    ]
    assert [len(panel.texts) for panel in (lmc, cka, regime)] == [15, 15, 15]
    names = found.pivot(index="rank", columns="density", values="regime").to_numpy()
    borders = (names[1:] != names[:-1]).sum() + (names[:, 1:] != names[:, :-1]).sum()
    assert borders > 0
    assert all(len(panel.lines) == borders for panel in figure.axes)
    assert _texts(regime)[0].startswith(names[0, 0] + "\n")


def test_a_missing_cell_is_hatched_and_has_no_figure() -> None:
    rows = table()
    rows.loc[(rows["density"] == 0.1) & (rows["temperature"] == 8), ["test_error", "lmc", "cka"]] = np.nan
    figure = landscape.draw_diagram(with_agreement(rows, 0), "epochs")
    for panel in figure.axes:
        assert len([text for text in _texts(panel) if text.strip()]) == 14
        assert panel.patch.get_hatch()


def test_boundaries_are_drawn_where_they_were_learned() -> None:
    found = cells(table())
    learned = learn(found)
    figure = landscape.draw_boundaries(found, astuple(learned), [astuple(learned)] * 3)
    vertical, horizontal = figure.axes[0].lines[-2:]
    assert set(vertical.get_xdata()) == {learned.lmc}
    assert set(horizontal.get_ydata()) == {learned.cka}
    assert sum(list(line.get_xdata()) == [learned.lmc] * 2 for line in figure.axes[0].lines) == 4  # 3 thin, 1 thick


def test_schedules_are_lines_through_the_errors() -> None:
    both = cells(pd.concat([table(), table("epochs_constant_rate")]))
    figure = landscape.draw_schedules(both, {"epochs": "falls", "epochs_constant_rate": "stays"})
    assert [panel.get_title() for panel in figure.axes] == ["density 0.05", "density 0.1", "density 0.2"]
    drawn = figure.axes[0].lines[0].get_ydata()
    expected = both.query("temperature_kind == 'epochs' and density == 0.05").sort_values("temperature")
    np.testing.assert_allclose(drawn, expected["test_error"])


def test_regrets_are_marks_with_intervals() -> None:
    rows = pd.DataFrame(
        {"rule": ["a", "b"], "regret": [1.0, 2.0], "low": [0.5, np.nan], "high": [2.0, np.nan], "panel": "all"}
    )
    (panel,) = landscape.draw_regrets(rows, "panel").axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["b", "a"]
    np.testing.assert_allclose(np.asarray(panel.lines[0].get_xdata(), float), [2.0, 1.0])
