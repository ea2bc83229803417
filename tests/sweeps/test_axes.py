import pandas as pd
import pytest
import torch
from prunecast.models.checkpoints import TrainedModel
from prunecast.pruning.masks import AXES, SCOPES
from prunecast.sweeps import collect
from prunecast.sweeps.axes import check_reading
from tiny import apart, plan


@pytest.fixture(scope="module")
def rows(subject: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The exact sweep of the small model at eleven thresholds."""
    own: TrainedModel = apart(subject, tmp_path_factory.mktemp("swept"))
    return collect.swept(own, plan(11, exact=["tiny"])).sweeps


def test_every_axis_is_read_at_its_exact_sparsity_and_shows_what_was_measured(
    subject: TrainedModel, rows: pd.DataFrame
) -> None:
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
        pruned = int((pooled.abs() < threshold * pooled.std(correction=0)).sum())
        assert row["sparsity"] == pytest.approx(pruned / total)
    ends = rows[(rows["threshold"] == 0) | (rows["sparsity"] == 1)]
    assert ends["measured"].all()
    between = rows[(rows["axis"] != "percentile") & rows["sparsity"].between(0.001, 0.999)]
    assert not between["measured"].all()
    for _, curve in rows.groupby(["scope", "axis"]):
        assert curve["sparsity"].is_monotonic_increasing


def test_reading_agrees_with_measuring_where_the_masks_are_the_same(subject: TrainedModel, rows: pd.DataFrame) -> None:
    check = check_reading(subject.model, subject.weights, subject.examples, rows, "percentile", [0.0, 3.0, 7.0])
    assert check["read"].to_list() == check["native"].to_list()
