"""The explorer of forecasts: data for `book/_static/explorer.js`, which forecasts and draws in the reader's browser."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from numpy.typing import NDArray

VALUES = (  # of a curve, in the order in which the script reads them
    "sparsity", "lost_max", "lost_mean", "lost_first", "lost_last", "agreement", "accuracy", "measured", "lower",
    "upper",
)  # fmt: skip
FACTS = ("model", "scope", "dense", "majority", "classes", "layers", "prunable_parameters")
WAYS = ("way", "evaluations", "unused", "safe")


def explorer(
    points: pd.DataFrame, ways: pd.DataFrame, weights: Mapping[str, NDArray[np.float32]], settings: Mapping[str, Any]
) -> HTML:
    """The explorer as a part of a page.

    Args:
        points: Curves of models that the surrogate was not trained on, a row a threshold: the columns `FACTS`, and
            `VALUES` as fractions; `lower` and `upper` are the ends of the interval.
        ways: Ways to a safe ratio: how many evaluations each costs, what it leaves unused and how often it is safe.
        weights: Scaling and weights of the LSTMs, as `LSTMSurrogate.state` names them.
        settings: Whatever else the script needs to forecast and to recommend.

    Returns:
        A container that the script fills, and the data; without JavaScript a sentence.
    """
    curves = [
        {name: _plain(rows[name].iloc[0]) for name in FACTS} | {"values": _packed(rows[list(VALUES)].to_numpy().T)}
        for _, rows in points.groupby(["model", "scope"], sort=False)
    ]
    content = {
        "weights": {name: _packed(values) for name, values in weights.items()},
        "curves": curves,
        "ways": ways[list(WAYS)].to_dict("records"),
    } | dict(settings)
    text = json.dumps(content, allow_nan=False).replace("</", "<\\/")
    without = "<noscript>The explorer needs JavaScript; the figure below shows one of its forecasts.</noscript>"
    container = f'<div id="forecast-explorer">{without}</div>'
    held = f'<script type="application/json" id="explorer-data">{text}</script>'
    return HTML(f'{container}{held}<script src="_static/explorer.js"></script>')  # type: ignore[no-untyped-call]


def _packed(values: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype("<f4")).tobytes()).decode()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
