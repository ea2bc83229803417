"""The benchmark: its entries, the points of a tested model that each protocol reveals, and the forecasts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.hardware import in_processes
from prunecast.surrogates import baselines, conformal
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import (
    AGREEMENT,
    AGREEMENT_THRESHOLDS,
    CURVATURE,
    FREE,
    Booleans,
    CurveSet,
    Floats,
    Forecast,
    Surrogate,
    has_proxies,
    samples,
    without_interval,
)
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.surrogates.splits import SPLITS, Fold, leave_one_group_out
from prunecast.sweeps.curve_metrics import relatives

LABELLED_STEPS = 4  # thresholds at which labelled examples are evaluated in `one_evaluation`
LEAST_LABELLED = 8  # examples at each of them; where fewer would be left, none is evaluated
NUMBERS = ("accuracy", "predicted", "lower", "upper")  # columns, rounded in the table
UNSEEN = 0.3  # added to the squared changes of a sample: without it, a sample without changes would have no error

Outcomes = Mapping[tuple[str, str], tuple[Booleans, Booleans]]  # by model and scope: agreement, correctness (T, n)


@dataclass(frozen=True)
class Entry:
    """A surrogate of the benchmark.

    Attributes:
        make: Makes the unfitted surrogate from a seed.
        groups: Names of its inputs, as in `features.inputs`; none for a surrogate that reads sparsities alone.
    """

    make: Callable[[int], Surrogate]
    groups: tuple[str, ...] = ()


CALIBRATED = ("lstm", "lstm_agreement")  # the entries whose forecasts have intervals
ENTRIES: dict[str, Entry] = {
    "lstm": Entry(lambda seed: CurvePosterior(lambda: LSTMSurrogate(seed), seed), FREE),
    "lstm_curvature": Entry(
        lambda seed: CurvePosterior(lambda: LSTMSurrogate(seed, (*FREE, CURVATURE)), seed), (*FREE, CURVATURE)
    ),
    "lstm_agreement": Entry(
        lambda seed: CurvePosterior(lambda: LSTMSurrogate(seed, (*FREE, AGREEMENT)), seed), (*FREE, AGREEMENT)
    ),
    "extra_trees": Entry(lambda seed: baselines.Tabular(lambda: baselines.extra_trees(seed)), FREE),
    "gradient_boosting": Entry(lambda seed: baselines.Tabular(lambda: baselines.gradient_boosting(seed)), FREE),
    "nearest_curve": Entry(lambda _: baselines.NearestCurve(), FREE),
    "gaussian_process": Entry(lambda _: baselines.GaussianProcess()),
    "logistic": Entry(lambda _: baselines.Logistic()),
    "isotonic": Entry(lambda _: baselines.Isotonic()),
    "mean_curve": Entry(lambda _: baselines.MeanCurve()),
    "straight_line": Entry(lambda _: baselines.StraightLine()),
}


def forecast(
    curves: CurveSet,
    splits: Iterable[str],
    seed: int,
    outcomes: Outcomes,
    entries: Iterable[str] = ENTRIES,
    without_two: Mapping[str, Forecast] | None = None,
) -> pd.DataFrame:
    """Forecasts of all entries in every protocol of some splits.

    An entry whose zero-cost proxies were not measured is left out.

    Args:
        curves: Curves of all models on one axis, with their proxies.
        splits: Names in `SPLITS`.
        seed: Seed of the surrogates and of the split by points.
        outcomes: Outcomes of single examples, as of `outcomes_of`; if empty, the protocols that distribute the
            examples of one evaluation over thresholds are left out.
        entries: Names in `ENTRIES`.
        without_two: By entry its forecasts of all curves with two groups of relatives left out. These entries get
            intervals, where architectures are left out and in the split `vgg16`; all other forecasts have none.

    Returns:
        Rows of the table `predictions`, accuracies as fractions.
    """
    folds = [fold for split in splits for fold in SPLITS[split](curves, seed)]
    able = [name for name in entries if has_proxies(curves, ENTRIES[name].groups)]
    jobs = [(fold, name, seed, outcomes) for fold in folds for name in able]
    by_entry = in_processes(_entry_forecasts, jobs, "forecasting")
    parts: list[pd.DataFrame] = []
    for place, fold in enumerate(folds):
        parts += chain(*by_entry[place * len(able) : (place + 1) * len(able)], _agreement_alone(fold, outcomes))
    rows = pd.concat(parts, ignore_index=True)
    for name, nested in (without_two or {}).items():
        for protocol, tested, forecasts in _with_intervals(curves, splits, nested, partial(unfitted, name, seed)):
            own = (rows["protocol"] == protocol) & (rows["surrogate"] == name)
            same = dict(rows.loc[own, ["protocol", "surrogate", "samples"]].iloc[0])
            anew = rows_of(tested, forecasts, np.zeros(tested.accuracy.shape, bool), np.zeros(len(tested.names), int))
            rows = pd.concat([rows[~own], anew.assign(**same)], ignore_index=True)
    rows = rows.sort_values(["protocol", "surrogate", "model", "scope", "threshold"], ignore_index=True)
    return rows.round(dict.fromkeys(NUMBERS, 5)).assign(axis=curves.axis, seed=seed)


def _with_intervals(
    curves: CurveSet, splits: Iterable[str], nested: Forecast, make: Callable[[], Surrogate]
) -> Iterator[tuple[str, CurveSet, Forecast]]:
    """The protocols that have intervals, each with the curves that are forecast and the calibrated forecasts."""
    if "leave_one_architecture_out" in splits:
        yield "leave_one_architecture_out", curves, conformal.jackknife(curves, relatives(curves.facts), nested)
    for fold in SPLITS["vgg16"](curves, 0) if "vgg16" in splits else ():
        groups = relatives(fold.training.facts)
        left_out = leave_one_group_out(fold.training, groups, make)
        factor = conformal.quantile(conformal.ratios(left_out, fold.training), groups)
        unknown = fold.tested.knowing(np.zeros(fold.tested.accuracy.shape, bool))
        yield "vgg16", fold.tested, conformal.calibrated(make().fit(fold.training).predict(unknown), factor)


def outcomes_of(probes: pd.DataFrame, thresholds: Floats) -> Outcomes:
    """Outcomes of single examples at every threshold.

    Args:
        probes: Rows of the table `probes`, one for each change of an example's outcome.
        thresholds: Percentile thresholds (T).

    Returns:
        Agreement and correctness, booleans (T, n) both, by model and scope; the n examples are in the order in which
        they were drawn, so that the first of them are a sample too.
    """
    groups = probes.groupby(["model", "scope"])
    return {(str(model), str(scope)): _unrolled(rows, thresholds) for (model, scope), rows in groups}


def _unrolled(probes: pd.DataFrame, thresholds: Floats) -> tuple[Booleans, Booleans]:
    """Agreement and correctness (T, n) from the rows of `probes` of one model and scope."""
    groups = [rows for _, rows in probes.groupby("draw")]
    places = [np.searchsorted(rows["from_threshold"], thresholds, "right") - 1 for rows in groups]
    agrees, correct = (
        np.stack([rows[name].to_numpy()[place] for rows, place in zip(groups, places, strict=True)], 1)
        for name in ("agrees", "correct")
    )
    return agrees, correct


def unfitted(name: str, seed: int) -> Surrogate:
    """The unfitted surrogate of the entry `name`, whose training will use the seed."""
    return ENTRIES[name].make(seed)


def _entry_forecasts(fold: Fold, name: str, seed: int, outcomes: Outcomes) -> list[pd.DataFrame]:
    return [rows.assign(surrogate=name) for rows in _of_fold(fold, ENTRIES[name], seed, outcomes)]


def _of_fold(fold: Fold, entry: Entry, seed: int, outcomes: Outcomes) -> Iterator[pd.DataFrame]:
    surrogate = entry.make(seed).fit(fold.training)
    spent = samples(entry.groups)
    nothing = np.zeros(fold.tested.accuracy.shape, bool)
    for protocol in fold.protocols:
        tested, known, evaluated = fold.tested, nothing, np.full(len(nothing), spent)
        if fold.hidden is not None:
            known = ~fold.hidden
            curves = tested.knowing(known)
        elif "one_evaluation" in protocol:
            if not isinstance(surrogate, CurvePosterior) or AGREEMENT not in entry.groups or not outcomes:
                continue
            curves, evaluated, labelled = _one_evaluation(tested, surrogate, spent, outcomes)
            if not protocol.endswith("reused"):
                tested = _without_examples(tested, outcomes, labelled)
        elif protocol.startswith("few_shot"):
            if not tested.exact.any():
                continue
            shots, tested = int(protocol.rpartition("_")[2]), tested.at(tested.exact)
            curves = _with_shots(tested, surrogate, shots)
            known = ~np.isnan(curves.accuracy)
            evaluated = spent + shots * tested.facts["eval_examples"].to_numpy()
        else:
            curves = tested.knowing(nothing)
        forecast = without_interval(surrogate.predict(curves).predicted)
        yield rows_of(tested, forecast, known, evaluated).assign(protocol=protocol)


def _without_examples(tested: CurveSet, outcomes: Outcomes, counts: NDArray[np.int64]) -> CurveSet:
    """The tested curves with the accuracy over all examples but the first `counts` (C) drawn of each curve."""
    examples = tested.facts["eval_examples"].to_numpy()
    spent = np.stack([outcomes[name][1][:, :n].sum(1) for name, n in zip(tested.names, counts, strict=True)])
    rest = (tested.accuracy * examples[:, None] - spent) / (examples - counts)[:, None]
    return replace(tested, accuracy=np.clip(rest, 0, 1))  # interpolated accuracies need not be those of a count


def _with_shots(tested: CurveSet, surrogate: Surrogate, shots: int) -> CurveSet:
    """The tested curves with `shots` points of each known, chosen by a curve posterior, else evenly spaced."""
    curves = tested.knowing(np.zeros(tested.accuracy.shape, bool))
    if not isinstance(surrogate, CurvePosterior):
        places = np.linspace(0, len(tested.thresholds) - 1, shots + 2).round().astype(int)[1:-1]
        return tested.knowing(np.isin(np.arange(len(tested.thresholds)), places)[None])
    for _ in range(shots):
        curves = _reveal(curves, tested.accuracy, surrogate.next_thresholds(curves), np.zeros(len(curves.names)))
    return curves


def _one_evaluation(
    tested: CurveSet, surrogate: CurvePosterior, spent: int, outcomes: Outcomes
) -> tuple[CurveSet, NDArray[np.int64], NDArray[np.int64]]:
    """The tested curves with points estimated from labelled examples, examples evaluated, and labels spent (C,).

    The surrogate chooses the thresholds. A point is estimated from n examples as the dense accuracy plus the mean
    change of correctness. The `spent` examples of the inputs and the labelled ones are at most one evaluation.
    """
    curves = tested.knowing(np.zeros(tested.accuracy.shape, bool))
    left = tested.facts["eval_examples"].to_numpy() - spent
    correct = [outcomes[name][1] for name in tested.names]
    counts = np.array(
        [min(each.shape[1], budget // (LABELLED_STEPS + 1)) for each, budget in zip(correct, left, strict=True)]
    )
    counts = np.where(counts < LEAST_LABELLED, 0, counts)
    for _ in range(LABELLED_STEPS):
        chosen = surrogate.next_thresholds(curves, noise=0.1)
        estimates, errors = np.array(
            [_estimate(*each) for each in zip(tested.facts["dense_accuracy"], correct, chosen, counts, strict=True)]
        ).T
        values = np.broadcast_to(estimates[:, None], tested.accuracy.shape)
        curves = _reveal(curves, values, chosen, errors)
    return curves, spent + counts * (LABELLED_STEPS + 1), counts


def _estimate(dense: float, correct: Booleans, threshold: int, count: int) -> tuple[float, float]:
    """Accuracy at a threshold from `count` labelled examples, and its standard error; NaN from none."""
    if not count:
        return np.nan, 0.0
    change = correct[threshold, :count].astype(float) - correct[0, :count]
    error = np.sqrt((((change - change.mean()) ** 2).sum() + UNSEEN) / (count + 1) / count)
    return dense + change.mean(), error


def _reveal(curves: CurveSet, accuracy: Floats, chosen: NDArray[np.intp], errors: Floats) -> CurveSet:
    """The curves with one more point known: at the `chosen` (C,) thresholds, with standard `errors` (C,)."""
    known, noise = curves.accuracy.copy(), curves.noise.copy()
    rows = np.arange(len(chosen))
    known[rows, chosen], noise[rows, chosen] = accuracy[rows, chosen], errors
    return replace(curves, accuracy=known, noise=noise)


def _agreement_alone(fold: Fold, outcomes: Outcomes) -> Iterator[pd.DataFrame]:
    """The baseline without a surrogate: dense accuracy times agreement, on as many examples as one evaluation has."""
    for protocol in fold.protocols:
        if not protocol.endswith("one_evaluation") or not outcomes:
            continue
        predicted, evaluated = [], []
        for name, facts in zip(fold.tested.names, fold.tested.facts.to_dict("records"), strict=True):
            agrees = outcomes[name][0]
            count = min(agrees.shape[1], int(facts["eval_examples"]) // (1 + AGREEMENT_THRESHOLDS))
            steps = np.linspace(0, len(agrees) - 1, AGREEMENT_THRESHOLDS).round().astype(int)
            shares = agrees[steps, :count].mean(1)
            predicted.append(facts["dense_accuracy"] * np.interp(np.arange(len(agrees)), steps, shares))
            evaluated.append(count * (1 + AGREEMENT_THRESHOLDS))
        known = np.zeros(fold.tested.accuracy.shape, bool)
        rows = rows_of(fold.tested, without_interval(np.stack(predicted)), known, np.array(evaluated))
        yield rows.assign(protocol=protocol, surrogate="agreement")


def rows_of(tested: CurveSet, forecast: Forecast, known: Booleans, evaluated: NDArray[Any]) -> pd.DataFrame:
    """Forecasts as rows of the table `predictions`, without protocol, surrogate, axis and seed.

    Args:
        tested: C curves at T thresholds, with their true accuracies.
        forecast: Forecasts of these curves (C, T).
        known: Whether each point was known (C, T); such points are left out.
        evaluated: Number of examples evaluated for the forecast of each curve (C).

    Returns:
        A row for each point that was not known, the dense one excepted, which always is.
    """
    curve, step = np.nonzero(~known & (np.arange(known.shape[1]) > 0))
    return pd.DataFrame(
        {
            "model": tested.models[curve],
            "scope": tested.scopes[curve],
            "threshold": tested.thresholds[step],
            "accuracy": tested.accuracy[curve, step],
            "measured": tested.measured[curve, step],
            "predicted": forecast.predicted[curve, step],
            "lower": forecast.lower[curve, step],
            "upper": forecast.upper[curve, step],
            "probes": known[:, 1:].sum(1)[curve],
            "samples": np.asarray(evaluated)[curve],
        }
    )
