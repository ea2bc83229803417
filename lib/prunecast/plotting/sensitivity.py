"""Figure of the sensitivity of the units of a model."""

import pandas as pd
from matplotlib.figure import Figure

from prunecast.plotting.style import draw_series, finish, long_form

APART = 0.15  # of the forecast from the measured mark, in rows


def draw_sensitivity(units: pd.DataFrame) -> Figure:
    """Draw the largest ratio within epsilon of each unit, a row a unit, in the order of the model from the top.

    Args:
        units: One row a unit, with the columns unit, kind, and forecast and measured (fractions; all or none of the
            measured ones are empty).

    Returns:
        The figure.
    """
    labels = units["unit"] + ", " + units["kind"]
    found = units[["forecast", "measured"]].assign(place=range(len(units)))
    rows = long_form(found, {"forecast": "forecast", "measured": "measured"}).dropna()
    rows["place"] += rows["series"].map({"forecast": -APART, "measured": APART})
    height = 0.3 * len(units) + 0.6
    grid = draw_series(rows, "value", "place", kind="scatter", height=height, aspect=5.5 / height)
    grid.ax.set(yticks=range(len(units)), xlim=(-0.03, 1.03), ylim=(len(units) - 0.5, -0.5))
    grid.ax.set_yticklabels(labels)
    return finish(grid, "largest ratio within epsilon, share of the weights of the unit", "")
