import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from prunecast import __version__
from prunecast.forecasting import report
from prunecast.forecasting.predict import Prediction
from prunecast.sweeps.curve_metrics import chance_within
from prunecast.sweeps.safe_search import Safe

CURVE = pd.DataFrame(
    {"scope": "layer", "threshold": np.arange(101) / 10, "sparsity": np.arange(101) / 100}
    | dict.fromkeys(("predicted", "lower", "upper"), 1.0)
)
PREDICTION = Prediction(0.95, CURVE, {"layer": 0.41}, ["layers is 99"], 1.5)
TASK = SimpleNamespace(name="colours", majority_accuracy=0.4, label_names=("warm", "cold"))
SUBJECT = SimpleNamespace(model=SimpleNamespace(name="tiny", task=TASK, examples=range(90)), notes=("all 90 examples",))


def test_the_text_says_the_curve_the_accuracies_the_warnings_and_the_ratio() -> None:
    curve, *lines = report.lines(SUBJECT, PREDICTION, 0.01)
    assert len(curve.splitlines()) == 1 + 11
    assert lines == [
        "dense accuracy 0.950, majority class 0.400",
        "forecast in 1.5 s",
        "warning: layers is 99",
        "recommended in layer scope: prune 41%, then measure; epsilon is 0.01",
    ]


def _measured(ratio: float, accuracy: float, evaluated: int, saved: str | None = None) -> report.Measured:
    safe = Safe(round(100 * ratio), accuracy, 2, 1, evaluated, measured=True, exact=True)
    return report.measured("layer", ratio, safe, 90, 0.01, 3.0, saved)


def test_the_measured_ratio_is_said_with_what_it_cost_and_where_it_is_saved() -> None:
    assert list(report.lines_of(_measured(0.5, 0.94, 180, "/somewhere"), 0.01)) == [
        "measured in layer scope: prune 50%, accuracy 0.940; one per cent more is not safe",
        f"the loss over the population is within 0.01 with probability {chance_within(2, 1, 90, 0.01):.2f}",
        "cost 2.0 evaluations of all examples, 3.0 s",
        "saved to /somewhere",
    ]
    most = next(report.lines_of(_measured(0.99, 0.94, 180), 0.01))
    assert most.endswith("prune 99%, accuracy 0.940; no higher one is tried")
    first, *_, last = report.lines_of(_measured(0.0, 0.95, 90, "/somewhere"), 0.01)
    assert "no ratio is safe, not even one per cent" in first
    assert last == "saved to /somewhere, without pruning"
    assert len(list(report.lines_of(_measured(0.5, 0.94, 180), 0.01))) == 3


def test_a_ratio_found_within_a_budget_is_not_said_to_be_measured() -> None:
    safe = Safe(50, 0.94, 2, 1, 45, measured=False, exact=False)
    first, second = report.lines_of(report.measured("layer", 0.5, safe, 90, 0.01, 3.0, None), 0.01)
    assert first.startswith("found in layer scope within the budget: prune 50%, accuracy about 0.940; not every")
    assert second == "cost 0.5 evaluations of all examples, 3.0 s"
    whole = replace(safe, measured=True)
    first, *_ = report.lines_of(report.measured("layer", 0.5, whole, 90, 0.01, 3.0, None), 0.01)
    assert first.endswith("prune 50%, accuracy 0.940; a higher ratio may be safe, beyond the budget")


def test_the_document_has_a_format_and_all_that_the_text_says() -> None:
    found = _measured(0.5, 0.94, 180)
    content = json.loads(report.document(SUBJECT, PREDICTION, 0.01, found))
    assert content["format"] == 1
    assert content["prunecast"] == __version__
    assert (content["dense_accuracy"], content["majority_accuracy"], content["examples"]) == (0.95, 0.4, 90)
    assert content["classes"] == ["warm", "cold"]
    assert content["curve"][50] == {"scope": "layer", "sparsity": 0.5, "predicted": 1.0, "lower": 1.0, "upper": 1.0}
    assert content["recommended"] == {"layer": 0.41}
    assert content["measured"] == {
        "scope": "layer", "ratio": 0.5, "accuracy": 0.94, "whole": True, "exact": True,
        "chance": chance_within(2, 1, 90, 0.01), "evaluations": 2.0, "seconds": 3.0, "saved": None
    }  # fmt: skip
    assert content["notes"] == ["all 90 examples"]
    assert content["warnings"] == ["layers is 99"]
    assert json.loads(report.document(SUBJECT, PREDICTION, 0.01, None))["measured"] is None


def test_a_document_never_holds_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.document(SUBJECT, Prediction(math.nan, CURVE, {"layer": 0.41}, [], 1.5), 0.01, None)
