from typing import Any

import pytest
import torch
from prunecast.errors import UserError
from prunecast.landscape.optimisation import Recipe
from prunecast.landscape.temperature import Grid, from_hot_to_cold, grids, noise_scale, recipes, settings_of

BASE = Recipe(8, batch_size=32)
SETTINGS: dict[str, Any] = {
    "dense_seeds": 1, "retrain_seeds": 2, "depth": 8, "width": 2, "side": 8, "train_examples": 32,
    "compared_examples": 32, "eval_examples": 32, "dense": BASE, "retraining": BASE, "together": 4,
}  # fmt: skip


def test_epochs_are_one_training_that_is_stopped() -> None:
    assert recipes("epochs", [2, 8], BASE) == [(BASE, {2: 2, 8: 8})]


def test_batch_sizes_have_equal_numbers_of_steps() -> None:
    found = recipes("batch_size", [16, 64], BASE)
    assert [(recipe.batch_size, recipe.epochs, list(at)) for recipe, at in found] == [(16, 4, [4]), (64, 16, [16])]


def test_the_controls_change_the_learning_rate_alone() -> None:
    for kind, rates in (("epochs_constant_rate", [0.1] * 8), ("epochs_late_milestone", [0.1] * 6 + [0.01] * 2)):
        ((recipe, at),) = recipes(kind, [4, 8], BASE)  # type: ignore[arg-type]
        assert [recipe.rate_in(epoch) for epoch in range(8)] == pytest.approx(rates)
        assert at == {4: 4, 8: 8}


def test_a_larger_radius_is_hotter_and_all_else_colder_when_larger() -> None:
    assert from_hot_to_cold("rho", [0.1, 0.4, 0.1]) == [0.4, 0.1]
    assert from_hot_to_cold("batch_size", [64, 16]) == [16, 64]


def test_the_noise_scale_by_hand() -> None:
    state = {"0.weight": torch.full((2, 1, 3, 3), 0.5), "1.weight": torch.ones(2)}
    assert noise_scale(BASE, 8, state) == pytest.approx(0.001 / (32 * 0.1 * 0.25))


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        ("heat", [1, 2], "there is no temperature 'heat'"),
        ("epochs", [2, 9], "up to the 8 of the training, not 9"),
        ("epochs", [1.5, 2], "positive whole number"),
        ("batch_size", [0, 16], "positive whole number, not 0"),
        ("rho", [-0.1, 0.1], "positive number, not -0.1"),
        ("batch_size", [1, 16], "batch size 1 takes the steps of 8 epochs in less than half of one"),
    ],
)
def test_a_temperature_that_cannot_be_is_a_sentence(kind: Any, values: list[float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        recipes(kind, values, BASE)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temperatures": (2, 2)}, "two temperatures or more; epochs gives 1"),
        ({"densities": (0.5,)}, "two densities or more; densities gives 1"),
        ({"retrain_seeds": 1}, "retrain_seeds gives 1"),
        ({"dense_seeds": 0}, "dense_seeds of a grid is 1 or more, not 0"),
        ({"together": 0}, "together of a grid is 1 or more, not 0"),
        ({"compared_examples": 3}, "compared_examples of a grid is 4 or more, not 3"),
        ({"retraining": Recipe(0)}, "epochs of a training is a positive number, not 0"),
        ({"densities": (0.5, 1.5)}, "at most 1, not 1.5"),
        ({"densities": (0.5, "many")}, "'many' is none"),
    ],
)
def test_a_grid_that_shows_nothing_is_a_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Grid(**{"kind": "epochs", "temperatures": (2, 8), "densities": (0.1, 0.5)} | SETTINGS | change)


def test_a_study_has_a_grid_for_each_kind_with_values() -> None:
    found = grids({"epochs": [2, 8], "rho": [], "batch_size": [16, 32]}, [0.1, 0.2, 0.5], [0.1, 0.5], **SETTINGS)
    assert [(each.kind, len(each.densities)) for each in found] == [("epochs", 3), ("batch_size", 2)]
    with pytest.raises(UserError, match="needs values of epochs"):
        grids({"epochs": []}, [0.1, 0.5], [0.1, 0.5], **SETTINGS)


def test_the_lists_of_a_page_are_the_settings_of_a_grid() -> None:
    found = settings_of([1, 2], [8, 4], [8, 640, 600, 500], [16, 8, 32, 0.03, 5e-4], ["mirrored"])
    common = {"batch_size": 32, "learning_rate": 0.03, "weight_decay": 5e-4, "mirrored": True}
    assert (found["dense"], found["retraining"]) == (Recipe(16, **common), Recipe(8, **common))
    assert found["compared_examples"] == 600
    assert not found["bfloat16"]
    assert Grid(kind="epochs", temperatures=(2, 8), densities=(0.1, 0.5), **found).together == 32


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"network": [8]}, r"network is a list of 2 numbers, not \[8\]"),
        ({"training": [16, 8, 32, "fast", 0]}, "training is a list of 5 numbers"),
        ({"options": ["turned"]}, "no option 'turned'; there are mirrored, bfloat16"),
    ],
)
def test_lists_that_are_no_settings_are_a_sentence(change: dict[str, Any], sentence: str) -> None:
    good: dict[str, Any] = {"seeds": [1, 2], "network": [8, 4], "images": [8, 640, 600, 500]}
    with pytest.raises(UserError, match=sentence):
        settings_of(**good | {"training": [16, 8, 32, 0.03, 0], "options": []} | change)
