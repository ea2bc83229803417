"""What a figure shows, read back from its axes."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


def lines(panel: Axes) -> list[np.ndarray]:
    """Points of each line, (points, 2), in the order drawn; legend entries without data are left out."""
    points = [np.asarray(line.get_xydata()) for line in panel.lines]
    return [of_line for of_line in points if len(of_line)]


def marks(panel: Axes) -> list[np.ndarray]:
    """Places of the marks of each scatter, (marks, 2), in the order drawn."""
    places = [np.asarray(scatter.get_offsets()) for scatter in panel.collections]
    return [of_scatter for of_scatter in places if len(of_scatter)]


def labels(figure: Figure) -> list[str]:
    """Labels of the legend, which is the only one, in its order."""
    assert not [panel for panel in figure.axes if panel.get_legend()]
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def check(figure: Figure, wanted: list[str], titles: tuple[str, ...] = ("",)) -> None:
    """Check legend, titles, ground and names, and that no two entries of the legend differ by their hue alone."""
    assert labels(figure) == wanted
    assert tuple(panel.get_title() for panel in figure.axes) == titles
    parts: list[Any] = [figure, *figure.axes]
    assert {part.get_facecolor() for part in parts} == {to_rgba("white")}
    ticks = [tick.get_text() for panel in figure.axes for tick in (*panel.get_xticklabels(), *panel.get_yticklabels())]
    texts = [text.get_text() for part in parts for text in part.texts]
    assert "_" not in "".join([*wanted, *titles, *ticks, *texts, figure.get_supxlabel(), figure.get_supylabel()])
    shapes = [_shape(handle) for handle in figure.legends[0].legend_handles]
    assert len(set(shapes)) == len(shapes)


def _shape(handle: Any) -> tuple[Any, ...]:
    """All that distinguishes an entry of the legend from others but its hue."""
    if not isinstance(handle, Line2D):
        return type(handle).__name__, handle.get_alpha(), str(getattr(handle, "get_paths", list)())
    face = to_rgba(handle.get_markerfacecolor())
    dashes = handle._dash_pattern  # type: ignore[attr-defined]
    return handle.get_linestyle() == "None", str(dashes), handle.get_linewidth(), handle.get_marker(), face[3]
