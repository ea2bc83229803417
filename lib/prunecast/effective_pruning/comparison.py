"""Effective model pruning compared with its controls at the same sparsity, magnitude and random, as rows of `emp`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from prunecast.cache import kept_row, key_of
from prunecast.errors import UserError
from prunecast.progress import track
from prunecast.pruning import criteria, effective_number, masks
from prunecast.pruning.masks import Scope
from prunecast.sweeps.curve_metrics import within_epsilon

Granularity = Literal["global", "layer", "row", "head", "node"]
SCOPE_OF_GRANULARITY: dict[Granularity, Scope] = {
    "global": "global",
    "layer": "layer",
    "row": "layer",  # of scores split into rows
    "head": "global",
    "node": "layer",
}
GRID = 100  # sparsities among which the optimum is measured

Scores = Mapping[str, Tensor]
Masks = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A model to be pruned, and how it is evaluated.

    Attributes:
        model: Name of the model.
        dataset: Name of the data that it is evaluated on.
        metric: Accuracy, a fraction, lower when worse; or perplexity, higher when worse.
        masked: Context in which only the entries that boolean masks mark, in the shapes of the scores, are left.
        measure: Measures the metric, and the loss in nats.
        folder: Where measurements are cached.
        fingerprint: Hash of model and data; cached measurements of another one are made again.
        seed: Seed of the random control.
    """

    model: str
    dataset: str
    metric: Literal["accuracy", "perplexity"]
    masked: Callable[[Masks], AbstractContextManager[None]]
    measure: Callable[[], tuple[float, float]]
    folder: Path
    fingerprint: str
    seed: int

    def evaluate(self, retained: Masks) -> tuple[float, float]:
        """Metric and loss, in nats, with the entries that boolean masks mark."""
        with self.masked(retained):
            return self.measure()

    def holds(self, metric: float, dense: float, epsilon: float) -> bool:
        """Whether a metric is within epsilon of the dense one, absolutely for accuracy, relatively for perplexity."""
        loss = dense - metric if self.metric == "accuracy" else metric / dense - 1
        return bool(within_epsilon(-loss, 0, epsilon))


