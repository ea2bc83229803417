"""On a device that refuses to be mixed with the processor, everything gives what it gives on the processor."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fake_device import fake_device
from prunecast.cost import energy, profile
from prunecast.effective_pruning.weight_scores import calibration_batches, weight_scores
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.inputs import Examples
from prunecast.pruning import schedules
from prunecast.pruning.finetuning import Budget, Retraining
from prunecast.pruning.structured import Removal
from prunecast.sweeps import axes, proxies, recalibration
from prunecast.sweeps.safe_search import search_safe
from prunecast.sweeps.sweeper import Sweeper, grid
from torch import Tensor, nn

BUDGET = Budget(epochs=1, examples=16, batch_size=8, learning_rate=1e-3, distilled=0.5, bfloat16=False)


def _curves(subject: TrainedModel) -> Any:
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", 0)
    exact, _ = sweeper.curve("magnitude", "global", grid(5), "exact")
    adaptive, _ = sweeper.curve("random", "layer", grid(21), "adaptive")
    return pd.concat([exact, adaptive])


def _search(subject: TrainedModel) -> Any:
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", 0)
    with sweeper.masked_evaluation("magnitude", "layer", grid(21)[:-1]) as (evaluate, _, _):
        return search_safe(evaluate, 20, len(subject.examples), 0.05, 10)


def _readings(subject: TrainedModel) -> Any:
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", 0)
    points, _ = sweeper.curve("magnitude", "global", grid(3), "exact")
    both = pd.concat([points, points.assign(scope="layer")])
    read = axes.read_on_axes(subject.weights, both, grid(3))
    return axes.check_reading(subject.model, subject.weights, subject.examples, read, "sigma", [0.5])


def _scores(subject: TrainedModel) -> Any:
    names = ("magnitude", "random", "taylor", "saliency", "wanda")
    scores = weight_scores(names, subject.model, subject.weights, lambda: calibration_batches(subject), 0)
    return pd.DataFrame({name: {layer: float(each.sum()) for layer, each in scores[name].items()} for name in names})


def _masked(subject: TrainedModel) -> Any:
    weights = copy.deepcopy(subject.model).get_parameter(next(iter(subject.weights)))
    weights.grad = torch.ones_like(weights)
    schedules.apply({"layer": weights}, 0.3, "layer")
    return [
        float(weights.detach().abs().sum()),
        int(schedules.regrown({"layer": weights}, 0.5, "layer", 0.2)["layer"].sum()),
    ]


def _retrained_from(subject: TrainedModel) -> Any:
    work = Retraining(subject, BUDGET, Removal(0.0, 0.5, 0, "magnitude"))
    return [float(sum(weight.detach().abs().sum() for weight in work.start.parameters())), float(work.targets.sum())]


def _costs(subject: TrainedModel) -> Any:
    inputs = {2: profile.inputs_of(subject.examples, 2)}
    meter = energy.Meter("none", "")
    rows = profile.costs({"dense": subject.model}, inputs, 1, meter, "a device", window_s=0.01)
    return rows[["flops_dense", "flops_effective", "parameters"]]


WORK: dict[str, Callable[[TrainedModel], Any]] = {
    "curves": _curves,
    "search": _search,
    "readings": _readings,
    "proxies": lambda subject: proxies.measure(subject, 11, 8)["signals"],
    "scores": _scores,
    "schedules": _masked,
    "start of fine-tuning": _retrained_from,
    "costs": _costs,
}


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_inputs_and_model_stay_together(work: Callable[[TrainedModel], Any], subject: TrainedModel) -> None:
    expected = work(subject)
    with fake_device() as device:
        found = work(replace(subject, model=copy.deepcopy(subject.model).to(device)))
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
    elif isinstance(expected, list):
        assert found == pytest.approx(expected, rel=1e-4)
    else:
        assert found == expected


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixel_values: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.layer(pixel_values))
        return normalised


def test_a_network_is_recalibrated_where_it_is() -> None:
    here, images = Normalised().eval(), torch.randn(200, 3, 8, 8)
    examples = Examples(images, None, torch.zeros(200, dtype=torch.long))
    there = copy.deepcopy(here)
    recalibration.recalibrate(here, examples)
    with fake_device() as device:
        recalibration.recalibrate(there.to(device), examples)
        found = [there.norm.running_mean, there.norm.running_var]
        statistics = [each.cpu().numpy() for each in found if each is not None]
    for name, values in zip(("running_mean", "running_var"), statistics, strict=True):
        np.testing.assert_allclose(values, getattr(here.norm, name).numpy(), rtol=1e-5)
