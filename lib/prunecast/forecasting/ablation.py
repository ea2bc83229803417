"""Ablations of a surrogate: other axes and seeds, inputs left out, curves permuted, and the figures of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from prunecast.forecasting import recommendation
from prunecast.forecasting.pretrained import PretrainedSurrogate
from prunecast.seeding import generator
from prunecast.surrogates import benchmark, scores
from prunecast.surrogates.curve_posterior import CurvePosterior
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
from prunecast.surrogates.splits import (
    LEFT_OUT,
    leave_one_architecture_out,
    leave_one_group_out,
    leave_two_groups_out,
)
from prunecast.sweeps.curve_metrics import relatives

AS_IT_IS, PERMUTED = "as it is", "curves permuted among the models"
PROTOCOL = "leave_one_architecture_out"
BY_POINTS = "points"
LINE = "straight_line"
BY_TASK = "lstm"  # the surrogate that recommends with tasks left out
NUMBERS = ("predicted", "lower", "upper")
PRINTED = {  # names under which the page `surrogate` cites figures of the source study
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
    ("vgg16", "lstm"): "learned on transformers, no forward pass of VGG16; at its measured points",
    ("vgg16_one_evaluation", "lstm_agreement"): "the same, and as many examples of VGG16 as one evaluation has",
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
    """Errors of forecasts of one seed.

    Args:
        predictions: Rows of the table `predictions`.
        models: Rows of the table `models`.
        seed: Seed of the bootstrap.
        inputs: Name of the inputs of the surrogate.

    Returns:
        Rows of the table `forecast_errors`, in accuracy as a fraction.
    """
    rows = scores.errors(predictions, models, seed).reset_index()
    rows.loc[rows["protocol"] == BY_POINTS, "exact"] = np.nan  # hidden points are measured on every curve
    return rows.assign(gain=rows.get("gain", np.nan), inputs=inputs, seed=int(predictions["seed"].iloc[0]))


def seed_spread(errors: pd.DataFrame, surrogate: str) -> pd.DataFrame:
    """Lowest and highest error of a surrogate over its seeds, on the percentile axis.

    Args:
        errors: Rows of the table `forecast_errors`.
        surrogate: Name of the surrogate.

    Returns:
        By protocol, the mean absolute errors `lowest seed` and `highest seed`, fractions.
    """
    rows = errors[(errors["surrogate"] == surrogate) & (errors["axis"] == "percentile")]
    spread = rows.groupby("protocol")["mae"].agg(["min", "max"])
    return spread.rename(columns={"min": "lowest seed", "max": "highest seed"})


def beside_paper(predictions: pd.DataFrame, published: pd.Series) -> pd.DataFrame:
    """Errors of the LSTM beside those that the source study prints.

    Args:
        predictions: Rows of the table `predictions`.
        published: Figures of the source study by quantity, errors in accuracy as fractions.

    Returns:
        Rows of the table `reproductions`.
    """
    lstm = predictions[predictions["surrogate"].isin(["lstm", "lstm_agreement"]) & predictions["measured"]]
    error = (lstm["predicted"] - lstm["accuracy"]).abs()
    by_curve = error.groupby([lstm[name] for name in ("protocol", "surrogate", "model", "scope")]).mean()
    rows = []
    for protocol, note in SPLIT_NOTES.items():
        ours = by_curve[protocol, "lstm"].mean()
        rows.append((f"validation MAE, {protocol}", published["validation_mae"], ours, note))
    for (protocol, surrogate), note in TRANSFER_NOTES.items():
        of_model = by_curve[protocol, surrogate]
        ours = of_model[of_model.index.get_level_values("model").str.contains("vgg16")].mean()
        rows.append((f"VGG16 MAE, {protocol}", published["vgg16_mae"], ours, note))
    table = pd.DataFrame(rows, columns=["row", "published", "ours", "note"])
    return table.assign(
        source="Predicting Model Performance Under Pruning",
        table="abstract",
        unit="accuracy, fraction",
        same_protocol=False,
    )


def forecasts_of(trained: PretrainedSurrogate, measured: CurveSet) -> pd.DataFrame:
    """Forecasts of a trained surrogate for models that it was not trained on.

    Args:
        trained: The surrogate.
        measured: Measured curves (C), which the forecast does not read.

    Returns:
        Rows of the table `predictions`, without protocol, surrogate and seed.
    """
    nothing = np.zeros(measured.accuracy.shape, bool)
    forecast = trained.forecast(measured.knowing(nothing))
    return benchmark.rows_of(measured, forecast, nothing, np.zeros(len(nothing), int))


def beside_measured(trained: PretrainedSurrogate, measured: CurveSet, epsilon: float) -> pd.DataFrame:
    """Forecasts of a trained surrogate beside the measured curves of models that it was not trained on.

    Args:
        trained: The surrogate.
        measured: Measured curves (C), which the forecast does not read.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        By model and scope: the number of measured `points`, the dense one excepted; over these `mae` (accuracy) and
        `inside_interval` (share of them); `all_points`, the error with interpolated points; `recommended` and
        `optimum` (sparsities); all as fractions.
    """
    rows = forecasts_of(trained, measured)
    rows = rows.assign(
        error=(rows["predicted"] - rows["accuracy"]).abs(),
        inside=rows["accuracy"].between(rows["lower"], rows["upper"]),
    )
    names = ["model", "scope"]
    judged = rows[rows["measured"]].groupby(names, sort=False)
    hidden = measured.knowing(np.zeros(measured.accuracy.shape, bool))
    ratios = pd.DataFrame(measured.names, columns=names).assign(
        recommended=trained.recommended(hidden, epsilon),
        optimum=recommendation.safe(measured.sparsity, measured.accuracy, epsilon),
    )
    table = pd.DataFrame(
        {
            "points": judged.size(),
            "mae": judged["error"].mean(),
            "all_points": rows.groupby(names)["error"].mean(),
            "inside_interval": judged["inside"].mean(),
        }
    )
    return table.join(ratios.set_index(names))


def on_axis(curves: CurveSet, predictions: pd.DataFrame, splits: Sequence[str], seed: int) -> pd.DataFrame:
    """Forecasts of the percentile axis, read on another axis at the same sparsity.

    Those of the straight line, which does not depend on the sparsity, are made anew. Left out are the protocols of
    which the truth belongs to one axis: points hidden on it, and examples left out of it.

    Args:
        curves: The measured curves on the other axis.
        predictions: Rows of the table `predictions` on the percentile axis.
        splits: Names of the splits.
        seed: Seed of the forecasts that are made anew.

    Returns:
        Rows of the table `predictions` on the axis of `curves`.
    """
    parts = []
    keys = ["protocol", "surrogate", "model", "scope"]
    index_of = {name: index for index, name in enumerate(curves.names)}
    of_one_axis = (predictions["protocol"] == BY_POINTS) | predictions["protocol"].str.endswith("one_evaluation")
    readable = predictions[~of_one_axis & (predictions["surrogate"] != LINE)]
    for _, rows in readable.groupby(keys, sort=False):
        first = rows.iloc[0]
        index = index_of[first["model"], first["scope"]]
        dense = curves.accuracy[index, 0]  # known, and no row of `predictions`
        at = np.append(0, rows["threshold"] / 10)
        read = {name: np.interp(curves.sparsity[index], at, np.append(dense, rows[name])) for name in NUMBERS}
        truth = {"accuracy": curves.accuracy[index], "measured": curves.measured[index]}
        frame = pd.DataFrame(read | truth | {"threshold": curves.thresholds})
        whole = frame[curves.sparsity[index] > 0]
        parts.append(whole.assign(**{name: first[name] for name in (*keys, "probes", "samples", "seed")}))
    parts.append(benchmark.forecast(curves, [split for split in splits if split != BY_POINTS], seed, {}, (LINE,)))
    together: pd.DataFrame = pd.concat(parts, ignore_index=True).assign(axis=curves.axis)
    return together


def permuted(curves: CurveSet, seed: int) -> CurveSet:
    """The same models with the retained shares of others: if a surrogate still forecasts them well, data has leaked.

    Args:
        curves: Measured curves (C).
        seed: Seed of the permutation.

    Returns:
        The curves (C), permuted within each scope.
    """
    draw = generator(seed, "permuted")
    source = np.arange(len(curves.names))
    for scope in set(curves.scopes):
        rows = np.flatnonzero(curves.scopes == scope)
        source[rows] = rows[draw.permutation(len(rows))]
    return replace(curves, accuracy=curves.accuracy_of(curves.retained[source]))


def input_ablation(curves: CurveSet, seed: int, models: pd.DataFrame) -> list[pd.DataFrame]:
    """Errors of the LSTM by its inputs, and with permuted curves as a check for leaks; architectures left out.

    Args:
        curves: Measured curves on the percentile axis, with their proxies.
        seed: Seed of the surrogates, of the permutation and of the bootstrap.
        models: Rows of the table `models`.

    Returns:
        Rows of the table `forecast_errors`, in parts.
    """
    parts = []
    for inputs, groups in ABLATIONS.items():
        forecast = leave_one_group_out(curves, relatives(curves.facts), partial(LSTMSurrogate, seed, groups))
        parts.append(summary(_rows(curves, forecast, seed, "lstm"), models, seed, f"prior alone, {inputs}"))
    shuffled = permuted(curves, seed)
    for name in ("lstm", "mean_curve"):
        forecast = leave_one_group_out(shuffled, relatives(shuffled.facts), partial(benchmark.unfitted, name, seed))
        parts.append(summary(_rows(shuffled, forecast, seed, name), models, seed, PERMUTED))
    return parts


def recommendations(
    curves: CurveSet, without_two: Mapping[str, Forecast], seed: int, epsilon: float, measurements: int
) -> pd.DataFrame:
    """Recommendations by some surrogates: without a measurement for all curves, and by search on exact ones.

    Without measurements, architectures are left out, and tasks by the LSTM. A search, by a surrogate or by halving,
    leaves out architectures; what it measures has to have been measured, so it is simulated on exact curves alone.

    Args:
        curves: Measured curves on the percentile axis, with their proxies.
        without_two: By name of a curve posterior in `benchmark.ENTRIES`, its forecasts of all curves with two groups
            of relatives left out.
        seed: Seed of the surrogates.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        measurements: Largest number of measurements.

    Returns:
        Rows of the table `recommendations`, sparsities and losses as fractions.
    """
    parts = []
    for fold in leave_one_architecture_out(curves, seed):
        if not fold.tested.exact.any():
            continue
        methods: dict[str, recommendation.Place] = {"halves": recommendation.by_halves}
        for name in without_two:
            surrogate = benchmark.unfitted(name, seed).fit(fold.training)
            assert isinstance(surrogate, CurvePosterior)
            methods[name] = recommendation.by_forecast(surrogate, epsilon)
        for method, place in methods.items():
            results = recommendation.searched(fold.tested.at(fold.tested.exact), place, epsilon, measurements)
            parts += [rows.assign(method=method, split=PROTOCOL) for rows in results]
    families, tasks = relatives(curves.facts), LEFT_OUT["leave_one_task_out"](curves.facts)
    for name, forecast in without_two.items():
        rows = recommendation.unverified(curves, families, forecast.predicted, epsilon)
        parts.append(rows.assign(method=name, split=PROTOCOL))
    by_task = leave_two_groups_out(curves, tasks, partial(benchmark.unfitted, BY_TASK, seed))
    rows = recommendation.unverified(curves, tasks, by_task.predicted, epsilon)
    parts.append(rows.assign(method=BY_TASK, split="leave_one_task_out"))
    return pd.concat(parts, ignore_index=True).round({"optimum": 6, "recommended": 6, "loss": 6})


def _rows(curves: CurveSet, forecast: Forecast, seed: int, surrogate: str) -> pd.DataFrame:
    hidden = np.zeros(curves.accuracy.shape, bool)
    rows = benchmark.rows_of(curves, forecast, hidden, np.zeros(len(hidden)))
    return rows.assign(protocol=PROTOCOL, surrogate=surrogate, axis=curves.axis, seed=seed)
