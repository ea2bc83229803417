"""Schedules: when a network loses its weights while it is trained on, each a few lines on one loop.

- one_shot: everything at once, then training (Han et al., 2015, with one round).
- iterative: in rounds, each of which prunes the same share of the remaining weights, resets these to their first
  values and restarts the learning rate (Frankle and Carbin, 2019; Renda et al., 2020).
- gradual: a little at a time while training goes on, by a cubic law (Zhu and Gupta, 2017, equation 1).
- regrow: like gradual, and at each update some more weights are pruned and as many with the largest gradient are
  regrown (RigL: Evci et al., 2020; with gradual pruning: GraNet, Liu et al., 2021).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import TrainerCallback

from prunecast.pruning.criteria import Criterion, Weights, magnitude
from prunecast.pruning.masks import Scope, cut, masks, rank

ScheduleName = Literal["one_shot", "iterative", "gradual", "regrow"]
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)
ROUNDS = 3  # of the iterative schedule
UPDATES = 20  # of the masks, in the schedules that prune while they train
SETTLED = 0.7  # share of the training after which those prune no more
REGROWN = 0.3  # share of the kept weights that is exchanged at first

Masks = dict[str, Tensor]
Training = Callable[[float, list[TrainerCallback]], None]


class Schedule(BaseModel):
    """How sparse a network becomes, when, and in which scope.

    Attributes:
        name: One of `SCHEDULES`.
        sparsity: Share of the prunable weights that are zero at the end, from 0 to below 1.
        scope: Whether weights are compared across the whole model or within each layer.
    """

    model_config = ConfigDict(frozen=True)

    name: ScheduleName
    sparsity: float = Field(ge=0, lt=1)
    scope: Scope = "global"


def retrain(weights: Weights, schedule: Schedule, train: Training) -> None:
    """Prune weights in place, as a schedule says, while their model is trained on.

    Args:
        weights: Weights of the model by layer.
        schedule: The schedule; all spend the same training.
        train: Called with a share of the training budget and the callbacks of the Trainer, trains the model on for
            that share; the shares add up to one.

    Raises:
        UserError: The scope of the schedule is unknown.

    Source: the papers of the schedules, at the top of the module.
    """
    if schedule.name == "one_shot":
        train(1.0, [MaskCallback(weights, by_magnitude(weights, schedule.sparsity, schedule.scope))])
    elif schedule.name == "iterative":
        first = {name: weight.detach().clone() for name, weight in weights.items()}
        for turn in range(ROUNDS):
            kept = by_magnitude(weights, planned("iterative", turn / ROUNDS, schedule.sparsity), schedule.scope)
            _assign(weights, first)
            train(1 / ROUNDS, [MaskCallback(weights, kept)])
    else:
        train(1.0, [GradualMaskCallback(weights, schedule)])


def planned(name: ScheduleName, progress: float, sparsity: float) -> float:
    """Sparsity that a schedule has at some point of the training.

    Gradual and regrow prune fast at first and stop before the end.

    Args:
        name: One of `SCHEDULES`.
        progress: Share of the training that is done, from 0 to 1.
        sparsity: Sparsity at the end, from 0 to 1.

    Returns:
        Share of the prunable weights that are zero, from 0 to `sparsity`.

    Source: gradual and regrow: Zhu and Gupta (2017), "To Prune, or Not to Prune", equation 1. iterative: Frankle and
    Carbin (2019), "The Lottery Ticket Hypothesis", the same share of the remaining weights in every round.
    """
    if name == "one_shot":
        return sparsity
    if name == "iterative":
        turn = min(math.floor(progress * ROUNDS + 1e-9) + 1, ROUNDS)
        remaining: float = (1 - sparsity) ** (turn / ROUNDS)
        return 1 - remaining
    return sparsity * (1 - (1 - min(progress / SETTLED, 1)) ** 3)


def by_magnitude(weights: Weights, sparsity: float, scope: Scope) -> Masks:
    """Masks that set the weights of smallest magnitude to zero.

    Args:
        weights: Weights by layer, of any shape.
        sparsity: Share of each group to prune, from 0 to 1.
        scope: One of `masks.SCOPES`.

    Returns:
        Booleans by layer, in the shape of the weights, true where a weight stays.

    Raises:
        UserError: The scope is unknown.
    """
    return masks_by_score(weights, magnitude, sparsity, scope)


def apply(weights: Weights, sparsity: float, scope: Scope, criterion: Criterion = magnitude) -> None:
    """Set the weights of lowest score to zero, in place and permanently.

    Args:
        weights: Weights by layer, of any shape.
        sparsity: Share of each group to prune, from 0 to 1.
        scope: One of `masks.SCOPES`.
        criterion: From a layer's name and weights to scores in the shape of the weights.

    Raises:
        UserError: The scope is unknown.
    """
    with torch.no_grad():
        for name, mask in masks_by_score(weights, criterion, sparsity, scope).items():
            weights[name].mul_(mask)


def regrown(weights: Weights, sparsity: float, scope: Scope, exchanged: float) -> Masks:
    """Masks after an exchange of the kept weights of smallest magnitude for the pruned ones of largest gradient.

    Args:
        weights: Weights by layer, with their gradients.
        sparsity: Share of each group that is pruned, before and after the exchange.
        scope: One of `masks.SCOPES`.
        exchanged: Share of the kept weights to exchange, from 0 to 1.

    Returns:
        Booleans by layer, in the shape of the weights, true where a weight stays.

    Raises:
        UserError: The scope is unknown.

    Source: Evci et al. (2020), "Rigging the Lottery", section 3; Liu et al. (2021), "Sparse Training via Boosting
    Pruning Plasticity with Neuroregeneration".
    """
    survivors = by_magnitude(weights, 1 - (1 - sparsity) * (1 - exchanged), scope)

    def steepest(name: str, weight: Tensor) -> Tensor:
        gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        return torch.where(survivors[name], torch.inf, gradient.abs())

    return masks_by_score(weights, steepest, sparsity, scope)


def masks_by_score(weights: Weights, criterion: Criterion, sparsity: float, scope: Scope) -> Masks:
    """Masks that prune exactly a share of each group, lowest scores first.

    Args:
        weights: Weights by layer, of any shape.
        criterion: From a layer's name and weights to scores in the shape of the weights.
        sparsity: Share of each group to prune, from 0 to 1, rounded to whole weights.
        scope: One of `masks.SCOPES`.

    Returns:
        Booleans by layer, in the shape of the weights, true where a weight stays.

    Raises:
        UserError: The scope is unknown.
    """
    ranking = rank(weights, criterion, scope)
    counts = {group: round(sparsity * size) for group, size in ranking.sizes.items()}
    return masks(weights, criterion, ranking.groups, cut(ranking, counts))


class MaskCallback(TrainerCallback):
    """Sets pruned weights to zero, now and after every step of the optimiser.

    Attributes:
        weights: Weights of the model by layer.
        kept: Booleans by layer, in the shape of the weights, true where a weight stays.
    """

    def __init__(self, weights: Weights, kept: Masks):
        self.weights, self.kept = weights, kept
        self._apply()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Set to zero what the optimiser has changed."""
        self._apply()

    def _apply(self) -> None:
        with torch.no_grad():
            for name, mask in self.kept.items():
                self.weights[name].mul_(mask.to(self.weights[name].device))  # the Trainer may have moved them


