import numpy as np
import pandas as pd
import pytest
import torch
from prunecast.models import checkpoints
from prunecast.models.evaluation import Examples, Outcome
from prunecast.pruning.masks import AXES, SCOPES
from prunecast.sweeps import collect, sweeper
from prunecast.sweeps.adaptive import GAP, adaptive, exact, last_safe, rehearse
from prunecast.sweeps.axes import check_reading
from tiny import plan
from torch import nn

SIZE = 20
POINTS = 101


class Diagonal(nn.Module):
    """Its hidden weights are a diagonal of growing size, so its pruning curve is known: see the test."""

    def __init__(self):
        super().__init__()
        self.hidden, self.output = nn.Linear(SIZE, SIZE, bias=False), nn.Linear(SIZE, SIZE, bias=False)
        self.hidden.weight.data = torch.diag(torch.arange(1.0, SIZE + 1))
        self.output.weight.data = torch.eye(SIZE)

    def forward(self, pixel_values):
        return {"logits": self.output(self.hidden(pixel_values))}


def _sweeper(model):
    """Example i lights input i and has label i."""
    examples = Examples(torch.eye(SIZE), None, torch.arange(SIZE))
    return sweeper.Sweeper(model, {"hidden.weight": model.hidden.weight}, examples, "float32", seed=0)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("engine", ["exact", "adaptive"])
def test_a_known_curve_is_recovered(engine, scope):
    """Zeros go first; then example after example fails, but the first, which the tie of all-zero logits gets right."""
    rows, _ = _sweeper(Diagonal()).curve("magnitude", scope, sweeper.grid(401), engine)
    lost = (rows["pruned"] - SIZE * (SIZE - 1)).clip(lower=0)
    expected = 1 - (lost - 1).clip(lower=0) / SIZE
    assert rows["accuracy"].to_list() == pytest.approx(expected.to_list())
    assert rows["pruned"].to_list() == list(range(SIZE * SIZE + 1))


def test_the_model_is_left_as_it_was():
    model = Diagonal()
    _sweeper(model).curve("random", "global", sweeper.grid(5), "exact")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), Diagonal().parameters(), strict=True))


def _falling(examples: int, seed: int) -> np.ndarray:
    """Margins (points, examples) of a model that breaks between a third and two thirds of the grid, with noise."""
    choice = np.random.default_rng(seed)
    breaks = choice.normal(POINTS / 2, 6, size=examples)
    return (breaks - np.arange(POINTS)[:, None]) / 10 + choice.normal(0, 0.05, size=(POINTS, examples))


def _look(margins: np.ndarray):
    def look(point, rows):
        margin = torch.from_numpy(margins[point, rows])
        return Outcome(margin > 0, margin.neg().exp(), margin)

    return look


@pytest.mark.parametrize("seed", range(5))
def test_the_adaptive_engine_stays_near_the_exact_one_at_a_fraction_of_its_cost(seed):
    margins = _falling(600, seed)
    whole, frugal = (engine(_look(margins), POINTS, 600) for engine in (exact, adaptive))
    assert np.abs(whole.accuracy - frugal.accuracy).max() <= 0.01
    assert frugal.evaluated.sum() < 0.15 * whole.evaluated.sum()
    assert frugal.accuracy[[0, 50, 100]].tolist() == whole.accuracy[[0, 50, 100]].tolist()
    assert np.array_equal(rehearse(whole).accuracy, frugal.accuracy)


def test_the_audit_notices_what_margins_hide():
    """Between the points that are always looked at, a hidden half of the examples fails in spite of large margins."""
    margins = np.full((POINTS, 600), 5.0)
    margins[20:30, ::2] = -5.0
    found = adaptive(_look(margins), POINTS, 600)
    assert found.surprises > 0
    assert found.accuracy[25] == pytest.approx(0.5, abs=0.01)
    assert found.belief_error_bound() > adaptive(_look(np.full((POINTS, 600), 5.0)), POINTS, 600).belief_error_bound()


def _first_fall(margins: np.ndarray, epsilon: float) -> int:
    accuracy = (margins > 0).mean(axis=1)
    falls = accuracy < accuracy[0] - epsilon - 1e-9
    return int(falls.argmax()) - 1 if falls.any() else POINTS - 1


@pytest.mark.parametrize("start", [1, 30, 50, POINTS - 1])
@pytest.mark.parametrize("seed", range(5))
def test_the_last_safe_point_is_the_one_before_the_first_fall_from_wherever_the_search_starts(seed, start):
    margins = _falling(600, seed)
    found = last_safe(_look(margins), POINTS, 600, 0.01, start)
    assert found.point == _first_fall(margins, 0.01)
    assert found.accuracy == (margins[found.point] > 0).mean() >= (margins[0] > 0).mean() - 0.01
    assert found.evaluated < 12 * 600


