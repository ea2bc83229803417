"""Effective model pruning beside its controls, as rows of `emp`: the same sparsity by magnitude and at random."""

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

Granularity = Literal["global", "layer", "row", "head", "node"]
SCOPE_OF_GRANULARITY: dict[Granularity, Scope] = {
    "global": "global",
    "layer": "layer",
    "row": "layer",  # of scores split into rows
    "head": "global",
    "node": "layer",
}
GRID = 100  # sparsities among which the measured optimum is sought
ROUNDING = 1e-9  # a loss of exactly epsilon is within it

Scores = Mapping[str, Tensor]
Masks = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """What is pruned and how it is judged.

    `under` leaves, inside its context, only the entries that masks in the shapes of the scores mark; `measure` gives
    the metric and the loss in nats. Accuracy is worse when lower, perplexity when higher. What is measured is kept in
    `folder` as long as the `fingerprint` of model and data is the same.
    """

    model: str
    dataset: str
    metric: Literal["accuracy", "perplexity"]
    under: Callable[[Masks], AbstractContextManager[None]]
    measure: Callable[[], tuple[float, float]]
    folder: Path
    fingerprint: str
    seed: int

    def judged(self, kept: Masks) -> tuple[float, float]:
        """Metric and loss with these entries alone."""
        with self.under(kept):
            return self.measure()

    def holds(self, metric: float, dense: float, epsilon: float) -> bool:
        """Whether a metric is within epsilon of the dense one: of accuracy absolutely, of perplexity relatively."""
        lost = dense - metric if self.metric == "accuracy" else metric / dense - 1
        return lost <= epsilon + ROUNDING


def compared(
    target: Case,
    by_criterion: Mapping[str, Scores],
    granularity: Granularity,
    betas: Sequence[float],
    epsilon: float,
    optima: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Rows of `emp`: for every criterion and beta, what the rule keeps, and the same counts by magnitude and at random.

    `by_criterion` must hold the magnitude. `optimum` is the largest sparsity, in hundredths, that the criterion reaches
    within `epsilon`: found by halving, or taken from `optima` by criterion where these are given.
    """
    by_criterion = {  # in single precision, as `masks.rank` sorts them: else controls at their cut keep one entry more
        criterion: {name: score.float() for name, score in scores.items()} for criterion, scores in by_criterion.items()
    }
    if "magnitude" not in by_criterion:
        raise UserError(f"the criteria are {', '.join(by_criterion)}; magnitude must be among them, as the control")
    magnitude = by_criterion["magnitude"]
    chance = {name: criteria.random(name, score, target.seed) for name, score in magnitude.items()}
    if granularity == "row":
        whole = target.under
        target = replace(target, under=lambda kept: whole(_joined(kept)))
        by_criterion = {criterion: _split(scores) for criterion, scores in by_criterion.items()}
        magnitude, chance = by_criterion["magnitude"], _split(chance)
    controls = {"magnitude": magnitude, "random": chance}
    rows = []
    for criterion, scores in track(list(by_criterion.items()), f"effective number, {target.model}, {granularity}"):
        measure = partial(_measured, target, criterion, scores, controls, granularity, betas, epsilon, optima)
        stages = ["evaluation", "effective_number"]
        key = key_of(stages, target.fingerprint, target.seed, list(scores), betas, epsilon, optima)
        path = target.folder / "effective" / f"{granularity}_{criterion}.json"
        rows += kept_row(path, key, measure)["rows"]
    return pd.DataFrame(rows)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `emp` for the eye, by model and by what was pruned; a beta of one is not named."""
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
    """Rows of `emp` judged by accuracy, by granularity and criterion: models, and means over them.

    `within epsilon`, `above magnitude` and `above chance` are shares of the rows, the last two at the same sparsity.
    """
    lost = rows["dense"] - rows["pruned"]
    told = rows.assign(
        lost=lost,
        **{"within epsilon": lost <= epsilon + ROUNDING},
        **{"above magnitude": rows["pruned"] > rows["magnitude_at_same_sparsity"]},
        **{"above chance": rows["pruned"] > rows["random_at_same_sparsity"]},
    )
    groups = told.groupby(["granularity", "criterion"], sort=False)
    columns = ["sparsity", "optimum", "lost", "within epsilon", "above magnitude", "above chance"]
    return groups["model"].nunique().to_frame("models").join(groups[columns].mean())


def _measured(
    target: Case,
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
    dense, dense_loss = target.measure()
    best = _optimum(target, scores, scope, dense, epsilon) if optima is None else optima.get(criterion, float("nan"))
    rows = []
    for beta in betas:
        found, cuts = effective_number.cuts(scores, _itself, scope, beta)
        kept = masks.masks(scores, _itself, masks.groups_of(scores, scope), cuts)
        metric, loss = target.judged(kept)
        gone = {group: what.entries - what.kept for group, what in found.items()}
        entries, keeps = (sum(getattr(what, name) for what in found.values()) for name in ("entries", "kept"))
        beside = {
            name: metric if name == criterion else _judged_without(target, control, rankings[name], gone)
            for name, control in controls.items()
        }
        rows.append(
            {"model": target.model, "dataset": target.dataset, "criterion": criterion, "granularity": granularity}
            | {"beta": beta, "entries": entries, "n_eff": sum(what.n_eff for what in found.values())}
            | {"kept": keeps, "sparsity": 1 - keeps / entries, "preserved": _preserved(scores, kept)}
            | {"metric": target.metric, "dense": dense, "pruned": metric}
            | {f"{name}_at_same_sparsity": value for name, value in beside.items()}
            | {"dense_loss": dense_loss, "pruned_loss": loss, "epsilon": epsilon, "optimum": best}
            | {"seed": target.seed}
        )
    return {"rows": rows}


def _judged_without(target: Case, scores: Scores, ranking: masks.Ranking, gone: masks.Counts) -> float:
    return target.judged(masks.masks(scores, _itself, ranking.groups, masks.cut(ranking, gone)))[0]


def _optimum(target: Case, scores: Scores, scope: Scope, dense: float, epsilon: float) -> float:
    ranking = masks.rank(scores, _itself, scope)
    low, high = 0, GRID
    while high - low > 1:
        middle = (low + high) // 2
        gone = {group: round(middle / GRID * size) for group, size in ranking.sizes.items()}
        holds = target.holds(_judged_without(target, scores, ranking, gone), dense, epsilon)
        low, high = (middle, high) if holds else (low, middle)
    sizes = ranking.sizes.values()
    return sum(round(low / GRID * size) for size in sizes) / sum(sizes)


def _itself(layer: str, score: Tensor) -> Tensor:
    return score


def _preserved(scores: Scores, kept: Masks) -> float:
    """Share of the sum of the scores that is kept."""
    total = sum(float(score.sum(dtype=torch.float64)) for score in scores.values())
    left = sum(float(scores[name][mask].sum(dtype=torch.float64)) for name, mask in kept.items())
    return min(left / total, 1.0)  # where only zeros go, sums of another order may differ by a rounding


def _split(scores: Scores) -> dict[str, Tensor]:
    return {f"{name}[{index}]": row for name, score in scores.items() for index, row in enumerate(score)}


def _joined(kept: Masks) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {}
    for name, mask in kept.items():
        rows.setdefault(name.rpartition("[")[0], []).append(mask)
    return {name: torch.stack(parts) for name, parts in rows.items()}