def compare(
    case: Case,
    by_criterion: Mapping[str, Scores],
    granularity: Granularity,
    betas: Sequence[float],
    epsilon: float,
    optima: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Prune by the effective number under several criteria, and the same counts by magnitude and at random.

    Args:
        case: What is pruned; measurements are cached in its folder, a file for each criterion.
        by_criterion: Nonnegative scores by criterion and layer, in the shapes of its masks; magnitude must be included.
        granularity: Groups of entries whose scores are compared with each other.
        betas: Factors of the effective number.
        epsilon: Loss that is accepted: of accuracy as a fraction, of perplexity relative to the dense one.
        optima: Measured optima by criterion, as sparsities; without them they are measured, from sparsity 0 upwards.

    Returns:
        Rows of the table `emp`, one for each criterion and beta. `optimum` is the last sparsity, in hundredths,
        before the metric under the criterion first falls by more than epsilon.

    Raises:
        UserError: If magnitude is missing, a beta is not positive, or scores are not finite or all zero.

    Source: Wang et al. (2026), effective model pruning.
    """
    by_criterion = {  # in single precision, in which `masks.rank` sorts: else controls may retain one entry more
        criterion: {name: score.float() for name, score in scores.items()} for criterion, scores in by_criterion.items()
    }
    if "magnitude" not in by_criterion:
        raise UserError(f"the criteria are {', '.join(by_criterion)}; magnitude must be among them, as the control")
    magnitude = by_criterion["magnitude"]
    chance = {name: criteria.random(name, score, case.seed) for name, score in magnitude.items()}
    if granularity == "row":
        whole = case.masked
        case = replace(case, masked=lambda retained: whole(_joined(retained)))
        by_criterion = {criterion: _split(scores) for criterion, scores in by_criterion.items()}
        magnitude, chance = by_criterion["magnitude"], _split(chance)
    controls = {"magnitude": magnitude, "random": chance}
    rows = []
    for criterion, scores in track(list(by_criterion.items()), f"effective number, {case.model}, {granularity}"):
        measure = partial(_measure, case, criterion, scores, controls, granularity, betas, epsilon, optima)
        stages = ["evaluation", "effective_number"]
        key = key_of(stages, case.fingerprint, case.seed, list(scores), betas, epsilon, optima)
        path = case.folder / "effective" / f"{granularity}_{criterion}.json"
        rows += kept_row(path, key, measure)["rows"]
    return pd.DataFrame(rows)


def overview(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table `emp` with labels for readers.

    Args:
        rows: Rows of the table `emp`.

    Returns:
        Sparsities and metrics by model and by granularity, criterion and beta; a beta of one is not named.
    """
    columns = {
        "sparsity": "sparsity",
        "pruned": "pruned",
        "magnitude_at_same_sparsity": "by magnitude",
        "random_at_same_sparsity": "at random",
        "dense": "dense",
        "optimum": "optimum",
    }
    beta = rows["beta"].map(lambda beta: "" if beta == 1 else f", β {beta:g}")
    what = rows["granularity"] + ", " + rows["criterion"] + beta
    return rows.assign(what=what).set_index(["model", "what"])[list(columns)].rename(columns=columns)


def summary(rows: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Means over the rows of the table `emp` whose metric is accuracy.

    Args:
        rows: Such rows.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        By granularity and criterion: the number of models; the means of sparsity, optimum and accuracy lost; and the
        shares of the rows within epsilon, above magnitude and above chance at the same sparsity.
    """
    lost = rows["dense"] - rows["pruned"]
    compared = rows.assign(
        lost=lost,
        **{"within epsilon": within_epsilon(-lost, 0, epsilon)},
        **{"above magnitude": rows["pruned"] > rows["magnitude_at_same_sparsity"]},
        **{"above chance": rows["pruned"] > rows["random_at_same_sparsity"]},
    )
    groups = compared.groupby(["granularity", "criterion"], sort=False)
    columns = ["sparsity", "optimum", "lost", "within epsilon", "above magnitude", "above chance"]
    return groups["model"].nunique().to_frame("models").join(groups[columns].mean())


def _measure(
    case: Case,
    criterion: str,
    scores: Scores,
    controls: Mapping[str, Scores],
    granularity: Granularity,
    betas: Sequence[float],
    epsilon: float,
    optima: Mapping[str, float] | None,
) -> dict[str, Any]:
    scope = SCOPE_OF_GRANULARITY[granularity]
    rankings = {name: masks.rank(control, _itself, scope) for name, control in controls.items()}
    dense, dense_loss = case.measure()
    optimum = _optimum(case, scores, scope, dense, epsilon) if optima is None else optima.get(criterion, float("nan"))
    rows = []
    for beta in betas:
        groups, cuts = effective_number.cuts(scores, _itself, scope, beta)
        retained = masks.masks(scores, _itself, masks.groups_of(scores, scope), cuts)
        metric, loss = case.evaluate(retained)
        pruned = {name: group.entries - group.kept for name, group in groups.items()}
        entries, kept = (sum(getattr(group, name) for group in groups.values()) for name in ("entries", "kept"))
        at_same_sparsity = {
            name: metric if name == criterion else _metric_without(case, control, rankings[name], pruned)
            for name, control in controls.items()
        }
        rows.append(
            {"model": case.model, "dataset": case.dataset, "criterion": criterion, "granularity": granularity}
            | {"beta": beta, "entries": entries, "n_eff": sum(group.n_eff for group in groups.values())}
            | {"kept": kept, "sparsity": 1 - kept / entries, "preserved": _preserved(scores, retained)}
            | {"metric": case.metric, "dense": dense, "pruned": metric}
            | {f"{name}_at_same_sparsity": value for name, value in at_same_sparsity.items()}
            | {"dense_loss": dense_loss, "pruned_loss": loss, "epsilon": epsilon, "optimum": optimum}
            | {"seed": case.seed}
        )
    return {"rows": rows}


def _metric_without(case: Case, scores: Scores, ranking: masks.Ranking, pruned: masks.Counts) -> float:
    return case.evaluate(masks.masks(scores, _itself, ranking.groups, masks.cut(ranking, pruned)))[0]


def _optimum(case: Case, scores: Scores, scope: Scope, dense: float, epsilon: float) -> float:
    """Last sparsity, in hundredths, before the metric first falls by more than epsilon."""
    ranking = masks.rank(scores, _itself, scope)
    total, reached = sum(ranking.sizes.values()), 0
    for percent in range(1, GRID):
        pruned = {group: round(percent / GRID * size) for group, size in ranking.sizes.items()}
        if sum(pruned.values()) == reached:
            continue
        if not case.holds(_metric_without(case, scores, ranking, pruned), dense, epsilon):
            break
        reached = sum(pruned.values())
    return reached / total


def _itself(_layer: str, score: Tensor) -> Tensor:
    return score


def _preserved(scores: Scores, retained: Masks) -> float:
    """Share of the sum of the scores that is retained."""
    total = sum(float(score.sum(dtype=torch.float64)) for score in scores.values())
    left = sum(float(scores[name][mask].sum(dtype=torch.float64)) for name, mask in retained.items())
    return min(left / total, 1.0)  # where only zeros are pruned, sums in another order may differ by a rounding


def _split(scores: Scores) -> dict[str, Tensor]:
    return {f"{name}[{index}]": row for name, score in scores.items() for index, row in enumerate(score)}


def _joined(retained: Masks) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {}
    for name, mask in retained.items():
        rows.setdefault(name.rpartition("[")[0], []).append(mask)
    return {name: torch.stack(parts) for name, parts in rows.items()}
