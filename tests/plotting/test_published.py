import numpy as np
import pandas as pd
from prunecast.plotting import published
from read_back import check, marks

COLUMNS = ["panel", "label", "unit", "published", "ours", "series"]


def test_each_figure_has_its_row_and_percentages_share_an_axis() -> None:
    figures = [
        ("sparsity_pct", "fc_2, beta 1", "per cent", 37.0, 37.5, "ours"),
        ("accuracy_pct", "fc_2, beta 1", "per cent", 94.0, 93.0, "ours"),
        ("sparsity_pct", "fc_5, beta 1", "per cent", 0.0, 2.0, "ours"),
    ]
    figure = published.draw_published(pd.DataFrame(figures, columns=COLUMNS))
    check(figure, ["published", "ours"], ("sparsity", "accuracy"))
    sparsity, accuracy = figure.axes
    np.testing.assert_array_equal(marks(sparsity), [[(37.0, 0), (0.0, 1)], [(37.5, 0), (2.0, 1)]])
    np.testing.assert_array_equal(marks(accuracy), [[(94.0, 0)], [(93.0, 0)]])
    assert [tick.get_text() for tick in sparsity.get_yticklabels()] == ["fc 2, beta 1", "fc 5, beta 1"]
    assert sparsity.yaxis_inverted()
    assert sparsity.get_xlim() == accuracy.get_xlim()
    assert sparsity.get_xlim()[0] < 0
    assert sparsity.get_xlim()[1] > 94
    assert {panel.get_xlabel() for panel in figure.axes} == {"per cent"}


def test_other_units_are_divided_by_the_published_figure() -> None:
    figures = [
        ("cost", "operations_billion: original", "billions", 48.0, 4.8, "ours"),
        ("cost", "energy_joule: original", "J", 30.0, 150.0, "ours"),
        ("correlation", "cola_mcc", "correlation", 0.5, -0.4, "ours"),
    ]
    figure = published.draw_published(pd.DataFrame(figures, columns=COLUMNS))
    check(figure, ["published", "ours"], ("cost", "correlation"))
    cost, correlation = figure.axes
    np.testing.assert_allclose(marks(cost), [[(1, 0), (1, 1)], [(0.1, 0), (5, 1)]])
    assert (cost.get_xscale(), cost.get_xlabel()) == ("log", "ours over published, logarithmic")
    assert [tick.get_text() for tick in cost.get_yticklabels()] == ["operations: original", "energy: original"]
    np.testing.assert_array_equal(marks(correlation), [[(0.5, 0)], [(-0.4, 0)]])
    assert (correlation.get_xscale(), correlation.get_xlabel()) == ("linear", "correlation")


def test_two_series_of_ours_share_the_row_of_their_label() -> None:
    figures = [
        ("rank", label, "correlation", printed, ours, series)
        for label, printed, of in (("graph", 0.3, (0.3, 0.4)), ("taylor", -0.1, (0.1, 0.2)))
        for series, ours in zip(("recomputed", "measured"), of, strict=True)
    ]
    figure = published.draw_published(pd.DataFrame(figures, columns=COLUMNS))
    check(figure, ["published", "recomputed", "measured"], ("rank",))
    printed, recomputed, measured = marks(figure.axes[0])
    assert {tuple(place) for place in printed} == {(0.3, 0), (-0.1, 1)}
    np.testing.assert_array_equal(recomputed, [(0.3, 0), (0.1, 1)])
    np.testing.assert_array_equal(measured, [(0.4, 0), (0.2, 1)])
