import pandas as pd
import pytest
import torch
from prunecast import collect, sweep
from prunecast.evaluation import Batch
from prunecast.pruning.masks import AXES, SCOPES
from torch import nn

SIZE = 20


class Diagonal(nn.Module):
    """Its hidden weights are a diagonal of growing size, so its pruning curve is known: see the test."""

    def __init__(self):
        super().__init__()
        self.hidden, self.output = nn.Linear(SIZE, SIZE, bias=False), nn.Linear(SIZE, SIZE, bias=False)
        self.hidden.weight.data = torch.diag(torch.arange(1.0, SIZE + 1))
        self.output.weight.data = torch.eye(SIZE)

    def forward(self, inputs):
        return {"logits": self.output(self.hidden(inputs))}


@pytest.fixture
def batches():
    """Example i lights input i and has label i."""
    return [Batch({"inputs": torch.eye(SIZE)}, torch.arange(SIZE))]


def test_a_known_curve_is_recovered(batches):
    """Zeros go first; then example after example fails, but the first, which the tie of all-zero logits gets right."""
    curve = pd.DataFrame(sweep.measure(Diagonal(), batches, sweep.grid(401)))
    for _, rows in curve.groupby("scope"):
        lost = (rows["pruned"] - SIZE * (SIZE - 1)).clip(lower=0)
        expected = 1 - (lost - 1).clip(lower=0) / SIZE
        assert rows["accuracy"].to_list() == pytest.approx(expected.to_list())
        assert rows["pruned"].to_list() == list(range(SIZE * SIZE + 1))


def test_the_model_is_left_as_it_was(batches):
    model = Diagonal()
    list(sweep.measure(model, batches, sweep.grid(5)))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), Diagonal().parameters(), strict=True))


def test_known_points_are_not_measured_again(batches):
    thresholds = sweep.grid(11)
    whole = list(sweep.measure(Diagonal(), batches, thresholds))
    faked = [point | {"accuracy": 0.123} for point in whole[:15]]
    resumed = list(sweep.measure(Diagonal(), batches, thresholds, faked))
    assert resumed == faked + whole[15:]


def test_every_axis_is_read_at_its_exact_sparsity_and_says_what_was_measured(tiny_models):
    subject = collect.trained("tiny", "a", 0)
    rows = collect.swept(subject, points=11)
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


def test_reading_agrees_with_measuring_where_the_masks_are_the_same(tiny_models):
    subject = collect.trained("tiny", "a", 0)
    rows = collect.swept(subject, points=11)
    check = sweep.check_reading(subject.model, subject.batches, rows, "percentile", [0.0, 3.0, 7.0])
    assert check["read"].to_list() == check["native"].to_list()
