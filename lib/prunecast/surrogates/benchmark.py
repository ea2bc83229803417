"""The contest: who competes, what each may know of the tested model, and the forecasts that gives."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from prunecast.progress import track
from prunecast.surrogates import baselines, conformal
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import (
    AGREEMENT,
    AGREEMENT_THRESHOLDS,
    CURVATURE,
    FREE,
    CurveSet,
    Forecast,
    Surrogate,
    certain,
    has_proxies,
    samples,
)
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.surrogates.splits import SPLITS, Fold, relatives

LABELLED_STEPS = 4  # thresholds at which labelled examples are spent in `one_evaluation`
LEAST_LABELLED = 8

Outcomes = Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]  # by model and scope: agreement and correctness


@dataclass(frozen=True)
class Entry:
    """A surrogate that competes: how it is made from a seed, and which inputs it reads."""

    make: Callable[[int], Surrogate]
    groups: tuple[str, ...] = ()


LSTMS = ("lstm", "lstm_curvature", "lstm_agreement")
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
    "nearest_curve": Entry(lambda seed: baselines.NearestCurve(), FREE),
    "gaussian_process": Entry(lambda seed: baselines.GaussianProcess()),
    "logistic": Entry(lambda seed: baselines.Logistic()),
    "isotonic": Entry(lambda seed: baselines.Isotonic()),
    "mean_curve": Entry(lambda seed: baselines.MeanCurve()),
    "straight_line": Entry(lambda seed: baselines.StraightLine()),
}


def forecast(
    curves: CurveSet, splits: Iterable[str], seed: int, outcomes: Outcomes, contenders: Iterable[str] = ENTRIES
) -> pd.DataFrame:
    """Forecasts of the contenders in every protocol of the splits, with calibrated intervals: rows of `predictions`.

    Without `outcomes` the protocols that spend one evaluation on single examples are left out, and without its
    signals a contender is. The protocols of `vgg16` are calibrated on the transformers, forecast by architecture.
    """
    folds = [fold for split in splits for fold in SPLITS[split](curves, seed)]
    able = [name for name in contenders if has_proxies(curves, ENTRIES[name].groups)]
    jobs = (delayed(_fold_forecast)(fold, able, seed, outcomes) for fold in track(folds, "forecasting"))
    parts = Parallel(n_jobs=-1)(jobs)
    together = pd.concat(parts, ignore_index=True)
    together["group"] = together["model"].map(dict(zip(curves.models, relatives(curves.facts), strict=True)))
    contests: dict[Any, pd.DataFrame] = dict(iter(together.groupby(["protocol", "surrogate"], sort=False)))
    found = [conformal.calibrated(rows, contests.get(_calibrating(key), rows)) for key, rows in contests.items()]
    numbers = ["accuracy", "predicted", "lower", "upper"]
    rounded = pd.concat(found, ignore_index=True).round(dict.fromkeys(numbers, 5))
    return rounded.drop(columns="group").assign(axis=curves.axis, seed=seed)


def outcomes_of(probes: pd.DataFrame, thresholds: np.ndarray) -> Outcomes:
    """What the table `probes` holds, by model and scope."""
    return {key: _unrolled(rows, thresholds) for key, rows in probes.groupby(["model", "scope"])}  # type: ignore[misc]


def _unrolled(probes: pd.DataFrame, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From rows of `probes` of one model and scope back to agreement and correctness, booleans (T, n) both.

    The examples are in the order in which they were drawn, so the first n are a sample too.
    """
    groups = [rows for _, rows in probes.groupby("draw")]
    places = [np.searchsorted(rows["from_threshold"], thresholds, "right") - 1 for rows in groups]
    return tuple(  # type: ignore[return-value]
        np.stack([rows[name].to_numpy()[place] for rows, place in zip(groups, places, strict=True)], 1)
        for name in ("agrees", "correct")
    )


def leave_one_group_out(curves: CurveSet, make: Callable[[], Surrogate]) -> Forecast:
    """Forecasts of all curves, each by a surrogate that learned from no relative of its model and knows no point."""
    found = np.full((3, *curves.accuracy.shape), np.nan)
    groups = relatives(curves.facts)
    jobs = (delayed(_blind)(curves, groups == group, make) for group in track(sorted(set(groups)), "leaving out"))
    for out, forecast in Parallel(n_jobs=-1)(jobs):
        found[:, out] = forecast.predicted, forecast.lower, forecast.upper
    return Forecast(*found)


def unfitted(name: str, seed: int) -> Surrogate:
    """A contender, unfitted."""
    return ENTRIES[name].make(seed)


def _blind(curves: CurveSet, out: np.ndarray, make: Callable[[], Surrogate]) -> tuple[np.ndarray, Forecast]:
    unknown = curves.at(out).knowing(np.zeros(curves.accuracy[out].shape, bool))
    return out, make().fit(curves.at(~out)).predict(unknown)


def _fold_forecast(fold: Fold, names: Iterable[str], seed: int, outcomes: Outcomes) -> pd.DataFrame:
    parts = [rows.assign(surrogate=name) for name in names for rows in _of_fold(fold, ENTRIES[name], seed, outcomes)]
    return pd.concat([*parts, *_agreement_alone(fold, outcomes)], ignore_index=True)


def _calibrating(contest: Any) -> tuple[str, str]:
    """The protocol, and the surrogate, whose errors say how wide an interval must be."""
    protocol, surrogate = contest
    if protocol.startswith("vgg16"):
        protocol = protocol.removeprefix("vgg16_") if "_" in protocol else "leave_one_architecture_out"
    return protocol, surrogate


