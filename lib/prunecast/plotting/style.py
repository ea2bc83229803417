"""The common style of all figures and tables, and what every figure is drawn with."""

import base64
import functools
import hashlib
import html
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from pandas.io.formats.style import Styler

PALETTE, MARKERS = sns.color_palette("colorblind").as_hex(), ["o", "^", "s", "D", "v", "P", "X"]
BLUE, ORANGE, GREEN = PALETTE[:3]
GREY, LIGHT_GREY = "#666666", "#bbbbbb"
LEVEL: dict[str, Any] = {"color": GREY, "linestyle": "-", "linewidth": 0.8}  # a thin line to compare with
TERMS = {"_": " ", "lstm": "LSTM", "nsga2": "NSGA-II", "cpu": "CPU", "flops": "operations"}
HEADERS = {  # of columns whose names are no words, or lack the unit
    "memory_mb": "memory, MB",
    "latency_ms_median": "latency, ms",
    "latency_ratio": "latency at batch 1, share of the dense model's",
    "energy_j": "energy, J per 1,000",
    "seconds": "time, s",
    "mae": "mean absolute error",
    "f1": "F1",
    "matthews": "Matthews correlation",
}
SCALES = {  # what a column is divided by, where its largest value is a tenth of that or more; its header then, and else
    "parameters": (1e6, "parameters, millions", "parameters"),
    "parameters_nonzero": (1e6, "nonzero parameters, millions", "nonzero parameters"),
    "prunable_parameters": (1e6, "prunable parameters, millions", "prunable parameters"),
    "size_bytes": (1e6, "size, MB", "size, bytes"),
    "flops_dense": (1e6, "operations, millions", "operations"),
    "flops_effective": (1e6, "effective operations, millions", "effective operations"),
    "learning_rate": (1e-4, "learning rate, ten-thousandths", "learning rate"),
}
FLAT: dict[str, Any] = {"height": 1.9, "aspect": 1.37}  # panels, in inches and width over height
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"  # between thousands
IN_SIGHT = 20  # rows of a table that are not folded
TALL: dict[str, Any] = {"height": 2.8, "aspect": 0.93}


def use_style() -> None:
    """Set sizes, colours and file format for all figures of a page: SVG, the same bytes for the same data."""
    set_matplotlib_formats("svg", metadata={"Date": None})  # type: ignore[no-untyped-call]
    lines = {"lines.linewidth": 1.8, "grid.linewidth": 0.6, "grid.color": "#dddddd", "axes.edgecolor": GREY}
    own = lines | {"svg.hashsalt": "prunecast", "figure.labelsize": "medium"}
    sns.set_theme("paper", "whitegrid", "colorblind", font="DejaVu Sans", rc=own)


def words(name: str) -> str:
    """Write a name from a table as a reader would: words instead of underscores, the field's spelling of terms.

    Args:
        name: Name of a model, a column, a surrogate or a quantity.

    Returns:
        The label.
    """
    return functools.reduce(lambda text, short: text.replace(short, TERMS[short]), TERMS, name)


