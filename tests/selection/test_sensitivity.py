"""What units lose when they alone are pruned, against masks and evaluations made by hand."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast import tables
from prunecast.errors import UserError
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import logits
from prunecast.models.inputs import Examples, batch_of
from prunecast.networks.vision import ImageClassifier
from prunecast.selection.sensitivity import Sensitivity, measure, within
from prunecast.selection.sensitivity_report import document, draw, lines
from prunecast.sweeps.proxies import sample
from torch import Tensor, nn

SIZE = 20
RATIOS = [0.5, 0.95, 0.975]


class Toy(nn.Module):
    """Nothing reads the layer `dead`; the weights of the layer `essential` are a diagonal of growing size."""

    def __init__(self) -> None:
        super().__init__()
        self.dead, self.essential, self.output = (nn.Linear(SIZE, SIZE, bias=False) for _ in range(3))
        self.essential.weight.data = torch.diag(torch.arange(1.0, SIZE + 1))
        self.output.weight.data = torch.eye(SIZE)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"logits": self.output(self.essential(pixel_values)) + 0 * self.dead(pixel_values)}


@pytest.fixture
def toy(subject: TrainedModel) -> TrainedModel:
    """Example i has input i at one, the others at zero, and label i."""
    examples = Examples(torch.eye(SIZE), None, torch.arange(SIZE))
    task = replace(subject.task, label_names=tuple(map(str, range(SIZE))))
    return replace(subject, name="toy", model=Toy(), task=task, examples=examples)


@pytest.fixture(scope="module")
def found(subject: TrainedModel) -> Sensitivity:
    """The small text model, with a forecast on a third of the examples."""
    return measure(subject, logits(subject.model, subject.examples), (0.3, 0.7, 0.9), sampled=30)


def test_a_dead_layer_loses_nothing_and_an_essential_one_what_its_weights_say(toy: TrainedModel) -> None:
    """Of 400 weights 20 are not zero, each of them one example; an example without logits is of class 0."""
    found = measure(toy, logits(toy.model, toy.examples), RATIOS)
    by_unit = found.rows.set_index(["unit", "ratio"])
    assert found.dense_accuracy == 1
    assert (by_unit.loc["dead", ["lost", "forecast"]] == 0).all(axis=None)
    assert by_unit.loc["essential", "lost"].to_list() == pytest.approx([0, 0, 9 / SIZE])
    assert by_unit.loc["essential", "agreement"].to_list() == pytest.approx([1, 1, 1 - 9 / SIZE])
    units = within(found.rows, 0.01).set_index("unit")
    assert units["measured"].to_dict() == {"dead": 0.975, "essential": 0.95}
    assert units["share"].to_dict() == {"dead": 0.5, "essential": 0.5}
    assert found.evaluations == 2 * len(RATIOS)


def test_losses_and_forecasts_are_those_of_masks_made_by_hand(subject: TrainedModel, found: Sensitivity) -> None:
    """Each matrix of a unit masked in a copy, which answers one text at a time."""
    examples, rows = subject.examples, sample(subject.examples, 30, subject.seed)

    def answers(model: nn.Module) -> Tensor:
        with torch.inference_mode():
            each = [model(**batch_of(examples, torch.tensor([row]), "cpu"))["logits"] for row in range(len(examples))]
        return torch.cat(each).double()

    dense = answers(subject.model)
    block = "bert.encoder.layer.0."
    parts = {
        f"{block}attention": [f"attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense")],
        block[:-1]: ["intermediate.dense", "output.dense"],
    }
    for unit, own in found.rows[found.rows["unit"].isin(parts)].groupby("unit"):
        for row in own.itertuples():
            copy = deepcopy(subject.model)
            for part in parts[str(unit)]:
                weight = copy.get_submodule(block + part).weight.data
                count = round(row.ratio * weight.numel())
                weight.mul_(weight.abs() > weight.abs().flatten().kthvalue(count)[0])
            pruned = answers(copy)
            right = [(each.argmax(1) == examples.labels).double().mean() for each in (dense, pruned)]
            assert row.lost == pytest.approx(float(right[0] - right[1]))
            here, there = dense[rows].argmax(1), pruned[rows].argmax(1)
            assert row.agreement == pytest.approx(float((here == there).double().mean()))
            probabilities = dense[rows].softmax(1).numpy()
            expected = probabilities[range(30), here] - probabilities[range(30), there]
            assert row.forecast == pytest.approx(expected.mean(), abs=1e-6)
    assert found.rows["lost"].max() > 0.1


def test_weights_and_statistics_are_restored_bit_for_bit(subject: TrainedModel) -> None:
    torch.manual_seed(0)
    images = Examples(torch.randn(8, 3, 32, 32), None, torch.arange(8) % 3)
    model = ImageClassifier("preresnet8_16", 3, (3, 32, 32)).eval()
    before = deepcopy(model.state_dict())
    task = replace(subject.task, label_names=("a", "b", "c"))
    residual = replace(subject, model=model, task=task, examples=images, recalibrate_on=images)
    measure(residual, logits(model, images), (0.5, 0.9))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_forecast_alone_reads_no_label_and_is_the_same(subject: TrainedModel, found: Sensitivity) -> None:
    dense = logits(subject.model, subject.examples)
    wrong = replace(subject.examples, labels=(subject.examples.labels + 1) % 3)
    alone = measure(replace(subject, examples=wrong), dense, (0.3, 0.7, 0.9), sampled=30, whole=False)
    np.testing.assert_allclose(alone.rows["forecast"], found.rows["forecast"], atol=1e-6)
    assert alone.rows[["accuracy", "lost"]].isna().all(axis=None)
    assert alone.evaluations == 0
    assert alone.forecast_evaluations == pytest.approx(len(alone.rows) * 30 / len(wrong))
    units = within(alone.rows, 0.01)
    assert units["measured"].isna().all()
    assert "measured" not in "\n".join(lines(subject, alone, 0.01))
    assert json.loads(document(subject, alone, 0.01, []))["units"][0]["largest"]["measured"] is None


def test_the_largest_ratio_lies_below_the_first_that_loses_more() -> None:
    losses = {"steady": (0.0, 0.01, 0.02), "dips": (0.02, 0.0, 0.0), "none": (-0.01, 0.0, 0.01)}
    rows = pd.DataFrame(
        [
            {"unit": unit, "ratio": ratio, "lost": lost, "forecast": 0.0, "channel_ratio": ratio / 2}
            for unit, values in losses.items()
            for ratio, lost in zip((0.3, 0.5, 0.9), values, strict=True)
        ]
    ).assign(kind="layer", matrices=1, parameters=10, share=0.1, parts=4)
    units = within(rows, 0.01).set_index("unit")
    assert units["measured"].to_dict() == {"steady": 0.5, "dips": 0, "none": 0.9}
    assert units["channel_ratio"].to_dict() == {"steady": 0.25, "dips": 0, "none": 0.45}
    assert (units["forecast"] == 0.9).all()


def test_the_rows_keep_their_contract(found: Sensitivity) -> None:
    rows = tables.validate("sensitivity", found.rows)
    assert rows.groupby("unit")["share"].first().sum() == pytest.approx(1)


def test_the_document_and_the_text_say_the_same(subject: TrainedModel, found: Sensitivity) -> None:
    answer = json.loads(document(subject, found, 0.01, ["a note"]))
    assert (answer["format"], answer["notes"], answer["evaluations"]) == (1, ["a note"], len(found.rows))
    assert sum(unit["share"] for unit in answer["units"]) == pytest.approx(1)
    assert [one["ratio"] for one in answer["units"][0]["ratios"]] == [0.3, 0.7, 0.9]
    text = "\n".join(lines(subject, found, 0.01))
    for unit in answer["units"]:
        (row,) = [line for line in text.split("largest tested ratio")[1].splitlines() if f"{unit['unit']} " in line]
        assert f"{unit['largest']['measured']:.0%}" in row
        assert str(unit["parameters"]) in row
    assert f"cost {len(found.rows)} evaluations of all examples" in text


def test_a_ratio_or_figure_that_cannot_be_is_one_sentence(
    subject: TrainedModel, found: Sensitivity, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="ratios is 0.5, 1; each is a share of the weights, between 0 and 1"):
        measure(subject, logits(subject.model, subject.examples), (0.5, 1))
    with pytest.raises(UserError, match="epsilon is 2"):
        within(found.rows, 2)
    with pytest.raises(UserError, match=r"figure .* was not drawn: No such file"):
        draw(tmp_path / "none" / "f.svg", found, 0.01)
