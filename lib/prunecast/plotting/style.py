"""One house style for figures: opaque white ground, colours told apart by dashes and markers as well."""

import hashlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from pandas.io.formats.style import Styler

BLUE, ORANGE, GREEN, GREY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#666666",
)  # Okabe and Ito, safe for colour blindness
LINES: dict[str, dict[str, Any]] = {
    "global": {"color": BLUE, "linestyle": "-"},
    "layer": {"color": ORANGE, "linestyle": "--"},
    "random": {"color": GREEN, "linestyle": ":"},
    "lstm": {"color": BLUE, "linestyle": "-"},
    "straight_line": {"color": ORANGE, "linestyle": "--"},
    "mean_curve": {"color": GREEN, "linestyle": "-."},
    "lstm_agreement": {"color": GREEN, "linestyle": ":"},
}
VARIANTS: list[dict[str, Any]] = [
    {"color": GREY, "linestyle": "-", "linewidth": 3},
    {"color": BLUE, "linestyle": "--"},
    {"color": ORANGE, "linestyle": "-."},
    {"color": GREEN, "linestyle": ":"},
]
COLUMNS = 3


def use_style() -> None:
    """Set sizes, colours and file format for all figures of a page: SVG, the same bytes for the same data."""
    set_matplotlib_formats("svg", metadata={"Date": None})
    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "svg.hashsalt": "prunecast",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }
    )


def grid_of_panels(
    titles: list[str], height: float = 2.3, columns: int = COLUMNS
) -> tuple[Figure, Iterator[tuple[str, Axes]]]:
    """A figure with one titled panel each, at most `columns` in a row, axes shared; unused panels are removed."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    size = (2.6 * columns + 0.4, height * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, sharex=True, squeeze=False)
    panels = list(axes.flat)
    for spare in panels[len(titles) :]:
        spare.remove()
    for title, panel in zip(titles, panels, strict=False):
        panel.set_title(title, fontsize=10)
    return figure, zip(titles, panels, strict=False)


def draw_level(panel: Axes, height: float, label: str) -> None:
    """A thin line across a panel, such as the majority class."""
    panel.axhline(height, color=GREY, linewidth=0.8, label=label)


def legend_above(figure: Figure) -> None:
    """One legend for all panels above them, each label once."""
    found: dict[str, Any] = {}
    for panel in figure.axes:
        handles, labels = panel.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    _ = figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=min(4, len(found)))


def table(frame: pd.DataFrame, precision: int = 3) -> HTML:
    """A table for a page: names without underscores, decimals cut to `precision`, an empty cell for what is missing."""
    plain = frame.rename(columns=lambda name: str(name).replace("_", " "))
    plain.index.names = [None] * frame.index.nlevels
    plain.columns.name = None
    name = hashlib.sha256(plain.to_csv().encode()).hexdigest()[:8]  # by default a random one
    styled = Styler(plain, uuid=name, cell_ids=False).format(precision=precision, thousands=" ", na_rep="")
    return HTML(styled.format_index(precision=2, axis=0).to_html())  # a Styler would print its address


def normal_density(width: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions from -width to width and the standard normal density there."""
    positions = np.linspace(-width, width, 201)
    return positions, np.exp(-(positions**2) / 2) / np.sqrt(2 * np.pi)
