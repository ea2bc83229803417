import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prunecast.loading import storage
from prunecast.models import training
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.pruning import schedules
from prunecast.pruning.finetuning import Budget, Retraining
from prunecast.pruning.masks import SCOPES, Scope
from prunecast.pruning.schedules import (
    SCHEDULES,
    SETTLED,
    MaskCallback,
    Schedule,
    ScheduleName,
    by_magnitude,
    planned,
    regrown,
    retrain,
)
from torch import Tensor, nn
from transformers import TrainerCallback

Tensors = Mapping[str, Tensor]
Shapes = list[tuple[int, int]]
SHAPES = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=4)
GROWING: tuple[ScheduleName, ...] = ("gradual", "regrow")
SPARSITIES = st.integers(0, 99).map(lambda per_cent: per_cent / 100)
STEPS = 24  # of the training whose steps are recorded


def _parameters(shapes: Shapes, seed: int = 0) -> dict[str, nn.Parameter]:
    choice = np.random.default_rng(seed)
    values = (torch.tensor(choice.normal(size=shape), dtype=torch.float32) for shape in shapes)
    return {f"layer{index}": nn.Parameter(value) for index, value in enumerate(values)}


def _groups(weights: Tensors, scope: Scope) -> list[list[str]]:
    return [list(weights)] if scope == "global" else [[name] for name in weights]


def _zeros(tensors: Tensors) -> int:
    return sum(int((tensor == 0).sum()) for tensor in tensors.values())


def _size(tensors: Tensors) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _joined(tensors: Tensors, names: Sequence[str]) -> Tensor:
    return torch.cat([tensors[name].detach().flatten() for name in names])


class _Recorder(TrainerCallback):
    """Records the masks and the numbers of zeros after every step of a training."""

    def __init__(self, weights: Tensors, callback: MaskCallback):
        self.weights, self.callback = weights, callback
        self.masks: list[Tensor] = []
        self.zeros: list[int] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        names = list(self.weights)
        kept = _joined(self.callback.kept, names)
        assert not _joined(self.weights, names)[~kept].any()
        self.masks.append(kept)
        self.zeros.append(_zeros(self.weights))


def _recorded(subject: TrainedModel, schedule: Schedule) -> tuple[Tensor, list[int], Tensors]:
    """The masks (steps, weights), the numbers of zeros (steps,) and the weights themselves of one real training."""
    model, tokenizer = deepcopy(subject.model), storage.load(subject.folder)[1]
    weights: Tensors = prunable_weights(model, 3)
    recorders: list[_Recorder] = []
    whole = subject.spec.model_copy(update={"epochs": STEPS / math.ceil(180 / 16)})

    def train(share: float, callbacks: list[TrainerCallback]) -> None:
        assert isinstance(callbacks[0], MaskCallback)
        recorders.append(_Recorder(weights, callbacks[0]))
        spec = whole.model_copy(update={"epochs": whole.epochs * share})
        training.train(model, tokenizer, subject.task.train, spec, 0, "recorded", None, [*callbacks, recorders[-1]])

    retrain(weights, schedule, train)
    masks = torch.stack([mask for recorder in recorders for mask in recorder.masks])
    return masks, [zeros for recorder in recorders for zeros in recorder.zeros], weights


@given(SHAPES, SPARSITIES, st.sampled_from(SCOPES))
def test_masks_prune_exactly_their_share_of_each_group_and_the_smallest_weights(
    shapes: Shapes, sparsity: float, scope: Scope
) -> None:
    weights = _parameters(shapes)
    kept = by_magnitude(weights, sparsity, scope)
    for names in _groups(weights, scope):
        stays, values = _joined(kept, names), _joined(weights, names).abs()
        assert int((~stays).sum()) == round(sparsity * len(values))
        assert not stays.any() or stays.all() or values[~stays].max() <= values[stays].min()


@given(st.sampled_from(GROWING), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.999))
def test_the_cubic_law_starts_at_zero_never_falls_and_settles_at_the_target(
    name: ScheduleName, one: float, two: float, sparsity: float
) -> None:
    early, late = sorted((one, two))
    assert planned(name, 0, sparsity) == 0
    assert 0 <= planned(name, early, sparsity) <= planned(name, late, sparsity) + 1e-12 <= sparsity + 2e-12
    if late >= SETTLED:
        assert planned(name, late, sparsity) == sparsity


@given(SPARSITIES, st.floats(0.05, 0.95))
def test_the_cubic_law_is_fast_at_first(sparsity: float, share: float) -> None:
    assert planned("gradual", share * SETTLED, sparsity) >= share * sparsity - 1e-12
    assert planned("gradual", SETTLED / 2, sparsity) == pytest.approx(7 / 8 * sparsity)


@given(st.sampled_from(SCHEDULES), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.999))
def test_no_planned_sparsity_falls_and_all_end_at_the_target(
    name: ScheduleName, one: float, two: float, sparsity: float
) -> None:
    early, late = (planned(name, progress, sparsity) for progress in sorted((one, two)))
    assert early <= late + 1e-12
    assert planned(name, 1, sparsity) == pytest.approx(sparsity)


@given(SHAPES, SPARSITIES, st.floats(0, 1), st.sampled_from(SCOPES))
def test_an_exchange_keeps_the_sparsity_and_regrows_the_weights_of_largest_gradient(
    shapes: Shapes, sparsity: float, exchanged: float, scope: Scope
) -> None:
    weights, slopes = _parameters(shapes), _parameters(shapes, seed=1)
    for name, weight in weights.items():
        weight.grad = slopes[name].detach()
    kept = regrown(weights, sparsity, scope, exchanged)
    survivors = by_magnitude(weights, 1 - (1 - sparsity) * (1 - exchanged), scope)
    for names in _groups(weights, scope):
        stays, slope = _joined(kept, names), _joined(slopes, names).abs()
        assert int((~stays).sum()) == round(sparsity * len(stays))
        back = stays & ~_joined(survivors, names)
        assert not back.any() or stays.all() or slope[back].min() >= slope[~stays].max()


