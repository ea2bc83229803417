import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from prunecast import __version__
from prunecast.forecasting import report
from prunecast.forecasting.predict import Prediction
from prunecast.sweeps.adaptive import Safe

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


def test_the_measured_ratio_is_said_with_what_it_cost_and_where_it_is_saved() -> None:
    found = report.measured("layer", 0.5, Safe(50, 0.94, 180), 90, 3.0, "/somewhere")
    assert list(report.lines_of(found, 0.01)) == [
        "measured in layer scope: prune 50%, accuracy 0.940; one per cent more loses more than 0.01",
        "cost 2.0 evaluations of all examples, 3.0 s",
        "saved to /somewhere",
    ]
    most = report.measured("layer", 0.99, Safe(99, 0.94, 180), 90, 3.0, None)
    assert next(report.lines_of(most, 0.01)).endswith("prune 99%, accuracy 0.940; no higher one is tried")
    none = report.measured("global", 0.0, Safe(0, 0.95, 90), 90, 3.0, "/somewhere")
    first, _, last = report.lines_of(none, 0.01)
    assert "no ratio is safe, one per cent already loses more than 0.01" in first
    assert last == "saved to /somewhere, without pruning"
    assert len(list(report.lines_of(report.measured("layer", 0.5, Safe(50, 0.94, 180), 90, 3.0, None), 0.01))) == 2


def test_the_document_has_a_format_and_all_that_the_text_says() -> None:
    found = report.measured("layer", 0.5, Safe(50, 0.94, 180), 90, 3.0, None)
    content = json.loads(report.document(SUBJECT, PREDICTION, 0.01, found))
    assert content["format"] == 1
    assert content["prunecast"] == __version__
    assert (content["dense_accuracy"], content["majority_accuracy"], content["examples"]) == (0.95, 0.4, 90)
    assert content["classes"] == ["warm", "cold"]
    assert content["curve"][50] == {"scope": "layer", "sparsity": 0.5, "predicted": 1.0, "lower": 1.0, "upper": 1.0}
    assert content["recommended"] == {"layer": 0.41}
    assert content["measured"] == {
        "scope": "layer", "ratio": 0.5, "accuracy": 0.94, "evaluations": 2.0, "seconds": 3.0, "saved": None
    }  # fmt: skip
    assert content["notes"] == ["all 90 examples"]
    assert content["warnings"] == ["layers is 99"]
    assert json.loads(report.document(SUBJECT, PREDICTION, 0.01, None))["measured"] is None


def test_a_document_never_holds_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.document(SUBJECT, Prediction(math.nan, CURVE, {"layer": 0.41}, [], 1.5), 0.01, None)
