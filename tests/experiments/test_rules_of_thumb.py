import numpy as np
import pandas as pd
import pytest
from prunecast.experiments import rules_of_thumb

EPSILON = 0.02
GRID = np.round(np.arange(0, 1.001, 0.01), 2)
RULE, ALWAYS, CALIBRATED, RATIO = range(4)
NO_FORECASTS = pd.DataFrame(
    columns=["measurements", "epsilon", "method", "loss", "recommended", "optimum"], dtype=float
)
SHARES = {f"model{index}": share for index, share in enumerate((0.2, 0.3, 0.4, 0.5, 0.6))}


def _curve(model, optimum, scope="global", at_optimum=0.9, **given):
    """A curve that is flat below its optimum and at nothing a hundredth above it."""
    accuracy = np.where(optimum - 1e-6 > GRID, 0.9, np.where(optimum + 1e-6 > GRID, at_optimum, 0.0))
    frame = pd.DataFrame({"model": model, "scope": scope, "sparsity": GRID, "accuracy": accuracy})
    return frame.assign(**{"criterion": "magnitude", "axis": "percentile"} | given)


def _row(model, share, optimum, granularity="global", **given):
    row = {"model": model, "granularity": granularity, "sparsity": 1 - share, "optimum": optimum}
    return row | {"criterion": "magnitude", "beta": 1.0} | given


def _judged(shares, optima, forecasts=NO_FORECASTS):
    """Rules for models whose effective number and optimum are known, among rows that must not count."""
    rows = [_row(model, shares[model], optimum) for model, optimum in optima.items()]
    others = [
        _row(model, 0.99, 0.99, **given) for model in optima for given in ({"criterion": "taylor"}, {"beta": 0.5})
    ]
    sweeps = [_curve(model, optimum) for model, optimum in optima.items()]
    misleading = [{"criterion": "random"}, {"axis": "sigma"}, {"scope": "layer"}]
    sweeps += [_curve(model, 0.05, **given) for model in optima for given in misleading]
    shuffled = pd.concat(sweeps).sample(frac=1, random_state=0)
    return rules_of_thumb.judged(pd.DataFrame(rows + others), shuffled, forecasts, EPSILON)


def test_a_rule_that_is_at_the_optimum_is_safe_and_leaves_nothing():
    shares = {"a": 0.3, "b": 0.55, "c": 0.8}
    found = _judged(shares, {model: 1 - share for model, share in shares.items()}).iloc[RULE]
    assert found.name == "effective number, beta 1"
    assert found.to_list() == pytest.approx([1, (0.7 + 0.45 + 0.2) / 3, 0])


def test_what_is_lost_above_the_optimum_and_left_below_it_is_counted():
    shares = {"a": 0.3, "b": 0.5, "c": 0.6, "d": 0.8}
    found = _judged(shares, {"a": 0.9, "b": 0.5, "c": 0.3, "d": 0.35})
    assert found.iloc[RULE].to_list() == pytest.approx([3 / 4, (0.7 + 0.5 + 0.4 + 0.2) / 4, (0.2 + 0.15) / 4])
    assert found.index[ALWAYS] == "always 0.45"
    assert found.iloc[ALWAYS].to_list() == pytest.approx([2 / 4, 0.45, (0.45 + 0.05) / 4])


def test_between_two_points_of_a_curve_the_loss_is_that_of_the_line_between_them():
    points = pd.DataFrame({"sparsity": [0.0, 0.5, 1.0], "accuracy": [0.9, 0.9, 0.5]})
    given = {"scope": "global", "criterion": "magnitude", "axis": "percentile"}
    sweeps = pd.concat([points.assign(model=model, **given) for model in ("a", "b")])
    rows = pd.DataFrame([_row("a", 0.476, 0.5), _row("b", 0.474, 0.5)])  # 0.025 above one half loses 0.02
    assert rules_of_thumb.judged(rows, sweeps, NO_FORECASTS, EPSILON)["within epsilon"].iloc[RULE] == 1 / 2


def test_a_calibrated_ratio_is_that_of_the_other_models_alone():
    before = _judged({"a": 0.5, "b": 0.5}, {"a": 0.3, "b": 0.6}).iloc[RATIO]
    assert before.name == "one ratio, calibrated"
    assert before.to_list() == pytest.approx([1 / 2, (0.6 + 0.3) / 2, (0.6 - 0.3) / 2])
    after = _judged({"a": 0.5, "b": 0.5}, {"a": 0.7, "b": 0.6}).iloc[RATIO]  # a still gets 0.6, b now 0.7
    assert after.to_list() == pytest.approx([1 / 2, (0.6 + 0.7) / 2, (0.7 - 0.6) / 2])


