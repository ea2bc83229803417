from dataclasses import replace

import numpy as np
import pytest
from curves_to_learn import FAMILIES as FAMILIES_OF_MODELS
from curves_to_learn import KNOWN
from prunecast.surrogates import splits
from prunecast.surrogates.features import CurveSet, Forecast, without_interval

FAMILIES = set(FAMILIES_OF_MODELS)


def test_points_that_are_hidden_are_not_trained_on() -> None:
    (fold,) = splits.points(KNOWN, 0)
    assert fold.hidden is not None
    assert np.isnan(fold.training.accuracy[fold.hidden]).all()
    assert not np.isnan(fold.training.accuracy[~fold.hidden]).any()


@pytest.mark.parametrize("split", [name for name in splits.SPLITS if name != "points"])
def test_no_model_that_is_forecast_was_trained_on(split: str) -> None:
    for fold in splits.SPLITS[split](KNOWN, 0):
        assert not set(fold.training.models) & set(fold.tested.models)
        if split == "leave_one_architecture_out":
            assert not set(fold.training.facts["family"]) & set(fold.tested.facts["family"])
        if split == "leave_one_task_out":
            assert not set(fold.training.facts["task"]) & set(fold.tested.facts["task"])
        if split == "leave_one_parent_out":
            parents = [set(curves.facts["parent"].fillna("")) for curves in (fold.training, fold.tested)]
            assert not parents[0] & parents[1]
        if split == "vgg16":
            assert set(fold.training.facts["architecture"]) == {"bert", "electra", "gpt2"}
            assert set(fold.tested.facts["architecture"]) == {"vgg16_bn"}


def test_only_measured_points_are_hidden() -> None:
    measured = np.arange(KNOWN.accuracy.shape[1]) % 2 == np.zeros((len(KNOWN.names), 1))
    (fold,) = splits.points(replace(KNOWN, measured=measured), 0)
    assert fold.hidden is not None
    assert fold.hidden.any()
    assert not fold.hidden[~measured].any()


class _Trained:
    """A surrogate that forecasts how many curves of each group it was trained on, at the first thresholds."""

    def fit(self, curves: CurveSet) -> "_Trained":
        self.groups = list(curves.facts["family"])
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        assert np.isnan(curves.accuracy[:, 1:]).all()
        counts = np.zeros(curves.accuracy.shape)
        counts[:, : len(FAMILIES)] = [self.groups.count(name) for name in sorted(FAMILIES)]
        return without_interval(counts)


def test_two_groups_left_out_are_the_tested_one_and_the_own_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "in_processes", lambda function, jobs, _: [function(*job) for job in jobs])
    groups, names = KNOWN.facts["family"].to_numpy(object), sorted(FAMILIES)
    forecast = splits.leave_two_groups_out(KNOWN, groups, _Trained).predicted
    for place, name in enumerate(names):
        for curve, own in enumerate(groups):
            counts = dict(zip(names, forecast[place, curve], strict=False))
            assert {group for group, count in counts.items() if not count} == {name, own}
    once = splits.leave_one_group_out(KNOWN, groups, _Trained).predicted
    for place, name in enumerate(names):
        assert np.array_equal(once[groups == name], forecast[place, groups == name])
