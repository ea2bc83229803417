import numpy as np
import pandas as pd
import pytest
from curves_to_learn import KNOWN
from prunecast.surrogates import splits


def test_points_that_are_hidden_are_not_trained_on() -> None:
    (fold,) = splits.points(KNOWN, 0)
    assert fold.hidden is not None
    assert np.isnan(fold.training.accuracy[fold.hidden]).all()
    assert not np.isnan(fold.training.accuracy[~fold.hidden]).any()


@pytest.mark.parametrize("split", ["leave_one_model_out", "leave_one_architecture_out", "vgg16"])
def test_no_model_that_is_forecast_was_trained_on(split: str) -> None:
    for fold in splits.SPLITS[split](KNOWN, 0):
        assert not set(fold.training.models) & set(fold.tested.models)
        if split == "leave_one_architecture_out":
            assert not set(fold.training.facts["architecture"]) & set(fold.tested.facts["architecture"])
        if split == "vgg16":
            assert set(fold.training.facts["architecture"]) == {"bert", "electra", "gpt2"}
            assert set(fold.tested.facts["architecture"]) == {"vgg16_bn"}


def test_models_are_relatives_through_a_parent_or_an_architecture() -> None:
    table = pd.DataFrame(
        {"architecture": ["bert", "bert", "electra", "fc2", "fc12"], "parent": ["p", None, "p", None, None]}
    )
    bert, sibling, electra, shallow, deep = splits.relatives(table)
    assert bert == sibling == electra != shallow == deep
