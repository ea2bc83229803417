from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from prunecast.experiments import rules_of_thumb

EPSILON = 0.02
GRID = np.round(np.arange(0, 1.001, 0.01), 2)
RULE, ALWAYS, CALIBRATED, RATIO = range(4)
NO_FORECASTS = pd.DataFrame(
    columns=["split", "measurements", "epsilon", "method", "model", "scope", "loss", "recommended"], dtype=float
)
SPLIT = "leave_one_architecture_out"
SHARES = {f"model{index}": share for index, share in enumerate((0.2, 0.3, 0.4, 0.5, 0.6))}


def _curve(model: str, optimum: float, scope: str = "global", at_optimum: float = 0.9) -> pd.DataFrame:
    """A curve that is flat below its optimum and at zero a hundredth above it."""
    accuracy = np.where(optimum - 1e-6 > GRID, 0.9, np.where(optimum + 1e-6 > GRID, at_optimum, 0.0))
    keys = {"model": model, "scope": scope, "criterion": "magnitude", "axis": "percentile"}
    return pd.DataFrame({"sparsity": GRID, "accuracy": accuracy, **keys})


def _row(
    model: str, share: float, optimum: float, granularity: str = "global", criterion: str = "magnitude", beta: float = 1
) -> dict[str, str | float]:
    keys = {"model": model, "granularity": granularity, "criterion": criterion}
    return keys | {"beta": beta, "sparsity": 1 - share, "optimum": optimum}


def _rules(
    shares: Mapping[str, float], optima: Mapping[str, float], forecasts: pd.DataFrame = NO_FORECASTS
) -> pd.DataFrame:
    """Rules for models whose effective number and optimum are known, among rows that must not count."""
    rows = [_row(model, shares[model], optimum) for model, optimum in optima.items()]
    others = [_row(model, 0.99, 0.99, criterion="taylor") for model in optima]
    others += [_row(model, 0.99, 0.99, beta=0.5) for model in optima]
    sweeps = [_curve(model, optimum) for model, optimum in optima.items()]
    for model in optima:  # curves that must not count
        curve = _curve(model, 0.05)
        sweeps += [curve.assign(criterion="random"), curve.assign(axis="sigma"), curve.assign(scope="layer")]
    shuffled = pd.concat(sweeps).sample(frac=1, random_state=0)
    emp = pd.DataFrame(rows + others)
    return _evaluated(emp, shuffled, forecasts)


def _evaluated(emp: pd.DataFrame, sweeps: pd.DataFrame, forecasts: pd.DataFrame = NO_FORECASTS) -> pd.DataFrame:
    """Every model is a family and a task of its own."""
    names = emp["model"].unique()
    models = pd.DataFrame({"model": names, "family": names, "parent": None, "task": names})
    rules = rules_of_thumb.evaluate_rules(emp, sweeps, forecasts, models, EPSILON)
    by_task = rules.loc["leave_one_task_out"]
    assert by_task.iloc[:4].equals(rules.loc[SPLIT].iloc[:4])
    return rules.loc[SPLIT, ["within epsilon", "sparsity", "unused"]]


def test_a_rule_that_is_at_the_optimum_is_safe_and_leaves_nothing_unused() -> None:
    shares = {"a": 0.3, "b": 0.55, "c": 0.8}
    rules = _rules(shares, {model: 1 - share for model, share in shares.items()}).iloc[RULE]
    assert rules.name == "effective number, beta 1"
    assert rules.to_list() == pytest.approx([1, (0.7 + 0.45 + 0.2) / 3, 0])


def test_losses_above_the_optimum_and_unused_sparsity_below_it_are_counted() -> None:
    shares = {"a": 0.3, "b": 0.5, "c": 0.6, "d": 0.8}
    rules = _rules(shares, {"a": 0.9, "b": 0.5, "c": 0.3, "d": 0.35})
    assert rules.iloc[RULE].to_list() == pytest.approx([3 / 4, (0.7 + 0.5 + 0.4 + 0.2) / 4, (0.2 + 0.15) / 4])
    assert rules.index[ALWAYS] == "always 0.45"
    assert rules.iloc[ALWAYS].to_list() == pytest.approx([2 / 4, 0.45, (0.45 + 0.05) / 4])


def test_between_two_points_of_a_curve_the_loss_is_that_of_the_line_between_them() -> None:
    points = pd.DataFrame({"sparsity": [0.0, 0.5, 1.0], "accuracy": [0.9, 0.9, 0.5]})
    points = points.assign(scope="global", criterion="magnitude", axis="percentile")
    sweeps = pd.concat([points.assign(model=model) for model in ("a", "b")])
    rows = pd.DataFrame([_row("a", 0.476, 0.5), _row("b", 0.474, 0.5)])  # 0.025 above one half loses 0.02
    rules = _evaluated(rows, sweeps)
    assert rules["within epsilon"].iloc[RULE] == 1 / 2


