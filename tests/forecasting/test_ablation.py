import pytest
from curves_to_learn import KNOWN, mean_errors
from prunecast.forecasting import ablation
from prunecast.surrogates import benchmark
from prunecast.surrogates.features import AGREEMENT, input_names, inputs


@pytest.mark.slow
def test_curves_permuted_among_models_leave_the_lstm_no_skill() -> None:
    shuffled = ablation.permuted(KNOWN, 1)
    assert sorted(shuffled.retained[:, 20]) == pytest.approx(sorted(KNOWN.retained[:, 20]))
    rows = benchmark.forecast(shuffled, ("leave_one_model_out",), 0, {}, ("lstm", "mean_curve"))
    errors = mean_errors(rows)
    assert errors["lstm"] > 0.9 * errors["mean_curve"]


@pytest.mark.parametrize("groups", ablation.ABLATIONS.values(), ids=ablation.ABLATIONS)
def test_every_set_of_inputs_has_names_and_can_be_read(groups: tuple[str, ...]) -> None:
    assert inputs(KNOWN, groups).shape[-1] - (AGREEMENT in groups) == len(input_names(groups))
