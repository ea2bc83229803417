"""Evidence for and against a surrogate: other axes, other seeds, inputs taken away, curves permuted among models."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from prunecast.forecasting import recommendation
from prunecast.forecasting.pretrained import PretrainedSurrogate
from prunecast.seeding import seed_everything
from prunecast.surrogates import benchmark, scores
from prunecast.surrogates.features import (
    AGREEMENT,
    CURVATURE,
    DEPLETION,
    EFFECTIVE,
    FACTS,
    KURTOSIS,
    CurveSet,
    Forecast,
)
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.surrogates.splits import leave_one_architecture_out

AS_IT_IS, PERMUTED = "as it is", "curves permuted among the models"
PROTOCOL = "leave_one_architecture_out"
BY_POINTS = "points"
LINE = "straight_line"
NUMBERS = ("predicted", "lower", "upper")
PRINTED = {
    "published_mae": "validation_mae",
    "published_gain": "improvement_over_linear",
    "published_models": "models",
}
SPLIT_NOTES = {
    "points": "a split by points, which interpolates",
    "leave_one_model_out": "a whole model left out, siblings in training",
    "leave_one_architecture_out": "architecture and pretrained parent left out",
}
TRANSFER_NOTES = {
    "vgg16": "learned on transformers, no forward pass of VGG16",
    "vgg16_few_shot_3": "the same, and three measured points of VGG16",
}
ABLATIONS: Mapping[str, tuple[str, ...]] = {
    AS_IT_IS: (FACTS, DEPLETION),
    "without facts": (DEPLETION,),
    "without depletion": (FACTS,),
    "sparsity alone": (),
    "with effective numbers": (FACTS, DEPLETION, EFFECTIVE),
    "with kurtosis": (FACTS, DEPLETION, KURTOSIS),
    "with curvature": (FACTS, DEPLETION, CURVATURE),
    "with agreement": (FACTS, DEPLETION, AGREEMENT),
    "with curvature and agreement": (FACTS, DEPLETION, CURVATURE, AGREEMENT),
}


def summary(predictions: pd.DataFrame, models: pd.DataFrame, seed: int, inputs: str = AS_IT_IS) -> pd.DataFrame:
    """Rows of the table `forecast_errors` for forecasts of one seed; `seed` is that of the bootstrap."""
    board = scores.errors(predictions, models, seed)
    counted = predictions.groupby(list(scores.GROUPS))["model"].nunique()
    found = board.assign(models=counted).reset_index()
    gain = found.get("gain", np.nan)
    return found.assign(gain=gain, inputs=inputs, seed=int(predictions["seed"].iloc[0]))


def seed_spread(errors: pd.DataFrame, surrogate: str) -> pd.DataFrame:
    """Lowest and highest error of a surrogate over its seeds by protocol, percentile axis, from `forecast_errors`."""
    rows = errors[(errors["surrogate"] == surrogate) & (errors["axis"] == "percentile")]
    found = rows.groupby("protocol")["mae"].agg(["min", "max"])
    return found.rename(columns={"min": "lowest seed", "max": "highest seed"})


def beside_paper(predictions: pd.DataFrame, claims: pd.Series) -> pd.DataFrame:
    """Rows of `reproductions`: the LSTM's errors beside those the source study prints, `claims` by quantity."""
    lstm = predictions[predictions["surrogate"] == "lstm"]
    error = (lstm["predicted"] - lstm["accuracy"]).abs()
    rows = []
    for protocol, note in SPLIT_NOTES.items():
        ours = error[lstm["protocol"] == protocol].mean()
        rows.append((f"validation MAE, {protocol}", claims["validation_mae"], ours, note))
    vgg16 = lstm["model"].str.contains("vgg16")
    for protocol, note in TRANSFER_NOTES.items():
        ours = error[(lstm["protocol"] == protocol) & vgg16].mean()
        rows.append((f"VGG16 MAE, {protocol}", claims["vgg16_mae"], ours, note))
    table = pd.DataFrame(rows, columns=["row", "published", "ours", "note"])
    paper = {"source": "Predicting Model Performance Under Pruning", "table": "abstract"}
    return table.assign(**paper, unit="accuracy, fraction", same_protocol=False)


def beside_measured(trained: PretrainedSurrogate, truth: CurveSet, epsilon: float) -> pd.DataFrame:
    """Forecasts of a trained surrogate beside the measured curves of models it never saw, by model and scope."""
    blind = truth.knowing(np.zeros(truth.accuracy.shape, bool))
    forecast = trained.forecast(blind)
    inside = (truth.accuracy >= forecast.lower) & (truth.accuracy <= forecast.upper)
    found = pd.DataFrame(truth.names, columns=["model", "scope"]).set_index(["model", "scope"])
    return found.assign(
        mae=np.abs(forecast.predicted - truth.accuracy).mean(1),
        inside_interval=inside.mean(1),
        recommended=trained.recommended(blind, epsilon),
        optimum=recommendation.safe(truth.sparsity, truth.accuracy, epsilon),
    )