def test_a_calibrated_ratio_is_that_of_the_other_models_alone() -> None:
    before = _rules({"a": 0.5, "b": 0.5}, {"a": 0.3, "b": 0.6}).iloc[RATIO]
    assert before.name == "one ratio, calibrated"
    assert before.to_list() == pytest.approx([1 / 2, (0.6 + 0.3) / 2, (0.6 - 0.3) / 2])
    after = _rules({"a": 0.5, "b": 0.5}, {"a": 0.7, "b": 0.6}).iloc[RATIO]  # a still gets 0.6, b now 0.7
    assert after.to_list() == pytest.approx([1 / 2, (0.6 + 0.7) / 2, (0.7 - 0.6) / 2])


def test_a_calibrated_factor_is_that_of_the_other_models_alone() -> None:
    shares = {"a": 0.4, "b": 0.5}
    before = _rules(shares, {"a": 1 - 1.5 * 0.4, "b": 1 - 1.2 * 0.5}).iloc[CALIBRATED]
    assert before.name == "effective number, calibrated"
    assert before.to_list() == pytest.approx([1 / 2, (1 - 1.2 * 0.4 + 1 - 1.5 * 0.5) / 2, 0.3 * 0.5 / 2])
    after = _rules(shares, {"a": 1 - 1.1 * 0.4, "b": 1 - 1.2 * 0.5}).iloc[CALIBRATED]
    assert after["sparsity"] == pytest.approx((1 - 1.2 * 0.4 + 1 - 1.1 * 0.5) / 2)


def test_no_curve_of_the_own_model_is_read_in_any_scope() -> None:
    """Two curves of each model: `a` falls early in one scope and late in the other, `b` in between in both."""
    optima = {("a", "global"): 0.2, ("a", "layer"): 0.8, ("b", "global"): 0.5, ("b", "layer"): 0.5}
    rows = pd.DataFrame([_row(model, 0.5, best, scope) for (model, scope), best in optima.items()])
    sweeps = pd.concat([_curve(model, best, scope) for (model, scope), best in optima.items()])
    ratio = _evaluated(rows, sweeps).iloc[RATIO]
    assert ratio.to_list() == pytest.approx([3 / 4, (0.5 + 0.5 + 0.2 + 0.2) / 4, (0.3 + 0.3 + 0.3) / 4])


@pytest.mark.parametrize(("models", "ratio"), [(11, 0.6), (10, 0.2)])
def test_one_curve_in_ten_may_lose_more(models: int, ratio: float) -> None:
    """One model falls at 0.2; where it is one of ten others, it is tolerated, where it is one of nine, it is not."""
    optima = {f"model{index}": 0.6 for index in range(models - 1)} | {"fragile": 0.2}
    calibrated = _rules(dict.fromkeys(optima, 0.5), optima).iloc[RATIO]
    assert calibrated["sparsity"] == pytest.approx((ratio * (models - 1) + 0.6) / models)
    assert calibrated["within epsilon"] == pytest.approx((models - 1) / models)


def test_where_the_effective_number_follows_the_optimum_it_beats_one_ratio() -> None:
    rules = _rules(SHARES, {model: 1 - 1.2 * share for model, share in SHARES.items()})
    assert rules.iloc[CALIBRATED].to_list() == pytest.approx([1, 1 - 1.2 * 0.4, 0])
    assert rules["within epsilon"].iloc[RULE] == 0
    assert rules["within epsilon"].iloc[RATIO] == 4 / 5  # all but the one that the ratio would be taken from
    assert rules["unused"].iloc[RATIO] > 0.1


def test_where_it_does_not_one_ratio_beats_the_effective_number() -> None:
    rules = _rules(SHARES, dict.fromkeys(SHARES, 0.5))
    assert rules.iloc[RATIO].to_list() == pytest.approx([1, 0.5, 0])
    assert rules["within epsilon"].iloc[RULE] == 2 / 5
    number = rules.iloc[CALIBRATED]
    assert number["within epsilon"] < 1 or number["unused"] > 0.05
    assert number["sparsity"] < 0.5


def test_a_loss_of_exactly_epsilon_is_safe_for_a_rule_and_for_its_calibration() -> None:
    rows = pd.DataFrame([_row(model, 0.5, 0.5) for model in ("a", "b")])
    sweeps = pd.concat([_curve(model, 0.5, at_optimum=0.88) for model in ("a", "b")])  # 0.9 - 0.88 > 0.02 by a rounding
    rules = _evaluated(rows, sweeps)
    for place in (RULE, ALWAYS, CALIBRATED, RATIO):
        assert rules.iloc[place].to_list() == pytest.approx([1, 0.5, 0]), rules.index[place]


