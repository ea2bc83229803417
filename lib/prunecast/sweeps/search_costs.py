"""What searches for the largest safe ratio find and cost, replayed on the outcomes of an exact curve."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.models.evaluation import Outcome
from prunecast.seeding import generator
from prunecast.sweeps.curve_metrics import interval_over_groups, within_epsilon
from prunecast.sweeps.safe_search import Acceptable, confident, search_safe, within

EPSILON = 0.01  # loss of accuracy that is accepted
START = 0.7  # ratio that the search tests first, the same for every model: no forecast is used
BUDGETS = (0.25, 0.5, 1.0, 2.0)  # evaluations that a search may spend; and none
CONFIDENCES = (0.8, 0.9, 0.95)
SPLITS = 20  # divisions of the examples into two halves

COLUMNS = (
    "method", "confidence", "budget", "epsilon", "evaluations", "optimum", "recommended", "loss", "held_out",
    "criterion", "scope",
)  # fmt: skip

Booleans = NDArray[np.bool_]


def search_costs(outcomes: Sequence[Outcome], seed: int) -> pd.DataFrame:
    """Rows of the table `safe_searches` of one curve, without model, task, scope and seed.

    A search is replayed within each of the `BUDGETS` and without one, under the rule that the loss over the examples is
    at most `EPSILON`, and without a budget under each of the `CONFIDENCES`. Halving evaluates all examples half-way
    between the largest ratio found safe and the smallest found unsafe; a scan does so at every hundredth from below.

    Args:
        outcomes: Outcome of all examples at each point (p) of the percentile grid; the last one prunes all weights.
        seed: Seed of the divisions into halves.

    Returns:
        The rows; ratios and losses are fractions, costs are in evaluations of all examples beside the dense one.
    """
    correct = np.stack([outcome.correct.numpy() for outcome in outcomes])
    examples, points = correct.shape[1], len(outcomes) - 1  # a model without weights is not recommended
    by_loss = within(EPSILON, examples)
    optimum = _last_acceptable(correct[:-1], by_loss)

    def evaluate(point: int, rows: NDArray[np.intp]) -> Outcome:
        return outcomes[point].of(rows)

    def row(method: str, confidence: float | None, budget: float | None, point: int, spent: float) -> dict[str, Any]:
        accuracy = correct[[0, point]].mean(1)
        return {
            "method": method,
            "confidence": confidence,
            "budget": budget,
            "epsilon": EPSILON,
            "evaluations": spent,
            "optimum": optimum / points,
            "recommended": point / points,
            "loss": accuracy[0] - accuracy[1],
        }

    rows = []
    for budget in (*BUDGETS, None):
        found = search_safe(evaluate, points, examples, EPSILON, round(START * points), budget)
        rows.append(row("search", None, budget, found.point, found.evaluated / examples))
    for confidence in CONFIDENCES:
        rule = confident(EPSILON, examples, confidence)
        found = search_safe(evaluate, points, examples, EPSILON, round(START * points), None, rule)
        rows.append(row("search", confidence, None, found.point, found.evaluated / examples))
    rows += [row("halving", None, spent, point, spent) for spent, point in _halvings(correct[:-1])]
    rows.append(row("scan", None, None, optimum, min(optimum + 1, points - 1)))
    table = pd.DataFrame(rows)
    half = examples - examples // 2
    rules = {0.0: within(EPSILON, half)} | {each: confident(EPSILON, half, each) for each in CONFIDENCES}
    held_out = {confidence: _held_out(correct[:-1], rule, seed) for confidence, rule in rules.items()}
    exact = (table["method"] == "search") & table["budget"].isna()
    return table.assign(held_out=table["confidence"].astype(float).fillna(0).map(held_out).where(exact))


def summary(rows: pd.DataFrame, groups: NDArray[np.object_]) -> pd.DataFrame:
    """Mean cost and quality of each method and limit over curves.

    Args:
        rows: Rows of the table `safe_searches` (n).
        groups: Group of relatives of the model of each row (n,).

    Returns:
        By method, confidence and budget: `evaluations`; `unused`, the mean of the optimum less the ratio found, 0 where
        that is negative, with its 90 % interval over groups, `low` to `high`; `safe`, the share of the curves on which
        the loss is at most epsilon; `same`, the share on which the ratio is the optimum; and `held_out`.
    """
    unused = (rows["optimum"] - rows["recommended"]).clip(lower=0)
    marked = rows.assign(
        unused=unused,
        safe=within_epsilon(rows["epsilon"] - rows["loss"], 0, 0),
        same=np.isclose(rows["optimum"], rows["recommended"]),
        group=groups,
    )
    parts = {}
    for key, part in marked.groupby(["method", "confidence", "budget"], dropna=False):
        low, high = interval_over_groups(part["unused"], part["group"], 0)
        means = part[["evaluations", "unused", "safe", "same", "held_out"]].mean()
        parts[key] = {**means, "low": low, "high": high, "curves": len(part)}
    return pd.DataFrame(parts).T.rename_axis(["method", "confidence", "budget"])


def _last_acceptable(correct: Booleans, acceptable: Acceptable) -> int:
    """The last point (p) before the first one whose lost and gained examples are not acceptable."""
    lost, gained = (correct[0] & ~correct).sum(1), (correct & ~correct[0]).sum(1)
    fails = [not acceptable(*map(int, each)) for each in zip(lost, gained, strict=True)]
    return fails.index(True, 1) - 1 if any(fails[1:]) else len(correct) - 1


def _halvings(correct: Booleans) -> Iterator[tuple[float, int]]:
    """The number of evaluations and the largest point (p) found safe, after each step of a bisection."""
    low, high, spent = 0, len(correct), 0
    while high - low > 1:
        middle, spent = (low + high) // 2, spent + 1
        safe = within_epsilon(correct[middle].mean(), correct[0].mean(), EPSILON)
        low, high = (middle, high) if safe else (low, middle)
        yield float(spent), low


def _held_out(correct: Booleans, acceptable: Acceptable, seed: int) -> float:
    """Share of divisions of which the point found on one half loses at most `EPSILON` on the other."""
    draw, held = generator(seed, "halves"), []
    for _ in range(SPLITS):
        order = draw.permutation(correct.shape[1])
        one, other = np.array_split(order, 2)
        point = _last_acceptable(correct[:, one], acceptable)
        held.append(within_epsilon(correct[point, other].mean(), correct[0, other].mean(), EPSILON))
    return float(np.mean(held))
