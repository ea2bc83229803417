import numpy as np
import pandas as pd
import pytest
import torch
from prunecast.models.evaluation import Outcome
from prunecast.sweeps import search_costs
from prunecast.sweeps.curve_metrics import chance_within

POINTS, EXAMPLES = 101, 400


def _outcomes() -> list[Outcome]:
    """An exact curve whose examples fail for good from a point of their own on, in the order of their margins."""
    breaks = np.sort(np.random.default_rng(0).normal(70, 9, EXAMPLES))
    margins = (breaks - np.arange(POINTS)[:, None]) / 10
    return [Outcome(row > 0, row.neg().exp(), row) for row in torch.from_numpy(margins)]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return search_costs.search_costs(_outcomes(), 0)


def test_every_row_is_what_the_exact_curve_says_at_the_ratio_found(rows: pd.DataFrame) -> None:
    accuracy = np.array([outcome.accuracy for outcome in _outcomes()])
    optimum = int((accuracy < accuracy[0] - 0.01 - 1e-9).argmax()) - 1
    assert rows["optimum"].to_numpy() == pytest.approx(optimum / 100)
    at = (rows["recommended"] * 100).round().astype(int)
    assert rows["loss"].to_numpy() == pytest.approx(accuracy[0] - accuracy[at])
    exact = rows[(rows["method"] == "search") & rows["budget"].isna() & rows["confidence"].isna()]
    assert exact["recommended"].item() == exact["optimum"].item()


def test_budgets_are_kept_halving_ends_at_the_optimum_and_a_scan_evaluates_up_to_the_first_unsafe(
    rows: pd.DataFrame,
) -> None:
    limited = rows[(rows["method"] == "search") & rows["budget"].notna()]
    assert limited["budget"].to_list() == [*search_costs.BUDGETS]
    assert (limited["evaluations"] <= limited["budget"]).all()
    halving = rows[rows["method"] == "halving"]
    assert halving["evaluations"].to_list() == [*range(1, len(halving) + 1)]
    assert len(halving) in (6, 7)
    assert halving["recommended"].is_monotonic_increasing
    assert halving.iloc[-1]["recommended"] == halving.iloc[-1]["optimum"]
    scan = rows[rows["method"] == "scan"].iloc[0]
    assert scan["evaluations"] == round(scan["optimum"] * 100) + 1


def test_a_confidence_costs_sparsity_and_holds_more_often_on_the_other_half(rows: pd.DataFrame) -> None:
    exact = rows[(rows["method"] == "search") & rows["budget"].isna()]
    assert exact["recommended"].is_monotonic_decreasing
    assert exact["held_out"].is_monotonic_increasing
    assert exact["held_out"].between(0, 1).all()
    dense, *others = (outcome.correct.numpy() for outcome in _outcomes())
    for row in exact[exact["confidence"].notna()].to_dict("records"):
        chances = [chance_within(int((dense & ~now).sum()), 0, EXAMPLES, 0.01) for now in others]
        point = round(row["recommended"] * 100)
        assert point == 0 or chances[point - 1] >= row["confidence"] > chances[point]


def test_a_summary_counts_curves_that_are_safe_and_what_is_left_unused() -> None:
    rows = pd.DataFrame(
        {
            "method": ["search"] * 4, "confidence": np.nan, "budget": 1.0, "epsilon": 0.01, "held_out": np.nan,
            "evaluations": [1.0, 0.5, 1.0, 0.5], "optimum": [0.5, 0.6, 0.7, 0.8], "recommended": [0.5, 0.5, 0.8, 0.6],
            "loss": [0.01, 0.0, 0.02, 0.0],
        }
    )  # fmt: skip
    (found,) = search_costs.summary(rows, np.array(["a", "a", "b", "b"], object)).to_dict("records")
    assert found["evaluations"] == 0.75
    assert found["unused"] == pytest.approx((0 + 0.1 + 0 + 0.2) / 4)
    assert (found["safe"], found["same"], found["curves"]) == (0.75, 0.25, 4)
    assert np.isnan(found["low"])  # there are two groups