def test_a_calibrated_factor_is_that_of_the_other_models_alone():
    shares = {"a": 0.4, "b": 0.5}
    before = _judged(shares, {"a": 1 - 1.5 * 0.4, "b": 1 - 1.2 * 0.5}).iloc[CALIBRATED]
    assert before.name == "effective number, calibrated"
    assert before.to_list() == pytest.approx([1 / 2, (1 - 1.2 * 0.4 + 1 - 1.5 * 0.5) / 2, 0.3 * 0.5 / 2])
    after = _judged(shares, {"a": 1 - 1.1 * 0.4, "b": 1 - 1.2 * 0.5}).iloc[CALIBRATED]
    assert after["sparsity"] == pytest.approx((1 - 1.2 * 0.4 + 1 - 1.1 * 0.5) / 2)


def test_no_curve_of_the_own_model_is_looked_at_in_whatever_scope():
    """Two curves of each model: `a` falls early in one scope and late in the other, `b` in between in both."""
    optima = {("a", "global"): 0.2, ("a", "layer"): 0.8, ("b", "global"): 0.5, ("b", "layer"): 0.5}
    rows = pd.DataFrame([_row(model, 0.5, best, scope) for (model, scope), best in optima.items()])
    sweeps = pd.concat([_curve(model, best, scope) for (model, scope), best in optima.items()])
    found = rules_of_thumb.judged(rows, sweeps, NO_FORECASTS, EPSILON).iloc[RATIO]
    assert found.to_list() == pytest.approx([3 / 4, (0.5 + 0.5 + 0.2 + 0.2) / 4, (0.3 + 0.3 + 0.3) / 4])


@pytest.mark.parametrize(("models", "ratio"), [(11, 0.6), (10, 0.2)])
def test_one_curve_in_ten_may_lose_more(models, ratio):
    """One model falls at 0.2; where it is one of ten others, it is passed over, where it is one of nine, it is not."""
    optima = {f"model{index}": 0.6 for index in range(models - 1)} | {"fragile": 0.2}
    found = _judged(dict.fromkeys(optima, 0.5), optima).iloc[RATIO]
    assert found["sparsity"] == pytest.approx((ratio * (models - 1) + 0.6) / models)
    assert found["within epsilon"] == pytest.approx((models - 1) / models)


def test_where_the_effective_number_follows_the_optimum_it_beats_one_ratio():
    found = _judged(SHARES, {model: 1 - 1.2 * share for model, share in SHARES.items()})
    assert found.iloc[CALIBRATED].to_list() == pytest.approx([1, 1 - 1.2 * 0.4, 0])
    assert found["within epsilon"].iloc[RULE] == 0
    assert found["within epsilon"].iloc[RATIO] == 4 / 5  # all but the one that the ratio would be taken from
    assert found["unused"].iloc[RATIO] > 0.1


def test_where_it_does_not_one_ratio_beats_the_effective_number():
    found = _judged(SHARES, dict.fromkeys(SHARES, 0.5))
    assert found.iloc[RATIO].to_list() == pytest.approx([1, 0.5, 0])
    assert found["within epsilon"].iloc[RULE] == 2 / 5
    number = found.iloc[CALIBRATED]
    assert number["within epsilon"] < 1 or number["unused"] > 0.05
    assert number["sparsity"] < 0.5


def test_a_loss_of_exactly_epsilon_is_safe_for_a_rule_and_for_its_calibration():
    rows = pd.DataFrame([_row(model, 0.5, 0.5) for model in ("a", "b")])
    sweeps = pd.concat([_curve(model, 0.5, at_optimum=0.88) for model in ("a", "b")])  # 0.9 - 0.88 > 0.02 by a rounding
    found = rules_of_thumb.judged(rows, sweeps, NO_FORECASTS, EPSILON)
    for place in (RULE, ALWAYS, CALIBRATED, RATIO):
        assert found.iloc[place].to_list() == pytest.approx([1, 0.5, 0]), found.index[place]


def test_where_nothing_suits_the_mildest_is_taken():
    """The others fall at once, so that no pruning at all is what they allow."""
    found = _judged({"a": 0.5, "b": 0.5}, {"a": 0.0, "b": 0.0}).iloc[RATIO]
    assert found.to_list() == pytest.approx([1, 0, 0])
    assert _judged({"a": 0.2, "b": 0.2}, {"a": 0.1, "b": 0.1}).iloc[CALIBRATED]["sparsity"] == pytest.approx(
        1 - 3 * 0.2
    )


def test_forecasts_without_measurements_stand_beside_the_rules():
    rows = [(0, EPSILON, "lstm", 0.01, 0.4, 0.5), (0, EPSILON, "lstm", 0.03, 0.6, 0.5)]
    rows += [(5, EPSILON, "lstm", 0.9, 0.9, 0.1), (0, 0.05, "lstm", 0.9, 0.9, 0.1), (0, EPSILON, "warped", 0, 0.1, 0.3)]
    forecasts = pd.DataFrame(rows, columns=NO_FORECASTS.columns)
    found = _judged({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}, forecasts)
    assert list(found.index[RATIO + 1 :]) == ["forecast, lstm", "forecast, warped"]
    assert found.loc["forecast, lstm"].to_list() == pytest.approx([1 / 2, 0.5, 0.05])
    assert found.loc["forecast, warped"].to_list() == pytest.approx([1, 0.1, 0.2])
