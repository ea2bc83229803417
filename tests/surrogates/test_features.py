import pandas as pd
import pytest
from curves_to_learn import KNOWN
from prunecast.surrogates.features import (
    AGREEMENT,
    COLUMNS,
    CURVATURE,
    EFFECTIVE,
    FREE,
    KURTOSIS,
    curves_on,
    input_names,
    inputs,
    samples,
)


def test_inputs_have_names_and_costs() -> None:
    assert input_names((*FREE, AGREEMENT))[-1] == "agreement"
    assert inputs(KNOWN, FREE).shape == (*KNOWN.accuracy.shape, 8)
    assert inputs(KNOWN, (*FREE, EFFECTIVE)).shape[-1] == 8 + 3
    assert inputs(KNOWN, (*FREE, KURTOSIS)).shape[-1] == 8 + 1
    assert samples((*FREE, EFFECTIVE, KURTOSIS)) == 0
    assert samples([AGREEMENT]) == 8 * 22
    assert samples([CURVATURE]) == 32 * 3


def test_tables_become_curves_with_proxies_read_at_their_sparsity() -> None:
    sweeps = pd.DataFrame(
        {
            "model": ["b", "b", "a", "a"], "scope": "layer", "axis": "sigma", "threshold": [1.0, 0.0, 0.0, 1.0],
            "sparsity": [0.3, 0.0, 0.0, 0.4], "accuracy": [0.7, 0.8, 0.9, 0.6],
            "measured": [False, True, True, True],
        }
    )  # fmt: skip
    random = sweeps.assign(criterion="random", accuracy=0.1)
    sweeps = pd.concat([random, sweeps.assign(criterion="magnitude"), sweeps.assign(criterion="magnitude", model="c")])
    table = pd.DataFrame({"model": ["a", "b"], "dense_accuracy": [0.9, 0.8], "majority_accuracy": [0.1, 0.5]})
    steps = pd.DataFrame({"threshold": [0.0, 5.0, 10.0], "sparsity": [0.0, 0.5, 1.0], "scope": "layer"})
    signals = pd.concat([steps.assign(model=name, **dict.fromkeys(COLUMNS, steps["sparsity"])) for name in "ab"])
    curves = curves_on("sigma", sweeps, table, signals)
    assert curves.names == [("a", "layer"), ("b", "layer")]
    assert curves.accuracy.tolist() == [[0.9, 0.6], [0.8, 0.7]]
    assert curves.measured.tolist() == [[True, True], [True, False]]
    assert curves.exact.tolist() == [True, False]
    assert curves.majority[:, 0].tolist() == [0.1, 0.5]
    assert curves.signals[0, 1, 0] == pytest.approx(0.4)