def _of_fold(fold: Fold, contender: Entry, seed: int, outcomes: Outcomes) -> Iterator[pd.DataFrame]:
    surrogate = contender.make(seed).fit(fold.training)
    spent = samples(contender.groups)
    nothing = np.zeros(fold.tested.accuracy.shape, bool)
    for protocol in fold.asked:
        if protocol == "points":
            assert fold.hidden is not None
            known, looked = ~fold.hidden, np.full(len(nothing), spent)
            curves = fold.tested.knowing(known)
        elif protocol.endswith("one_evaluation"):
            if not isinstance(surrogate, CurvePosterior) or AGREEMENT not in contender.groups or not outcomes:
                continue
            curves, looked = _one_evaluation(fold.tested, surrogate, spent, outcomes)
            known = nothing
        else:
            shots = int(protocol.rpartition("_")[2]) if "few_shot" in protocol else 0
            curves = _with_shots(fold.tested, surrogate, shots)
            known = ~np.isnan(curves.accuracy) if shots else nothing
            looked = spent + shots * fold.tested.facts["eval_examples"].to_numpy()
        known = known.copy()
        known[:, 0] &= protocol == "points"
        yield rows_of(fold.tested, surrogate.predict(curves), known, looked).assign(protocol=protocol)


def _with_shots(tested: CurveSet, surrogate: Surrogate, shots: int) -> CurveSet:
    """The tested curves with so many points of each known, chosen by the surrogate if it can, else evenly spaced."""
    curves = tested.knowing(np.zeros(tested.accuracy.shape, bool))
    if not isinstance(surrogate, CurvePosterior):
        places = np.linspace(0, len(tested.thresholds) - 1, shots + 2).round().astype(int)[1:-1]
        return tested.knowing(np.isin(np.arange(len(tested.thresholds)), places)[None])
    for _ in range(shots):
        curves = _reveal(curves, tested.accuracy, surrogate.next_thresholds(curves), np.zeros(len(curves.names)))
    return curves


def _one_evaluation(
    tested: CurveSet, surrogate: CurvePosterior, spent: int, outcomes: Outcomes
) -> tuple[CurveSet, np.ndarray]:
    """What is known after labelled examples were spent, at thresholds of the surrogate's choice, and all samples spent.

    A point is estimated from n examples as the dense accuracy plus the mean change of correctness. Agreement and
    labelled examples together cost at most one evaluation.
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
    return curves, spent + counts * (LABELLED_STEPS + 1)


def _estimate(dense: float, correct: np.ndarray, threshold: int, count: int) -> tuple[float, float]:
    """Accuracy at a threshold from `count` labelled examples, and its standard error; NaN from none."""
    if not count:
        return np.nan, 0.0
    change = correct[threshold, :count].astype(float) - correct[0, :count]
    unseen = 0.3  # of a change: that none was seen does not prove that there is none
    error = np.sqrt((((change - change.mean()) ** 2).sum() + unseen) / (count + 1) / count)
    return dense + change.mean(), error


def _reveal(curves: CurveSet, accuracy: np.ndarray, chosen: np.ndarray, errors: np.ndarray) -> CurveSet:
    known, noise = curves.accuracy.copy(), curves.noise.copy()
    rows = np.arange(len(chosen))
    known[rows, chosen], noise[rows, chosen] = accuracy[rows, chosen], errors
    return replace(curves, accuracy=known, noise=noise)


def _agreement_alone(fold: Fold, outcomes: Outcomes) -> Iterator[pd.DataFrame]:
    """The baseline without a surrogate: dense accuracy times agreement on as many examples as one evaluation allows."""
    for protocol in fold.asked:
        if "one_evaluation" not in protocol or not outcomes:
            continue
        found, looked = [], []
        for name, facts in zip(fold.tested.names, fold.tested.facts.to_dict("records"), strict=True):
            agrees = outcomes[name][0]
            count = min(agrees.shape[1], int(facts["eval_examples"]) // (1 + AGREEMENT_THRESHOLDS))
            steps = np.linspace(0, len(agrees) - 1, AGREEMENT_THRESHOLDS).round().astype(int)
            shares = agrees[steps, :count].mean(1)
            found.append(facts["dense_accuracy"] * np.interp(np.arange(len(agrees)), steps, shares))
            looked.append(count * (1 + AGREEMENT_THRESHOLDS))
        known = np.zeros(fold.tested.accuracy.shape, bool)
        rows = rows_of(fold.tested, certain(np.stack(found)), known, np.array(looked))
        yield rows.assign(protocol=protocol, surrogate="agreement")


def rows_of(tested: CurveSet, found: Forecast, known: np.ndarray, looked: np.ndarray) -> pd.DataFrame:
    """Forecasts as rows of `predictions`, without the points that were `known` (C, T); `looked` (C,) samples."""
    curve, step = np.nonzero(~known)
    return pd.DataFrame(
        {
            "model": tested.models[curve],
            "scope": tested.scopes[curve],
            "threshold": tested.thresholds[step],
            "accuracy": tested.accuracy[curve, step],
            "predicted": found.predicted[curve, step],
            "lower": found.lower[curve, step],
            "upper": found.upper[curve, step],
            "probes": known.sum(1)[curve],
            "samples": np.asarray(looked)[curve],
        }
    )