class GradualMaskCallback(MaskCallback):
    """Prunes more and more weights while training goes on; under the schedule `regrow` it exchanges weights as well.

    Attributes:
        schedule: The schedule, gradual or regrow.

    Source: the share that is exchanged falls from `REGROWN` by the cosine of Evci et al. (2020), equation 1.
    """

    def __init__(self, weights: Weights, schedule: Schedule):
        super().__init__(weights, {})
        self.schedule = schedule

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Compute new masks at the steps of an update, while the gradients exist."""
        every = max(1, math.floor(state.max_steps * SETTLED / UPDATES))
        last = min(math.ceil(state.max_steps * SETTLED), state.max_steps - 1)
        if state.global_step == last:
            self._update(1.0)
        elif state.global_step < last and state.global_step % every == 0:
            self._update(state.global_step / state.max_steps)

    def _update(self, progress: float) -> None:
        name, scope = self.schedule.name, self.schedule.scope
        sparsity = planned(name, progress, self.schedule.sparsity)
        if name == "regrow" and progress < SETTLED:
            exchanged = REGROWN * (1 + math.cos(math.pi * progress / SETTLED)) / 2
            self.kept = regrown(self.weights, sparsity, scope, exchanged)
        else:
            self.kept = by_magnitude(self.weights, sparsity, scope)
        self._apply()


def _assign(weights: Weights, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])
