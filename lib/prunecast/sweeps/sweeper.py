"""Sweeps: one model pruned at many sparsities and measured, every example at every point or only where it matters."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from prunecast.models.evaluation import Examples, Outcome, Precision, evaluate
from prunecast.progress import track
from prunecast.pruning.criteria import CriterionName, criterion_called
from prunecast.pruning.masks import MAXIMUM, SCOPES, Pruner, Scope, cut, pruned_counts, rank, sparsity
from prunecast.sweeps.adaptive import Evaluate, MeasuredCurve, adaptive, exact

Engine = Literal["exact", "adaptive"]
ENGINES = {"exact": exact, "adaptive": adaptive}


def grid(points: int) -> list[float]:
    """`points` equally spaced thresholds from 0 to 10, rounded so that tables read well."""
    return [round(float(threshold), 6) for threshold in np.linspace(0, MAXIMUM, points)]


def worth_measuring(criteria: Sequence[CriterionName]) -> list[tuple[CriterionName, Scope]]:
    """Pairs of criterion and scope; random scores take the same share of every layer in either scope, up to chance."""
    return [
        (criterion, scope)
        for criterion in criteria
        for scope in SCOPES
        if criterion == "magnitude" or scope == "global"
    ]


class Sweeper:
    """Measures curves of one model, whose prunable `weights` it changes and gives back.

    The dense model and the one with nothing left are the same under every criterion and in every scope: they are
    evaluated once. Beside the model and a batch it holds one copy of the prunable weights.
    """

    def __init__(
        self, model: nn.Module, weights: dict[str, Tensor], examples: Examples, precision: Precision, seed: int
    ):
        self.model, self.weights, self.examples = model, weights, examples
        self.precision, self.seed = precision, seed
        self.total = sum(weight.numel() for weight in weights.values())
        self.ends: dict[int, Outcome] = {}

    def curve(
        self,
        criterion: CriterionName,
        scope: Scope,
        thresholds: Sequence[float],
        engine: Engine,
        keep: Callable[[Evaluate], Evaluate] = lambda look: look,
    ) -> tuple[pd.DataFrame, MeasuredCurve]:
        """Measure at percentile `thresholds`; `keep` wraps the function that looks, for instance by a journal.

        Returns the points as a table with the columns criterion, scope, threshold, pruned (weights), sparsity,
        accuracy, loss (nats), evaluated (examples looked at with this very mask), and the curve as the engine gave it.
        """
        total = len(thresholds) if engine == "exact" else None
        with self.looking(criterion, scope, thresholds, total) as (look, pruned, shares):
            found = ENGINES[engine](keep(look), len(thresholds), len(self.examples))
        columns = {"threshold": thresholds, "pruned": pruned, "sparsity": shares}
        points = pd.DataFrame(columns).assign(criterion=criterion, scope=scope)
        return points.assign(accuracy=found.accuracy, loss=found.loss, evaluated=found.evaluated), found

    @contextmanager
    def looking(
        self, criterion: CriterionName, scope: Scope, thresholds: Sequence[float], total: int | None = None
    ) -> Iterator[tuple[Evaluate, list[int], list[float]]]:
        """What looks at any of the p percentile `thresholds`, the weights each prunes (p,), and the sparsities (p,).

        The weights are given back at the end. Raises UserError for a threshold outside 0 to 10.
        """
        scores = criterion_called(criterion, self.seed)
        ranking = rank(self.weights, scores, scope)
        counts = [pruned_counts(ranking, "percentile", threshold) for threshold in thresholds]
        cuts, groups = [cut(ranking, count) for count in counts], ranking.groups
        pruned, shares = [sum(count.values()) for count in counts], [sparsity(ranking, count) for count in counts]
        del ranking  # before the weights are copied
        bar = track(label=f"sweeping {criterion}, {scope} scope", total=total)
        everyone = np.arange(len(self.examples))
        with bar, Pruner(self.weights, scores, groups) as pruner:

            def look(point: int, rows: np.ndarray) -> Outcome:
                bar.update()
                end = pruned[point] in (0, self.total) and np.array_equal(rows, everyone)
                if end and pruned[point] in self.ends:
                    return self.ends[pruned[point]]
                pruner.prune(cuts[point])
                found = evaluate(self.model, self.examples, torch.from_numpy(rows), self.precision)
                return self.ends.setdefault(pruned[point], found) if end else found

            yield look, pruned, shares