def _dipping(dip: slice, fall: int) -> np.ndarray:
    """Margins of which forty small ones fail in a dip, hold again above it, and fail for good from a point on."""
    margins = np.full((POINTS, 600), 5.0)
    margins[:fall, :40] = 0.1
    margins[fall:, :40] = margins[dip, :40] = -0.1
    return margins


@pytest.mark.parametrize(("below", "fall"), [(1, 60), (2, 61), (3, 62)])  # where halving alone passes the dip by
def test_a_dip_just_below_the_last_fall_is_found(below, fall):
    dip = fall - 1 - below
    assert last_safe(_look(_dipping(slice(dip, dip + 1), fall)), POINTS, 600, 0.01, 50).point == dip - 1


@pytest.mark.parametrize("dip", range(1, 53))
def test_a_dip_anywhere_below_is_found_if_it_is_wide(dip):
    assert last_safe(_look(_dipping(slice(dip, dip + GAP), 60)), POINTS, 600, 0.01, 50).point == dip - 1


def test_a_curve_that_never_falls_is_safe_to_its_end_and_one_that_falls_at_once_nowhere():
    margins = np.full((POINTS, 600), 5.0)
    assert last_safe(_look(margins), POINTS, 600, 0.01, 50).point == POINTS - 1
    margins[1:, :300] = -5.0
    found = last_safe(_look(margins), POINTS, 600, 0.01, 50)
    assert (found.point, found.accuracy) == (0, 1.0)


def test_a_loss_of_exactly_epsilon_is_safe():
    margins = np.full((POINTS, 600), 5.0)
    margins[40:, :6] = -0.1
    margins[70:, :7] = -0.1
    assert last_safe(_look(margins), POINTS, 600, 0.01, 50).point == 69


def test_a_model_is_searched_as_it_is_swept_and_left_as_it_was():
    model, thresholds = Diagonal(), sweeper.grid(101)[:-1]
    whole, _ = _sweeper(model).curve("magnitude", "layer", thresholds, "exact")
    falls = (whole["accuracy"] < whole["accuracy"].iloc[0] - 0.1 - 1e-9).to_numpy()
    with _sweeper(model).looking("magnitude", "layer", thresholds) as (look, _, _):
        found = last_safe(look, len(thresholds), SIZE, 0.1, 50)
    assert found.point == falls.argmax() - 1
    assert found.accuracy == pytest.approx(whole["accuracy"].iloc[found.point])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), Diagonal().parameters(), strict=True))


def test_every_axis_is_read_at_its_exact_sparsity_and_says_what_was_measured(tiny_models):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    rows = collect.swept(subject, plan(11, exact=["tiny"])).sweeps
    random, rows = rows[rows["criterion"] == "random"], rows[rows["criterion"] == "magnitude"]
    assert list(random["axis"].unique()) == ["percentile"]
    assert len(rows) == len(SCOPES) * len(AXES) * 11
    percentile = rows[rows["axis"] == "percentile"]
    assert percentile["measured"].all()
    assert percentile["sparsity"].to_list() == pytest.approx((percentile["threshold"] / 10).to_list(), abs=1e-4)
    total = sum(weight.numel() for weight in subject.weights.values())
    pooled = torch.cat([weight.detach().flatten() for weight in subject.weights.values()])
    for threshold in (1.0, 3.0):
        row = rows[(rows["axis"] == "sigma") & (rows["scope"] == "global") & (rows["threshold"] == threshold)].iloc[0]
        assert row["sparsity"] == pytest.approx(
            int((pooled.abs() < threshold * pooled.std(correction=0)).sum()) / total
        )
    ends = rows[(rows["threshold"] == 0) | (rows["sparsity"] == 1)]
    assert ends["measured"].all()
    between = rows[(rows["axis"] != "percentile") & rows["sparsity"].between(0.001, 0.999)]
    assert not between["measured"].all()
    for _, curve in rows.groupby(["scope", "axis"]):
        assert curve["sparsity"].is_monotonic_increasing


def test_adaptive_rows_say_what_was_looked_at(tiny_models):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    found = collect.swept(subject, plan(101))
    rows = found.sweeps[(found.sweeps["axis"] == "percentile") & (found.sweeps["criterion"] == "magnitude")]
    assert (rows["measured"] == (rows["evaluated"] == rows["eval_examples"])).all()
    assert rows["measured"].mean() < 1
    assert rows.groupby("scope")["evaluated"].sum().to_list() == found.engines["adaptive_examples"][:2].to_list()


def test_reading_agrees_with_measuring_where_the_masks_are_the_same(tiny_models):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    rows = collect.swept(subject, plan(11, exact=["tiny"])).sweeps
    check: pd.DataFrame = check_reading(
        subject.model, subject.weights, subject.examples, rows, "percentile", [0.0, 3.0, 7.0]
    )
    assert check["read"].to_list() == check["native"].to_list()
