"""How curves are split into training and test, and the forecasts each split gives."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
import pandas as pd

from prunecast.progress import track
from prunecast.seeds import seed_everything
from prunecast.surrogates.features import Curves


class Surrogate(Protocol):
    """What every surrogate can do; shapes as in `Curves`."""

    def fit(self, curves: Curves, seen: np.ndarray) -> "Surrogate":
        """Learn from the points that `seen` (C, T) marks."""
        ...

    def predict(self, curves: Curves) -> np.ndarray:
        """Forecast accuracy (C, T)."""
        ...


Fold = tuple[np.ndarray, np.ndarray]  # points to learn from, points to forecast; both (C, T), disjoint


def points(curves: Curves, seed: int) -> Iterator[Fold]:
    """One fold: a random fifth of the points of every curve is forecast from the others.

    Imitates the source study's undisclosed split at its most lenient; the neighbours of each test point are known.
    """
    held_out = seed_everything(seed, "points", curves.axis).random(curves.accuracy.shape) < 0.2
    yield ~held_out, held_out


def leave_one_model_out(curves: Curves, seed: int) -> Iterator[Fold]:
    """One fold a model: all its curves are forecast from those of the other models, none of its points is known."""
    for model in dict.fromkeys(curves.models):
        held_out = np.broadcast_to((curves.models == model)[:, None], curves.accuracy.shape)
        yield ~held_out, held_out


PROTOCOLS: dict[str, Callable[[Curves, int], Iterator[Fold]]] = {
    "points": points,
    "leave_one_model_out": leave_one_model_out,
}


def forecast(curves: Curves, surrogates: Mapping[str, Callable[[], Surrogate]], seed: int) -> pd.DataFrame:
    """Forecasts of every surrogate in every protocol, as rows of the table `predictions`, without intervals."""
    folds = [(protocol, *fold) for protocol, split in PROTOCOLS.items() for fold in split(curves, seed)]
    return pd.concat(
        [
            _rows(curves, seen, held_out, make()).assign(protocol=protocol, surrogate=name)
            for protocol, seen, held_out in track(folds, f"forecasting, {curves.axis} axis")
            for name, make in surrogates.items()
        ],
        ignore_index=True,
    )


def _rows(curves: Curves, seen: np.ndarray, held_out: np.ndarray, surrogate: Surrogate) -> pd.DataFrame:
    training, tested = np.asarray(seen.any(axis=1)), np.asarray(held_out.any(axis=1))
    surrogate.fit(curves.at(training), seen[training])
    predicted = np.full(curves.accuracy.shape, np.nan)
    predicted[tested] = surrogate.predict(curves.at(tested))
    curve, step = np.nonzero(held_out)
    return pd.DataFrame(
        {
            "model": curves.models[curve],
            "axis": curves.axis,
            "scope": [curves.names[index][1] for index in curve],
            "threshold": curves.thresholds[step],
            "accuracy": curves.accuracy[held_out],
            "predicted": predicted[held_out],
            "lower": np.nan,
            "upper": np.nan,
            "probes": [int(seen[index].sum()) for index in curve],
        }
    )