def long_form(rows: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Stack columns of a table, each as one series of a figure.

    Args:
        rows: The table.
        labels: Label of the series for each column that becomes one, in the order of the legend.

    Returns:
        A row for each row of `rows` and each label: the other columns, the value in `value`, the label in `series`.
    """
    others = [column for column in rows.columns if column not in labels]
    return rows.melt(others, list(labels), "series", "value").replace({"series": dict(labels)})


def draw_series(
    rows: pd.DataFrame, x: str, y: str, panel: str | None = None, reference: bool = False, **options: Any
) -> sns.FacetGrid:
    """Draw every series of a table, by default as lines through the values as they are, without any statistic.

    Series are distinguished by colour, and by dashes (lines) or markers (scatter) as well.

    Args:
        rows: One row a point; the column `series` holds the label of its series, in the order of the legend.
        x: Column of the horizontal position.
        y: Column of the vertical position.
        panel: Column that gives the panel of each row; None: one panel for all.
        reference: Whether the first series is what the others are compared with: a thick grey line.
        **options: Further options of `seaborn.relplot`; `kind="scatter"` draws marks.

    Returns:
        The grid of panels, three a row unless `options` say otherwise, to be completed by `finish`.
    """
    count, panels = rows["series"].nunique(), rows[panel].nunique() if panel else 0
    given = {"x": x, "y": y, "col": panel, "hue": "series", "style": "series", "palette": PALETTE[:count]}
    given |= {"height": 2.3, "aspect": 1.15, "facet_kws": {"legend_out": False}, "col_wrap": min(3, panels) or None}
    lines = {"kind": "line", "estimator": None, "errorbar": None, "sort": False}
    given |= {"markers": MARKERS[:count], "s": 40} if options.get("kind") == "scatter" else lines
    if reference:
        given |= {"palette": [LIGHT_GREY, *PALETTE][:count], "size": "series", "sizes": [4.5, *[1.8] * (count - 1)]}
    return sns.relplot(rows.reset_index(drop=True), **given | options)


def draw_levels(grid: sns.FacetGrid, heights: pd.Series, label: str) -> None:
    """Draw a thin line across every panel, such as the majority class.

    Args:
        grid: The panels.
        heights: Height of the line, by the name of the panel.
        label: Its label in the legend.
    """
    for name, panel in grid.axes_dict.items():
        panel.axhline(heights[name], label=label, **LEVEL)


def finish(grid: sns.FacetGrid, x: str, y: str, title: str = "{col_name}") -> Figure:
    """Title the panels, label the axes and gather the legend above all panels, each label once.

    Args:
        grid: The panels, drawn.
        x: Label of the horizontal axes, with the unit.
        y: Label of the vertical axes, with the unit.
        title: Title of a panel; `col_name` stands for its value in the column that gives the panel.

    Returns:
        The figure.
    """
    figure: Figure = grid.set_titles(title).set_axis_labels("", "").figure
    figure.set(layout_engine="constrained", size_inches=figure.get_size_inches() + 0.4)
    _ = figure.supxlabel(x), figure.supylabel(y)
    figure.legends.clear()  # seaborn's own, as those of the panels
    entries: dict[str, Any] = {}
    for panel in figure.axes:
        panel.set(title=words(panel.get_title()))
        panel.legend_ = None
        entries |= dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
    inches, width = [0.5 + 0.065 * len(label) for label in entries], figure.get_figwidth()  # of each entry, about
    columns = len(entries) if sum(inches) < width else max(1, int(width / max(inches)))
    figure.legend(entries.values(), entries, loc="outside upper center", ncols=columns, fontsize=8.8, frameon=False)
    return figure


def table(frame: pd.DataFrame, precision: int = 3) -> HTML:
    """Format a table for a page: words and units in place of names of columns, an empty cell for a missing value.

    Args:
        frame: The table.
        precision: Decimals of a number.

    Returns:
        The table as HTML, the same text for the same table; rows beyond `IN_SIGHT` are folded.
    """
    large = {name: SCALES[name] for name in frame if name in SCALES and 10 * frame[name].max() >= SCALES[name][0]}
    scaled = frame.assign(**{name: frame[name] / by for name, (by, *_) in large.items()})
    headers = HEADERS | {name: other for name, (*_, other) in SCALES.items()}
    headers |= {name: header for name, (_, header, _) in large.items()}
    plain = scaled.map(_in_words).rename(
        columns=lambda name: headers.get(name, str(name).replace("_", " ")), index=_in_words
    )
    plain.index.names = [None] * frame.index.nlevels
    plain.columns.name = None
    text, rest = _html(plain.iloc[:IN_SIGHT], precision), plain.iloc[IN_SIGHT:]
    if len(rest):
        text += f"<details><summary>{len(rest)} more rows</summary>{_html(rest, precision)}</details>"
    return HTML(text)  # type: ignore[no-untyped-call]  # a Styler would print its address


def picture(figure: Figure, alternative: str) -> HTML:
    """A figure as a part of a page that other pages can hold as well, with its alternative text.

    Args:
        figure: The figure; it stays open, so that the page that draws it shows it too.
        alternative: What it shows, for those who do not see it.

    Returns:
        An image with its data inside.
    """
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150)
    source = base64.b64encode(data.getvalue()).decode()
    image = f'<img src="data:image/png;base64,{source}" alt="{html.escape(alternative)}" style="max-width: 100%">'
    return HTML(image)  # type: ignore[no-untyped-call]


def _html(plain: pd.DataFrame, precision: int) -> str:
    name = hashlib.sha256(plain.to_csv().encode()).hexdigest()[:8]  # by default a random one
    styled = Styler(plain, uuid=name, cell_ids=False).format(precision=precision, thousands=THIN_SPACE, na_rep="")
    styled.set_table_attributes('tabindex="0"')  # where it is wider than the page, the keyboard scrolls it
    text: str = styled.format_index(precision=2, axis=0).to_html()
    return text


def _in_words(value: Any) -> Any:
    return value.replace("_", " ") if isinstance(value, str) else value


def normal_density(width: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal density at 201 positions.

    Args:
        width: Largest position, standard deviations; the smallest is its negative.

    Returns:
        The positions, (201,), and the density there, (201,).
    """
    positions = np.linspace(-width, width, 201)
    return positions, np.exp(-(positions**2) / 2) / np.sqrt(2 * np.pi)
