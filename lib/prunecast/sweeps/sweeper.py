"""Sweeps of one model: pruned at many sparsities and measured, exactly or by the adaptive search."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from prunecast.models.evaluation import Outcome, Precision, evaluate
from prunecast.models.inputs import Examples
from prunecast.progress import track
from prunecast.pruning.criteria import CriterionName, criterion_called
from prunecast.pruning.masks import MAXIMUM, SCOPES, Scope, cut, pruned_counts, rank, sparsity
from prunecast.sweeps.adaptive import Evaluate, MeasuredCurve, Rows, adaptive, exact
from prunecast.sweeps.recalibration import ModelPruner

Engine = Literal["exact", "adaptive"]


def grid(points: int) -> list[float]:
    """Equally spaced percentile thresholds from 0 to 10, rounded to six decimals for legible tables.

    Args:
        points: Number of thresholds p.

    Returns:
        Thresholds (p), in tenths of the prunable weights.
    """
    return [round(float(threshold), 6) for threshold in np.linspace(0, MAXIMUM, points)]


def worth_measuring(criteria: Sequence[CriterionName]) -> list[tuple[CriterionName, Scope]]:
    """Pairs of criterion and scope whose curves differ.

    Random scores prune the same share of every layer in either scope, up to chance, so only their global curve is
    measured.

    Args:
        criteria: Names of pruning criteria.

    Returns:
        The pairs, in the order of `criteria`.
    """
    return [
        (criterion, scope)
        for criterion in criteria
        for scope in SCOPES
        if criterion == "magnitude" or scope == "global"
    ]


def name_of(criterion: CriterionName, scope: Scope) -> str:
    """Name of a model's curve, by which its evaluations are recorded and its audit is drawn."""
    return f"{criterion}, {scope}"


class Sweeper:
    """Measures pruning curves of one model; its prunable weights are changed meanwhile, and restored.

    The dense model and the one with all prunable weights at zero are the same under every criterion and in every
    scope: they are evaluated once. Memory beside the model and a batch: one copy of the prunable weights, and of their
    scores if these are random.

    With images to recalibrate on, running statistics of batch norms are taken anew over them at every point but the
    dense one, which keeps the model's own. They are restored at the end.

    Attributes:
        model: The classifier.
        weights: Its prunable weights, by name.
        examples: The n examples it is evaluated on.
        precision: Precision of the forward passes.
        seed: Seed of the random criterion and of the audit of the adaptive search.
        recalibrate_on: Unlabelled images to recalibrate on; None for none.
        total: Number of prunable weights.
        ends: Outcomes of all examples without and with all weights pruned, by the number of weights pruned.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: dict[str, Tensor],
        examples: Examples,
        precision: Precision,
        seed: int,
        recalibrate_on: Examples | None = None,
    ):
        self.model, self.weights, self.examples = model, weights, examples
        self.precision, self.seed, self.recalibrate_on = precision, seed, recalibrate_on
        self.total = sum(weight.numel() for weight in weights.values())
        self.ends: dict[int, Outcome] = {}

    def curve(
        self,
        criterion: CriterionName,
        scope: Scope,
        thresholds: Sequence[float],
        engine: Engine,
        wrap: Callable[[Evaluate], Evaluate] = lambda evaluate: evaluate,
    ) -> tuple[pd.DataFrame, MeasuredCurve]:
        """Measure one curve on the percentile axis.

        Args:
            criterion: Name of the pruning criterion.
            scope: Whether weights are ranked over all layers or in each layer.
            thresholds: Percentile thresholds (p), in tenths of the weights.
            engine: `exact`, or `adaptive` for the bracketing search.
            wrap: Applied to the function that evaluates, for instance to record outcomes in a journal.

        Returns:
            The points as a table with the columns criterion, scope, threshold, pruned (number of weights), sparsity
            and accuracy (fractions), loss (nats), evaluated (number of examples evaluated with this very mask); and
            the curve that the engine returned.

        Raises:
            UserError: If a threshold lies outside 0 to 10.
        """
        total = len(thresholds) if engine == "exact" else None
        with self.masked_evaluation(criterion, scope, thresholds, total) as (evaluate_at, pruned, shares):
            size = len(thresholds), len(self.examples)
            if engine == "exact":
                curve = exact(wrap(evaluate_at), *size)
            else:
                curve = adaptive(wrap(evaluate_at), *size, self.seed, name_of(criterion, scope))
        columns = {"threshold": thresholds, "pruned": pruned, "sparsity": shares}
        points = pd.DataFrame(columns).assign(criterion=criterion, scope=scope)
        return points.assign(accuracy=curve.accuracy, loss=curve.loss, evaluated=curve.evaluated), curve

    @contextmanager
    def masked_evaluation(
        self, criterion: CriterionName, scope: Scope, thresholds: Sequence[float], total: int | None = None
    ) -> Iterator[tuple[Evaluate, list[int], list[float]]]:
        """A context in which the model can be evaluated at any of some thresholds; its weights are restored at the end.

        Args:
            criterion: Name of the pruning criterion.
            scope: Whether weights are ranked over all layers or in each layer.
            thresholds: Percentile thresholds (p), in tenths of the weights.
            total: Number of evaluations to come, if known, for the progress bar.

        Yields:
            The function that evaluates at one of the thresholds, by its index, on some of the examples; the number of
            weights pruned at each threshold (p); and the sparsities (p), as fractions.

        Raises:
            UserError: If a threshold lies outside 0 to 10.
        """
        scores = criterion_called(criterion, self.seed)
        ranking = rank(self.weights, scores, scope)
        counts = [pruned_counts(ranking, "percentile", threshold) for threshold in thresholds]
        cuts, groups = [cut(ranking, count) for count in counts], ranking.groups
        pruned, shares = [sum(count.values()) for count in counts], [sparsity(ranking, count) for count in counts]
        del ranking  # before the weights are copied
        bar = track(label=f"sweeping {criterion}, {scope} scope", total=total)
        every = np.arange(len(self.examples))
        with bar, ModelPruner(self.model, self.weights, scores, groups, self.recalibrate_on) as pruner:

            def evaluate_at(point: int, rows: Rows) -> Outcome:
                bar.update()
                end = pruned[point] in (0, self.total) and np.array_equal(rows, every)
                if end and pruned[point] in self.ends:
                    return self.ends[pruned[point]]
                pruner.prune(cuts[point])
                outcome = evaluate(self.model, self.examples, torch.from_numpy(rows), self.precision)
                return self.ends.setdefault(pruned[point], outcome) if end else outcome

            yield evaluate_at, pruned, shares
