import numpy as np
import pandas as pd
from prunecast.plotting.sensitivity import APART, draw_sensitivity
from read_back import check, marks

UNITS = pd.DataFrame(
    [("a.attention", "attention", 0.5, 0.3), ("a", "feed-forward", 0.7, 0.7), ("pooler", "layer", 0.9, 0.0)],
    columns=["unit", "kind", "forecast", "measured"],
)


def test_each_unit_is_a_row_with_its_forecast_and_its_measured_ratio() -> None:
    figure = draw_sensitivity(UNITS)
    check(figure, ["forecast", "measured"])
    (panel,) = figure.axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == [
        "a.attention, attention",
        "a, feed-forward",
        "pooler, layer",
    ]
    expected = [(row.forecast, place - APART) for place, row in enumerate(UNITS.itertuples())]
    expected += [(row.measured, place + APART) for place, row in enumerate(UNITS.itertuples())]
    np.testing.assert_allclose(np.concatenate(marks(panel)), expected)
    assert panel.yaxis_inverted()


def test_what_was_only_forecast_has_one_mark() -> None:
    figure = draw_sensitivity(UNITS.assign(measured=np.nan))
    check(figure, ["forecast"])
    assert len(np.concatenate(marks(figure.axes[0]))) == len(UNITS)