def on_axis(curves: CurveSet, predictions: pd.DataFrame, splits: Sequence[str], seed: int) -> pd.DataFrame:
    """Forecasts of the percentile axis read on the axis of `curves`, where the sparsity is the same.

    The straight line, which knows nothing of sparsity, and `points`, which hides points of one axis, are done anew.
    """
    parts = []
    keys = ["protocol", "surrogate", "model", "scope"]
    rows_of = {name: index for index, name in enumerate(curves.names)}
    kept = predictions[(predictions["protocol"] != BY_POINTS) & (predictions["surrogate"] != LINE)]
    for _, rows in kept.groupby(keys, sort=False):
        first = rows.iloc[0]
        row = rows_of[first["model"], first["scope"]]
        read = {name: np.interp(curves.sparsity[row], rows["threshold"] / 10, rows[name]) for name in NUMBERS}
        whole = pd.DataFrame(read | {"threshold": curves.thresholds, "accuracy": curves.accuracy[row]})
        parts.append(whole.assign(**{name: first[name] for name in (*keys, "probes", "samples", "seed")}))
    anew = [benchmark.forecast(curves, splits, seed, {}, (LINE,))]
    if BY_POINTS in splits:
        others = tuple(name for name in benchmark.ENTRIES if name != LINE)
        anew.append(benchmark.forecast(curves, (BY_POINTS,), seed, {}, others))
    return pd.concat([*parts, *anew], ignore_index=True).assign(axis=curves.axis)


def permuted(curves: CurveSet, seed: int) -> CurveSet:
    """The same models with the retained shares of others: whoever still forecasts well has seen what it should not."""
    generator = seed_everything(seed, "permuted")
    source = np.arange(len(curves.names))
    for scope in set(curves.scopes):
        rows = np.flatnonzero(curves.scopes == scope)
        source[rows] = rows[generator.permutation(len(rows))]
    accuracy = curves.accuracy_of(curves.retained[source])
    return CurveSet(**{**vars(curves), "accuracy": accuracy})


def inputs_matter(curves: CurveSet, seed: int, models: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of `forecast_errors` of the LSTM by its inputs, and of the leak check; architectures left out."""
    found = []
    for inputs, groups in ABLATIONS.items():
        forecast = benchmark.leave_one_group_out(curves, partial(LSTMSurrogate, seed, groups))
        found.append(summary(_rows(curves, forecast, seed, "lstm"), models, seed, f"prior alone, {inputs}"))
    shuffled = permuted(curves, seed)
    for name in ("lstm", "mean_curve"):
        forecast = benchmark.leave_one_group_out(shuffled, partial(benchmark.unfitted, name, seed))
        found.append(summary(_rows(shuffled, forecast, seed, name), models, seed, PERMUTED))
    return found


def recommended(curves: CurveSet, names: Iterable[str], seed: int, epsilon: float, measurements: int) -> pd.DataFrame:
    """Rows of the table `recommendations`: architectures left out, without and with measurements, and by halves."""
    parts = []
    for fold in leave_one_architecture_out(curves, seed):
        ways = {"halves": recommendation.by_halves}
        for name in names:
            surrogate = benchmark.unfitted(name, seed).fit(fold.training)
            ways[name] = recommendation.by_forecast(surrogate, epsilon)  # type: ignore[arg-type, assignment]
        for method, place in ways.items():
            found = recommendation.searched(fold.tested, place, epsilon, measurements)
            parts += [rows.assign(method=method) for rows in found]
    for name in names:
        forecast = benchmark.leave_one_group_out(curves, partial(benchmark.unfitted, name, seed))
        parts.append(recommendation.unverified(curves, forecast.predicted, epsilon).assign(method=name))
    return pd.concat(parts, ignore_index=True).round({"optimum": 6, "recommended": 6, "loss": 6})


def _rows(curves: CurveSet, forecast: Forecast, seed: int, surrogate: str) -> pd.DataFrame:
    hidden = np.zeros(curves.accuracy.shape, bool)
    rows = benchmark.rows_of(curves, forecast, hidden, np.zeros(len(hidden)))
    return rows.assign(protocol=PROTOCOL, surrogate=surrogate, axis=curves.axis, seed=seed)