def test_where_no_setting_is_safe_that_of_least_sparsity_is_taken() -> None:
    """The other model falls at once, so that no pruning at all is safe on it."""
    ratio = _rules({"a": 0.5, "b": 0.5}, {"a": 0.0, "b": 0.0}).iloc[RATIO]
    assert ratio.to_list() == pytest.approx([1, 0, 0])
    number = _rules({"a": 0.2, "b": 0.2}, {"a": 0.1, "b": 0.1}).iloc[CALIBRATED]
    assert number["sparsity"] == pytest.approx(1 - 3 * 0.2)


def test_forecasts_without_measurements_stand_beside_the_rules() -> None:
    def row(method: str, model: str, loss: float, at: float, measurements: int = 0, epsilon: float = EPSILON) -> tuple:
        return (SPLIT, measurements, epsilon, method, model, "global", loss, at)

    rows = [
        row("lstm", "b", 0.03, 0.6),
        row("lstm", "a", 0.01, 0.4),
        row("mean", "a", 0, 0.1),
        row("mean", "b", 0, 0.1),
    ]
    rows += [row("lstm", "a", 0.9, 0.9, measurements=5), row("lstm", "a", 0.9, 0.9, epsilon=0.05)]
    rules = _rules({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}, pd.DataFrame(rows, columns=NO_FORECASTS.columns))
    assert list(rules.index[RATIO + 1 :]) == ["forecast, lstm", "forecast, mean"]
    assert rules.T["forecast, lstm"].to_list() == pytest.approx([1 / 2, 0.5, 0.05])
    assert rules.T["forecast, mean"].to_list() == pytest.approx([1, 0.1, 0.4])


def test_a_rule_is_calibrated_without_the_relatives_that_a_forecast_was_trained_without() -> None:
    """Two models of one family fall early, one of another late; each family is calibrated on the other alone."""
    optima = {"a": 0.3, "sibling": 0.4, "b": 0.6}
    emp = pd.DataFrame([_row(model, 0.5, best) for model, best in optima.items()])
    sweeps = pd.concat([_curve(model, best) for model, best in optima.items()])
    models = pd.DataFrame(
        {"model": list(optima), "family": ["one", "one", "two"], "parent": None, "task": ["x", "y", "x"]}
    )
    rules = rules_of_thumb.evaluate_rules(emp, sweeps, NO_FORECASTS, models, EPSILON)
    ratio = rules.xs(rules_of_thumb.ONE_RATIO, level="rule")["sparsity"]
    assert ratio["leave_one_architecture_out"] == pytest.approx((0.6 + 0.6 + 0.3) / 3)
    assert ratio["leave_one_task_out"] == pytest.approx((0.4 + 0.3 + 0.4) / 3)


def test_the_difference_from_one_ratio_is_paired_and_has_an_interval_from_five_groups_on() -> None:
    optima = {model: 1 - 1.2 * share for model, share in SHARES.items()}
    emp = pd.DataFrame([_row(model, SHARES[model], best) for model, best in optima.items()])
    sweeps = pd.concat([_curve(model, best) for model, best in optima.items()])
    names = list(optima)
    models = pd.DataFrame({"model": names, "family": names, "parent": None, "task": names})
    rules = rules_of_thumb.evaluate_rules(emp, sweeps, NO_FORECASTS, models, EPSILON).loc[SPLIT]
    own = rules.loc["effective number, calibrated"]
    assert own["difference"] == pytest.approx(own["unused"] - rules.loc[rules_of_thumb.ONE_RATIO, "unused"])
    assert own["low"] <= own["difference"] <= own["high"]


def test_one_ratio_is_calibrated_on_the_curves_of_other_groups() -> None:
    """Of the four other models nine of ten curves must be safe, so all of them: the ratio is their least optimum."""
    optima = {"a": 0.3, "b": 0.4, "c": 0.5, "d": 0.6, "e": 0.7}
    curves = [_curve(model, optimum, scope) for model, optimum in optima.items() for scope in ("global", "layer")]
    names = list(optima)
    models = pd.DataFrame({"model": names, "family": names, "parent": None})
    rows = rules_of_thumb.constant_ratio(pd.concat(curves), models, EPSILON).set_index(["model", "scope"])
    assert rows.loc["a", "recommended"].to_list() == pytest.approx([0.4, 0.4])
    assert (rows.loc["a", "loss"] > EPSILON).all()
    assert rows.drop("a")["recommended"].to_numpy() == pytest.approx(0.3)
    assert (rows.drop("a")["loss"] <= EPSILON).all()
