from pathlib import Path
from typing import Any

import pytest
from prunecast.errors import UserError
from prunecast.selection.space import Configuration, Space, space_of


@pytest.mark.parametrize(
    "space",
    [
        Space(ratios=(0.5, 0.9), heads=(0.0, 0.5), neurons=(0.0, 0.5), layers=(0,), trained_ratios=(0.9,)),
        Space(
            ratios=tuple(percent / 100 for percent in range(1, 100)),
            heads=(0.0, 0.25, 1 / 3, 0.5, 2 / 3),
            neurons=(0.0, 0.25, 1 / 3, 0.5, 2 / 3),
            layers=(0, 1, 2, 11),
            trained_ratios=(0.25, 0.5, 0.501),
        ),
    ],
)
def test_names_are_unique_and_valid_file_names(space: Space, tmp_path: Path) -> None:
    configurations = space.configurations()
    assert configurations[0] == Configuration(form="dense")
    names = [one.name for one in configurations]
    assert len(set(names)) == len(set(configurations)) == len(configurations)
    for name in names:
        (tmp_path / f"{name}.json").write_text("")
    assert len(list(tmp_path.iterdir())) == len(configurations)


@pytest.mark.parametrize("wrong", [{"ratio": 1}, {"ratio": -0.1}, {"form": "thin"}, {"schedule": "lottery"}])
def test_a_configuration_outside_the_ranges_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"for Configuration\n{next(iter(wrong))}"):
        Configuration(**{"form": "masked"} | wrong)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"form": "dense", "ratio": 0.5}, "a dense configuration is neither pruned nor fine-tuned"),
        ({"form": "dense", "schedule": "gradual"}, "a dense configuration is neither pruned nor fine-tuned"),
        ({"form": "masked", "heads": 0.5}, "a masked configuration removes no parts"),
        ({"form": "masked", "criterion": "random", "schedule": "gradual"}, "schedules prune by magnitude"),
    ],
)
def test_an_inconsistent_configuration_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Configuration(**wrong)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [({"ratios": [90]}, "ratios.0 is 90: input should be less than 1"), ({"heads": [1.0]}, "heads.0 is 1.0")],
)
def test_a_space_outside_the_ranges_is_refused_in_one_sentence(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        space_of(**{"ratios": [0.5], "heads": [0.0], "neurons": [0.0], "layers": [0]} | changed)
    assert "\n" not in str(refusal.value)


def test_a_multiple_is_part_of_a_name_only_where_it_is_not_one() -> None:
    removed = Configuration(form="removed", heads=0.5, neurons=0.5)
    assert removed.name == "removed magnitude heads-0.5 neurons-0.5 layers-0"
    rounded = removed.model_copy(update={"multiple": 8})
    assert rounded.name == "removed magnitude heads-0.5 neurons-0.5 layers-0 multiple-8"
    assert rounded.removal.multiple == 8
    with pytest.raises(ValueError, match="a masked configuration removes no parts"):
        Configuration(form="masked", multiple=8)


def test_a_space_rounds_neurons_wherever_some_are_removed() -> None:
    space = space_of(ratios=[], heads=[0.5], neurons=[0.0, 0.5], layers=[0], multiple=16)
    removed = [one for one in space.configurations() if one.form == "removed"]
    assert {(one.neurons, one.multiple) for one in removed} == {(0.0, 1), (0.5, 16)}
    with pytest.raises(UserError, match="multiple is 0: input should be greater than 0"):
        space_of(ratios=[], heads=[0.5], neurons=[0.5], layers=[0], multiple=0)