def test_an_exchange_prunes_the_smallest_kept_weight_and_regrows_the_pruned_one_of_largest_gradient() -> None:
    weight = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, 0.1, 2.0, 3.0]))
    weight.grad = torch.tensor([0.5, -7.0, 1.0, 0.2, 9.0, 0.0])
    kept = regrown({"a": weight}, 0.5, "global", 1 / 3)["a"]
    assert kept.tolist() == [False, True, False, False, True, True]
    assert regrown({"a": weight}, 0.5, "global", 0.0)["a"].tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("scope", SCOPES)
def test_iterative_pruning_resets_the_remaining_weights_and_spends_the_whole_training(scope: Scope) -> None:
    weights, moved = _parameters([(20, 30), (40, 10)]), _parameters([(20, 30), (40, 10)], seed=1)
    first = {name: weight.detach().clone() for name, weight in weights.items()}
    shares: list[float] = []
    sparsities: list[float] = []
    before = {name: weight.abs() for name, weight in first.items()}

    def train(share: float, callbacks: list[Any]) -> None:
        sparsity = _zeros(weights) / _size(weights)
        for name, weight in weights.items():
            stays = weight != 0
            assert torch.equal(weight[stays], first[name][stays])
        for names in _groups(weights, scope):
            stays, scores = _joined(weights, names) != 0, _joined(before, names)
            assert scores[stays].min() >= scores[~stays].max()  # chosen by the values after training
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(moved[name])
        for callback in callbacks:
            callback.on_optimizer_step(None, None, None)
        before.update({name: weight.detach().abs().clone() for name, weight in weights.items()})
        shares.append(share)
        sparsities.append(sparsity)
        assert _zeros(weights) / _size(weights) == sparsity

    retrain(weights, Schedule(name="iterative", sparsity=0.9, scope=scope), train)
    assert sum(shares) == pytest.approx(1)
    left = 1 - np.array(sparsities)
    assert left[-1] == pytest.approx(0.1, abs=1e-9)
    assert left[1:] / left[:-1] == pytest.approx(np.full(len(left) - 1, left[0]), abs=2e-3)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", GROWING)
def test_sparsity_rises_by_the_cubic_law_while_a_network_is_trained(
    subject: TrainedModel, name: ScheduleName, scope: Scope
) -> None:
    masks, zeros, weights = _recorded(subject, Schedule(name=name, sparsity=0.8, scope=scope))
    pruned, size = (~masks).sum(1).tolist(), masks.shape[1]
    target = sum(round(0.8 * sum(weights[one].numel() for one in names)) for names in _groups(weights, scope))
    assert len(pruned) == STEPS
    assert pruned[0] == 0
    assert pruned == sorted(pruned)
    assert len(set(pruned)) > STEPS / 2
    for step, count in enumerate(pruned):
        assert count / size == pytest.approx(planned(name, step / STEPS, 0.8), abs=1e-3)
    assert set(pruned[math.ceil(SETTLED * STEPS) :]) == {target}
    assert zeros[-1] == target
    came_back = bool((masks[1:] & ~masks[:-1]).any())
    assert came_back == (name == "regrow")


@pytest.mark.parametrize("name", ["one_shot", "iterative"])
def test_pruned_weights_stay_at_zero_after_every_step(subject: TrainedModel, name: ScheduleName) -> None:
    masks, zeros, _ = _recorded(subject, Schedule(name=name, sparsity=0.8))
    assert zeros == (~masks).sum(1).tolist()
    plan = [planned(name, step / STEPS, 0.8) for step in range(STEPS)]
    assert [count / masks.shape[1] for count in zeros] == pytest.approx(plan, abs=1e-4)
    assert len(set(zeros)) == (1 if name == "one_shot" else schedules.ROUNDS)
    assert zeros[-1] == round(0.8 * masks.shape[1])


@pytest.mark.slow
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_ends_at_its_sparsity_to_the_weight(
    subject: TrainedModel, name: ScheduleName, scope: Scope
) -> None:
    budget = Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)
    model = Retraining(subject, budget).scheduled(Schedule(name=name, sparsity=0.77, scope=scope), seed=0)
    weights = prunable_weights(model, 3)
    for names in _groups(weights, scope):
        group = {layer: weights[layer] for layer in names}
        assert _zeros(group) == round(0.77 * _size(group))
    assert not model.training


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_however_short_the_training_the_sparsity_is_reached(
    subject: TrainedModel, name: ScheduleName, steps: int
) -> None:
    budget = Budget(epochs=1, examples=16 * steps, batch_size=16, learning_rate=2e-3, distilled=0, bfloat16=False)
    model = Retraining(subject, budget).scheduled(Schedule(name=name, sparsity=0.5), seed=0)
    weights = prunable_weights(model, 3)
    assert _zeros(weights) == round(0.5 * _size(weights))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"sparsity": 1}, "sparsity"), ({"sparsity": -0.1}, "sparsity"), ({"name": "lottery"}, "name")],
)
def test_an_invalid_schedule_is_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"1 validation error for Schedule\n{field}"):
        Schedule.model_validate({"name": "gradual", "sparsity": 0.5} | wrong)
