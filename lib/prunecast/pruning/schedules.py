"""Schedules: when a network loses its weights while it is trained on, each a few lines on one loop.

one_shot   everything at once, then training (Han et al., 2015, with one round);
iterative  in rounds, each of which prunes the same share of what is left, gives the survivors their first values
           back and restarts the learning rate (Frankle and Carbin, 2019; Renda et al., 2020);
gradual    a little at a time while training goes on, by a cubic law (Zhu and Gupta, 2017, equation 1);
regrow     like gradual, and each time some more weights go and as many with the largest gradient come back (RigL:
           Evci et al., 2020; with gradual pruning: GraNet, Liu et al., 2021).
"""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from prunecast.pruning.criteria import Criterion, magnitude
from prunecast.pruning.masks import Scope, Weights, cut, masks, rank

from transformers import TrainerCallback  # isort: skip

ScheduleName = Literal["one_shot", "iterative", "gradual", "regrow"]
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)
ROUNDS = 3  # of the iterative schedule
UPDATES = 20  # of the masks, in the schedules that prune while they train
SETTLED = 0.7  # share of the training after which those prune no more
REGROWN = 0.3  # share of the kept weights that is exchanged at first

Masks = dict[str, Tensor]
Training = Callable[[float, list[TrainerCallback]], None]


class Schedule(BaseModel):
    """How sparse (`sparsity`, a fraction of the prunable weights) a network becomes, when, and in which scope."""

    model_config = ConfigDict(frozen=True)

    name: ScheduleName
    sparsity: float = Field(ge=0, lt=1)
    scope: Scope = "global"


def retrain(weights: dict[str, nn.Parameter], schedule: Schedule, train: Training) -> None:
    """Prune `weights` by layer in place while `train(share, callbacks)` trains their model on.

    All schedules spend the same training: the shares of the budget that `train` is asked for add up to one.
    """
    if schedule.name == "one_shot":
        train(1.0, [Held(weights, by_magnitude(weights, schedule.sparsity, schedule.scope))])
    elif schedule.name == "iterative":
        first = {name: weight.detach().clone() for name, weight in weights.items()}
        for turn in range(ROUNDS):
            kept = by_magnitude(weights, planned("iterative", turn / ROUNDS, schedule.sparsity), schedule.scope)
            _assign(weights, first)
            train(1 / ROUNDS, [Held(weights, kept)])
    else:
        train(1.0, [Growing(weights, schedule)])


def planned(name: ScheduleName, progress: float, sparsity: float) -> float:
    """Sparsity under a schedule at a share `progress` of the training, of the `sparsity` it aims at.

    Gradual and regrow are fast at first and settled before the end (Zhu and Gupta, 2017, equation 1).
    """
    if name == "one_shot":
        return sparsity
    if name == "iterative":
        turn = min(math.floor(progress * ROUNDS + 1e-9) + 1, ROUNDS)
        return 1 - (1 - sparsity) ** (turn / ROUNDS)
    return sparsity * (1 - (1 - min(progress / SETTLED, 1)) ** 3)


def by_magnitude(weights: Weights, sparsity: float, scope: Scope) -> Masks:
    """Masks by layer, true where a weight stays, that set the smallest share `sparsity` of each group to zero."""
    return lowest(weights, magnitude, sparsity, scope)


def apply(weights: Weights, sparsity: float, scope: Scope, criterion: Criterion = magnitude) -> None:
    """Set the share `sparsity` of lowest score to zero, in place and for good."""
    with torch.no_grad():
        for name, mask in lowest(weights, criterion, sparsity, scope).items():
            weights[name].mul_(mask)


def regrown(weights: Weights, sparsity: float, scope: Scope, exchanged: float) -> Masks:
    """Masks of the same sparsity, after a share `exchanged` of the kept weights gave way to those of steep gradient."""
    survivors = by_magnitude(weights, 1 - (1 - sparsity) * (1 - exchanged), scope)

    def steepest(name: str, weight: Tensor) -> Tensor:
        gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        return torch.where(survivors[name], torch.inf, gradient.abs())

    return lowest(weights, steepest, sparsity, scope)


def lowest(weights: Weights, criterion: Criterion, sparsity: float, scope: Scope) -> Masks:
    """Masks by layer, true where a weight stays, that prune exactly a share `sparsity` of each group by score."""
    ranking = rank(weights, criterion, scope)
    counts = {group: round(sparsity * size) for group, size in ranking.sizes.items()}
    return masks(weights, criterion, ranking.groups, cut(ranking, counts))


class Held(TrainerCallback):
    """Keeps pruned weights at zero after every step."""

    def __init__(self, weights: dict[str, nn.Parameter], kept: Masks):
        self.weights, self.kept = weights, kept
        self._apply()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Set to zero what the optimiser has moved."""
        self._apply()

    def _apply(self) -> None:
        with torch.no_grad():
            for name, mask in self.kept.items():
                self.weights[name].mul_(mask.to(self.weights[name].device))  # the Trainer may have moved them


class Growing(Held):
    """Prunes more and more while training goes on; with `regrow` it exchanges weights as well."""

    def __init__(self, weights: dict[str, nn.Parameter], schedule: Schedule):
        super().__init__(weights, {})
        self.schedule = schedule

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Cut new masks where it is time to, while the gradients are there."""
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


def _assign(weights: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])
